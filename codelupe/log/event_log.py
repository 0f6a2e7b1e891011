"""Appending and reading."""

from __future__ import annotations

import uuid
from collections import Counter
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any

import asyncpg

from codelupe.errors import CodelupeError
from codelupe.log.entries import COLUMNS, FEW, Appended, Entry, Row, StreamConflict, columns_of, rows_of
from codelupe.log.group_commit import GroupCommit
from codelupe.log.notifier import Notifier
from codelupe.log.records import Recorded
from codelupe.postgres import Connection, Database
from codelupe.postgres.queries import load_queries
from codelupe_events import Event

SQL = load_queries("codelupe_sql", "log")
_PAGE = 1000


class SequenceBehind(CodelupeError):
    """A sequence would draw what is taken, such as positions that lie before events or cursors."""

    code = "sequence-behind"


class EventLog:
    """The log in one database."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.notifier = Notifier(database)
        self._together = GroupCommit(self.publish_all)

    async def append(
        self, connection: Connection, entries: Sequence[Entry], *, expected: Mapping[str, int] | None = None
    ) -> list[Appended]:
        """Append within the caller's transaction, as its last statement: readers wait for its commit.

        ``expected`` gives streams the version that they must have: how many events were appended to them under an
        expectation before (0 for none). A stream needs all of its writers to give it.

        Raises:
            EventRefused: nothing was written.
            StreamConflict: another appender was faster; read the stream again and decide anew.
        """
        if not entries:
            return []
        rows = rows_of(entries)
        if expected is not None:
            await _advance(connection, rows, expected)
        appended = await _append_rows(connection, rows, [entry.key for entry in entries])
        if expected is not None:
            await _take_back(connection, rows, appended, expected)
        return appended

    async def publish(
        self, event: Event, *, key: uuid.UUID | None = None, metadata: Mapping[str, Any] | None = None
    ) -> Appended:
        """Append one event and wake the subscriptions; returns when it is committed.

        Events that come while others are being committed are appended together, in one transaction for all.

        Raises:
            EventRefused: it is not fit for the log.
        """
        return await self._together.append(Entry(event=event, key=key, metadata=metadata or {}))

    async def publish_all(
        self, entries: Sequence[Entry], *, expected: Mapping[str, int] | None = None
    ) -> list[Appended]:
        """Append the events in a transaction of their own, all or none, and wake the subscriptions.

        Raises:
            EventRefused, StreamConflict: as :meth:`append`.
        """
        if expected is None and (len(entries) <= FEW or not any(entry.key for entry in entries)):
            async with self.database.statement() as connection:  # one statement is a transaction of its own
                appended = await self.append(connection, entries)
                self.notifier.announce()
        else:
            async with self.database.transaction() as connection:
                appended = await self.append(connection, entries, expected=expected)
            self.notifier.announce()
        return appended

    async def high_water_mark(self) -> int:
        """Up to here no transaction still open can add an event."""
        return int(await self.database.fetchval(SQL.high_water_mark))

    async def head_position(self) -> int:
        """The highest position ever drawn."""
        return int(await self.database.fetchval(SQL.head_position))

    async def require_sequences(self) -> None:
        """Make sure that new positions come after all that were ever used, and new numbers of tasks likewise.

        Raises:
            SequenceBehind: they would not: what is appended would never be handed out.
        """
        if behind := await self.database.fetch(SQL.sequences_behind):
            found = ", ".join(
                f"the sequence {row['sequence']} stands at {row['drawn']:,}, but {row['taken']:,} is taken"
                for row in behind
            )
            statements = " ".join(f"{row['statement']};" for row in behind)
            raise SequenceBehind(
                f"{found}: a restored or replicated database may lack the values of its sequences",
                hint=f"Stop what appends, and mend it: {statements}",
            )

    async def read(self, *, after: int = 0, stream: str | None = None) -> AsyncIterator[Recorded]:
        """All events below the high-water mark in order, or those of one stream."""
        high_water_mark = await self.high_water_mark()
        while True:
            rows = await (
                self.database.fetch(SQL.read_all, after, high_water_mark, _PAGE)
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


async def _append_rows(connection: Connection, rows: Sequence[Row], keys: Sequence[uuid.UUID | None]) -> list[Appended]:
    if len(rows) == 1 and keys[0] is None:
        return [Appended(position=await connection.fetchval(SQL.append_one, *rows[0]))]
    if len(rows) <= FEW:
        found = await connection.fetch(SQL.append_few, *columns_of(rows), keys)
        return [Appended(position=row["position"], duplicate=row["duplicate"]) for row in found]
    if not any(keys):
        await connection.copy_records_to_table("events", records=rows, columns=COLUMNS)
        return [Appended(position=None)] * len(rows)
    return await _append_many_keyed(connection, rows, keys)


async def _append_many_keyed(
    connection: Connection, rows: Sequence[Row], keys: Sequence[uuid.UUID | None]
) -> list[Appended]:
    reserved = await connection.fetch(SQL.reserve_positions, keys)
    appended = [Appended(position=row["position"], duplicate=row["duplicate"]) for row in reserved]
    fresh = [(one.position, *row) for one, row in zip(appended, rows, strict=True) if not one.duplicate]
    await connection.copy_records_to_table("events", records=fresh, columns=("position", *COLUMNS))
    return appended


async def _advance(connection: Connection, rows: Sequence[Row], expected: Mapping[str, int]) -> None:
    added = Counter(row[0] for row in rows)
    streams = list(expected)
    advanced = await connection.fetch(
        SQL.advance_streams, streams, list(expected.values()), [added[stream] for stream in streams]
    )
    behind = set(streams) - {row["stream"] for row in advanced}
    if behind:
        found = {row["stream"]: row["version"] for row in await connection.fetch(SQL.stream_versions, list(behind))}
        stream = min(behind)
        raise StreamConflict(
            f"{stream} was expected at version {expected[stream]} and is at {found.get(stream, 0)}",
            hint="Read the stream again and decide anew.",
        )


async def _take_back(
    connection: Connection, rows: Sequence[Row], appended: Sequence[Appended], expected: Mapping[str, int]
) -> None:
    """Duplicates do not count towards the stream's version."""
    known = Counter(row[0] for row, one in zip(rows, appended, strict=True) if one.duplicate and row[0] in expected)
    if known:
        await connection.execute(SQL.take_back_streams, list(known), list(known.values()))
