"""Repositories, where they come from, and the rules about them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, fields
from datetime import datetime
from typing import Any, Protocol, TypeVar, runtime_checkable

import msgspec

from codelupe_events import Reason, RepoDescribed

D = TypeVar("D", bound=RepoDescribed)

_NOT_IN_EVENTS = ("external_id", "handle")


@dataclass(frozen=True, kw_only=True)
class Repository:
    """A repository as its source describes it; ``external_id`` is the source's own stable id.

    The other fields but ``handle`` are those of :class:`~codelupe_events.RepoDescribed`. The id has at most 900 bytes,
    and numbers are from 0 to what the table's columns hold: ``stars``, ``forks`` and ``watchers`` 31 bits, ``size_kib``
    63.
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
    default_branch: str | None = None
    created_at: datetime | None = None
    watchers: int | None = None
    is_template: bool = False
    is_mirror: bool = False
    is_disabled: bool = False
    terms: tuple[str, ...] = ()
    handle: str | None = None
    """What the source itself needs to ask for it again, if not the id; it is kept with the row and is in no event."""

    @property
    def id(self) -> str:
        return f"{self.source}:{self.external_id}"

    @classmethod
    def from_event(cls, event: RepoDescribed) -> Repository:
        """The repository that the event describes."""
        description = msgspec.structs.asdict(event)
        external_id = description.pop("repository_id").removeprefix(f"{event.source}:")
        return cls(external_id=external_id, **description)

    @classmethod
    def from_row(cls, row: Any) -> Repository:
        """The repository that a row of the table, a mapping of its columns, describes."""
        description = {each.name: row[each.name] for each in fields(cls) if each.name != "external_id"}
        lists = {name: tuple(value) for name, value in description.items() if isinstance(value, list)}
        return cls(external_id=row["id"].removeprefix(f"{row['source']}:"), **description | lists)

    def to_event(self, kind: type[D]) -> D:
        """The event of this kind that describes it.

        Raises:
            msgspec.ValidationError: a field has a value of the wrong type.
        """
        description = {name: value for name, value in vars(self).items() if name not in _NOT_IN_EVENTS}
        return msgspec.convert({"repository_id": self.id, **description}, kind)

    def to_row(self) -> dict[str, Any]:
        """What its source says, as a row of a table: values by column, among them the ``id``."""
        return {"id": self.id} | {name: value for name, value in vars(self).items() if name != "external_id"}


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
