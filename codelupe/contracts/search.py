"""The index over discovered repositories."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from codelupe.contracts.repositories import Repository


@dataclass(frozen=True, kw_only=True)
class SearchHit:
    """A repository that matches a query; a higher ``rank`` matches better."""

    repository_id: str
    full_name: str
    description: str | None
    language: str | None
    stars: int
    rank: float


@runtime_checkable
class SearchIndex(Protocol):
    """The index over discovered repositories.

    One that is a service of its own raises ``RetryLater(reason, after=…, counts=False)`` while that is away: what was
    to be indexed waits for it.
    """

    name: str

    async def index(self, repositories: Sequence[Repository]) -> None:
        """Add or replace; doing it twice changes nothing."""
        ...

    async def remove(self, repository_ids: Sequence[str]) -> None:
        """Remove those of them that are there."""
        ...

    async def search(self, query: str, limit: int) -> list[SearchHit]:
        """The best matches for a query in the words of a web search (quotes, ``or``, ``-word``)."""
        ...
