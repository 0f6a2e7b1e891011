"""Appending and reading."""

from __future__ import annotations

import re
import uuid
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import asyncpg
import msgspec

from codelupe.errors import CodelupeError
from codelupe.log.records import Recorded, uuid7
from codelupe.log.wakeups import Wakeups
from codelupe.postgres import Connection, Database
from codelupe.queries import load_queries
from codelupe_events import Event, encode

SQL = load_queries("codelupe_sql", "log")
_PAGE = 1000
_NUL = re.compile(rb"(?<!\\)(?:\\\\)*\\u0000")
"""As JSON writes it: an odd number of backslashes before the digits."""
MAX_EVENT_BYTES = 1_000_000


class EventRefused(CodelupeError):
    """The log will not take this event: too large, or with text that Postgres cannot hold."""

    code = "event-refused"


@dataclass(frozen=True, kw_only=True)
class Entry:
    """An event about to be appended.

    ``key`` makes it idempotent: a second event with the same key is not written.
    """

    event: Event
    key: uuid.UUID | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Appended:
    """Where the event stands; ``duplicate`` if its key was known, then ``position`` is the earlier event's."""

    position: int
    duplicate: bool


class EventLog:
    """The log in one database."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.wakeups = Wakeups(database)

    async def append(self, connection: Connection, entries: Sequence[Entry]) -> list[Appended]:
        """Append within the caller's transaction, as its last statement: readers wait for its commit.

        Raises:
            EventRefused: nothing was written.
        """
        if not entries:
            return []
        rows = await connection.fetch(SQL.append, *_columns(entries))
        appended = [Appended(position=row["position"], duplicate=row["duplicate"]) for row in rows]
        if any(one.duplicate for one in appended):
            return await self._with_earlier_positions(connection, entries, appended)
        return appended

    async def publish(
        self, event: Event, *, key: uuid.UUID | None = None, metadata: Mapping[str, Any] | None = None
    ) -> Appended:
        """Append one event in a transaction of its own and wake the subscriptions."""
        async with self.database.transaction() as connection:
            [appended] = await self.append(connection, [Entry(event=event, key=key, metadata=metadata or {})])
        self.wakeups.announce()
        return appended

    async def settled_position(self) -> int:
        """Up to here no transaction still open can add an event."""
        return int(await self.database.fetchval(SQL.settled_position))

    async def head_position(self) -> int:
        """The highest position ever drawn."""
        return int(await self.database.fetchval(SQL.head_position))

    async def read(self, *, after: int = 0, stream: str | None = None) -> AsyncIterator[Recorded]:
        """All settled events in order, or those of one stream."""
        settled = await self.settled_position()
        while True:
            rows = await (
                self.database.fetch(SQL.read_all, after, settled, _PAGE)
                if stream is None
                else self.database.fetch(SQL.read_stream, stream, after, _PAGE)
            )
            for row in rows:
                yield Recorded.from_row(row)
            if len(rows) < _PAGE:
                return
            after = rows[-1]["position"]

    async def latest(self, *, after: int = 0, type_name: str | None = None, limit: int = 20) -> list[Recorded]:
        """The newest events, oldest first."""
        rows = await self.database.fetch(SQL.read_latest, after, type_name, limit)
        return [Recorded.from_row(row) for row in reversed(rows)]

    async def find(self, reference: str) -> Recorded | None:
        """The event with this position or id."""
        try:
            if reference.isdecimal():
                row = await self.database.fetchrow(SQL.event_at, int(reference))
            else:
                row = await self.database.fetchrow(SQL.event_by_id, uuid.UUID(reference))
        except (ValueError, asyncpg.DataError):
            return None
        return Recorded.from_row(row) if row else None

    async def _with_earlier_positions(
        self, connection: Connection, entries: Sequence[Entry], appended: Sequence[Appended]
    ) -> list[Appended]:
        keys = [entry.key for entry in entries if entry.key is not None]
        rows = await connection.fetch(SQL.earlier_positions, keys)
        positions = {row["key"]: row["position"] for row in rows}
        return [
            Appended(position=positions[entry.key], duplicate=True) if one.duplicate and entry.key else one
            for entry, one in zip(entries, appended, strict=True)
        ]


def _columns(entries: Sequence[Entry]) -> tuple[list[Any], ...]:
    return (
        [uuid7() for _ in entries],
        [entry.event.stream() for entry in entries],
        [type(entry.event).__name__ for entry in entries],
        [type(entry.event).version for entry in entries],
        [_data(entry.event) for entry in entries],
        [msgspec.json.encode(entry.metadata).decode() for entry in entries],
        [entry.key for entry in entries],
    )


def _data(event: Event) -> str:
    name = type(event).__name__
    if type(event).version < 1:
        raise EventRefused(f"{name} is not declared", hint="Decorate the class with codelupe_events.event().")
    try:
        data = encode(event)
    except UnicodeEncodeError as error:
        raise EventRefused(f"{name} holds a lone surrogate: {error}", hint="Replace such characters first.") from error
    if len(data) > MAX_EVENT_BYTES:
        raise EventRefused(
            f"{name} has {len(data):,} bytes; the limit is {MAX_EVENT_BYTES:,}",
            hint="Put the data into a table and its key into the event.",
        )
    if _NUL.search(data):
        raise EventRefused(f"{name} holds a NUL character", hint="Remove it: Postgres text cannot hold one.")
    return data.decode()
