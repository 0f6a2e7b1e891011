"""Repositories, where they come from, and the rules about them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any, Protocol, runtime_checkable

import msgspec

from codelupe_events import Reason, RepoDiscovered


@dataclass(frozen=True, kw_only=True)
class Repository:
    """A repository as its source describes it; ``external_id`` is the source's own stable id.

    The other fields are those of :class:`~codelupe_events.RepoDiscovered`. The id has at most 900 bytes, and numbers
    are from 0 to what the table's columns hold: ``stars`` and ``forks`` 31 bits, ``size_kib`` 63.
    """

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

    @classmethod
    def from_event(cls, event: RepoDiscovered) -> Repository:
        """The repository that the event describes."""
        description = msgspec.structs.asdict(event)
        external_id = description.pop("repository_id").removeprefix(f"{event.source}:")
        return cls(external_id=external_id, **description)

    def to_event(self) -> RepoDiscovered:
        """The event that it was found.

        Raises:
            msgspec.ValidationError: a field has a value of the wrong type.
        """
        return msgspec.convert({"repository_id": self.id, **self._description()}, RepoDiscovered)

    def to_row(self) -> dict[str, Any]:
        """What its source says, as a row of a table: values by column, among them the ``id``."""
        return {"id": self.id, **self._description()}

    def _description(self) -> dict[str, Any]:
        return {name: value for name, value in asdict(self).items() if name != "external_id"}


@runtime_checkable
class RepositorySource(Protocol):
    """Where repositories come from: GitHub, a folder, a package registry."""

    name: str

    def discover(self) -> AsyncIterator[Repository]:
        """Every repository that the source knows now; those known already may come again."""
        ...


@runtime_checkable
class RepositoryRule(Protocol):
    """One reason to turn a repository down."""

    name: str

    def check(self, repository: Repository) -> Reason | None:
        """Why it is turned down, or None to let it pass."""
        ...
