"""What the log says of repositories, as writes for an index."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import asyncpg

from codelupe import FOR_EVER, Database, EventLog, Repository, SearchDocument, load_queries
from codelupe_events import Event, RepoChanged, RepoDescribed, RepoDiscovered, RepoForgotten, RepoGone, decode_all

SQL = load_queries("codelupe_sql", "search")

EVENTS: tuple[type[Event], ...] = (RepoDiscovered, RepoChanged, RepoGone, RepoForgotten)
"""Those that an index follows."""
_PAGE = 1000
_BEFORE_THE_LOG = 0
"""The version of what is known from before the log's first event."""

Index = Callable[[Sequence[SearchDocument]], Awaitable[None]]
Remove = Callable[[Mapping[str, int]], Awaitable[None]]


@dataclass(frozen=True, kw_only=True)
class Changes:
    """The last word on each repository."""

    documents: dict[str, SearchDocument] = field(default_factory=dict)
    removals: dict[str, int] = field(default_factory=dict)
    """Versions by id."""

    @classmethod
    def of(cls, events: Iterable[tuple[int, Event]]) -> Changes:
        """What these events, each with its position and in their order, come to."""
        changes = cls()
        for position, event in events:
            match event:
                case RepoDescribed():
                    document = SearchDocument(repository=Repository.from_event(event), version=position)
                    changes.documents[event.repository_id] = document
                case RepoForgotten():
                    changes.removals[event.repository_id] = FOR_EVER
                case RepoGone():
                    changes.removals[event.repository_id] = max(position, changes.removals.get(event.repository_id, 0))
        return changes

    async def write(self, index: Index, remove: Remove) -> None:
        """Write them: each has its version, so that nothing hangs on the order."""
        if self.removals:
            await remove(self.removals)
        if self.documents:
            await index(list(self.documents.values()))


async def replay(database: Database, index: Index, remove: Remove, report: Callable[[int, int], None]) -> None:
    """Write everything that was recorded until now. ``report`` is told a position of the log, and the last one.

    What retention has taken out of the log is taken from the table of repositories. What is recorded from now on is
    for the subscription to write.
    """
    end = await EventLog(database).high_water_mark()
    start = await database.fetchval(SQL.log_start)
    if start:
        await _write_known(database, index, remove)
    position = max(start - 1, 0)
    types = [name for event in EVENTS for name in (event.__name__, *event.former_names)]
    while rows := await database.fetch(SQL.changes, position, end, types, _PAGE):
        position = rows[-1]["position"]
        await _changes_of(rows).write(index, remove)
        report(position, end)
    report(end, end)


def _changes_of(rows: Sequence[asyncpg.Record]) -> Changes:
    events = decode_all([(row["type"], row["version"], row["data"]) for row in rows])
    return Changes.of(zip([row["position"] for row in rows], events, strict=True))


async def _write_known(database: Database, index: Index, remove: Remove) -> None:
    last = ""
    while rows := await database.fetch(SQL.known_repositories, last, _PAGE):
        last = rows[-1]["id"]
        forgotten = {row["id"]: FOR_EVER for row in rows if row["state"] == "forgotten"}
        described = [_known(row) for row in rows if row["state"] not in ("forgotten", "gone")]
        await Changes(documents={one.repository.id: one for one in described}, removals=forgotten).write(index, remove)


def _known(row: asyncpg.Record) -> SearchDocument:
    values = dict(row)
    external_id = values.pop("id").removeprefix(f"{row['source']}:")
    del values["state"]
    repository = Repository(external_id=external_id, **{**values, "topics": tuple(values["topics"])})
    return SearchDocument(repository=repository, version=_BEFORE_THE_LOG)
