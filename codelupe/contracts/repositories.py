"""Repositories, where they come from, and the rules about them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol, runtime_checkable

from codelupe_events import Reason


@dataclass(frozen=True, kw_only=True)
class Repository:
    """A repository as its source describes it; ``external_id`` is the source's own stable id."""

    source: str
    external_id: str
    full_name: str
    url: str
    revision: str
    description: str | None = None
    language: str | None = None
    licence: str | None = None
    stars: int = 0
    forks: int = 0
    size_kib: int = 0
    topics: tuple[str, ...] = ()
    is_fork: bool = False
    is_archived: bool = False
    pushed_at: datetime | None = None

    @property
    def id(self) -> str:
        return f"{self.source}:{self.external_id}"


@runtime_checkable
class RepositorySource(Protocol):
    """Where repositories come from: GitHub, a folder, a package registry."""

    name: str

    def discover(self) -> AsyncIterator[Repository]:
        """Every repository that the source knows now; seen ones may come again, the crawler tells them apart."""
        ...


@runtime_checkable
class RepositoryRule(Protocol):
    """One reason to turn a repository down."""

    name: str

    def check(self, repository: Repository) -> Reason | None:
        """Why it is turned down, or None to let it pass."""
        ...
