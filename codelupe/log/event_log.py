"""Appending and reading."""

from __future__ import annotations

import re
import uuid
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import anyio
import asyncpg
import msgspec

from codelupe.errors import CodelupeError
from codelupe.log.records import Recorded, uuid7s
from codelupe.log.wakeups import Wakeups
from codelupe.postgres import Connection, Database
from codelupe.queries import load_queries
from codelupe_events import Event, encode, encode_all

SQL = load_queries("codelupe_sql", "log")
_PAGE = 1000
FEW = 16
"""Up to so many events go in by one statement, which tells their positions; more are worth a COPY."""
_ANSWER_SECONDS = 30
"""How long the database may take for the events of others before nobody waits for it any more."""
_COLUMNS = ("stream", "type", "version", "id", "data", "metadata")
_NUL = re.compile(rb"(?<!\\)(?:\\\\)*\\u0000")
"""As JSON writes it: an odd number of backslashes before the digits."""
MAX_EVENT_BYTES = 1_000_000
MAX_STREAM_BYTES = 1_000
"""An index row of Postgres holds 2,704 bytes, and a stream's name is in it with other columns."""


class EventRefused(CodelupeError):
    """The log will not take this event: too large, or with text that Postgres cannot hold."""

    code = "event-refused"


class StreamConflict(CodelupeError):
    """A stream does not stand where the appender expected it; nothing was appended."""

    code = "stream-conflict"


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
    """Where the event stands; ``duplicate`` if its key was known, then ``position`` is the earlier event's.

    ``position`` is None where more than :data:`FEW` events without keys went in by COPY, which does not tell.
    """

    position: int | None
    duplicate: bool = False


class EventLog:
    """The log in one database."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.wakeups = Wakeups(database)
        self._together = _Together(self.publish_all)

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
                self.wakeups.announce()
        else:
            async with self.database.transaction() as connection:
                appended = await self.append(connection, entries, expected=expected)
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


class _Together:
    """Appends what many callers bring at the same time in as few transactions as possible, without waiting for more.

    While one transaction is under way others gather; whoever has the next turn appends for all of them.
    """

    def __init__(self, publish_all: Callable[[Sequence[Entry]], Awaitable[list[Appended]]]) -> None:
        self._publish_all = publish_all
        self._turn = anyio.Lock(fast_acquire=True)
        self._gathered: list[_Waiting] = []

    async def append(self, entry: Entry) -> Appended:
        waiting = _Waiting(entry)
        self._gathered.append(waiting)
        async with self._turn:
            if not waiting.is_settled:
                batch, self._gathered = self._gathered[:FEW], self._gathered[FEW:]
                if batch == [waiting]:
                    return (await self._publish_all([entry]))[0]
                await self._append_all(batch)
        return waiting.result()

    async def _append_all(self, batch: Sequence[_Waiting]) -> None:
        """Whoever has the turn acts for others, too: cancelling him must not leave them in doubt."""
        try:
            with anyio.fail_after(_ANSWER_SECONDS, shield=True):
                appended = await self._publish_all([waiting.entry for waiting in batch])
        except EventRefused as error:
            if len(batch) == 1:
                batch[0].error = error
            else:
                for waiting in batch:
                    await self._append_all([waiting])
        except Exception as error:
            for waiting in batch:
                waiting.error = error
        else:
            for waiting, one in zip(batch, appended, strict=True):
                waiting.appended = one


@dataclass(eq=False)
class _Waiting:
    entry: Entry
    appended: Appended | None = None
    error: Exception | None = None

    @property
    def is_settled(self) -> bool:
        return self.appended is not None or self.error is not None

    def result(self) -> Appended:
        if self.error is not None:
            raise self.error
        assert self.appended is not None
        return self.appended


Row = tuple[str, str, int, uuid.UUID, str, str]
"""stream, type, version, id, data, metadata"""


def rows_of(entries: Sequence[Entry]) -> list[Row]:
    """What is to be inserted.

    Many are looked at together first, for this is what an append takes its time for; one by one only if one is unfit.

    Raises:
        EventRefused: one of the events is not fit for the log.
    """
    if not entries:
        return []
    events = [entry.event for entry in entries]
    streams = [event.stream() for event in events]
    try:
        datas = encode_all(events)
        metadatas = [msgspec.json.encode(entry.metadata).decode() if entry.metadata else "{}" for entry in entries]
        if not _are_fit(events, streams, [*datas, *metadatas]):
            _refuse_the_unfit(entries)
    except (UnicodeEncodeError, TypeError):
        _refuse_the_unfit(entries)
        raise
    names, versions = [type(event).__name__ for event in events], [event.version for event in events]
    return list(zip(streams, names, versions, uuid7s(len(events)), datas, metadatas, strict=True))


def columns_of(rows: Sequence[Row]) -> list[list[Any]]:
    """The same by columns, as arrays for a function in the database."""
    return [list(column) for column in zip(*rows, strict=True)] or [[] for _ in _COLUMNS]


def _are_fit(events: Sequence[Event], streams: Sequence[str], texts: Sequence[str]) -> bool:
    """Whether nothing needs a closer look; what is not ASCII has up to four times as many bytes."""
    all_streams, all_texts = "\n".join(streams), "\n".join(texts)
    return (
        all(kind.version >= 1 for kind in {type(event) for event in events})
        and all_streams.isascii()
        and "\0" not in all_streams
        and max(map(len, streams)) <= MAX_STREAM_BYTES
        and max(map(len, texts)) <= (MAX_EVENT_BYTES if all_texts.isascii() else MAX_EVENT_BYTES // 4)
        and not ("\\" in all_texts and "\\u0000" in all_texts)
    )


def _refuse_the_unfit(entries: Sequence[Entry]) -> None:
    for entry in entries:
        name = type(entry.event).__name__
        if type(entry.event).version < 1:
            raise EventRefused(f"{name} is not declared", hint="Decorate the class with codelupe_events.event().")
        _check_stream(name, entry.event.stream())
        check_text(name, partial(encode, entry.event))
        check_text(f"the metadata of {name}", partial(msgspec.json.encode, entry.metadata))


def _check_stream(name: str, stream: object) -> None:
    if not isinstance(stream, str):
        raise EventRefused(f"{name} names a stream that is no text but {type(stream).__name__}")
    size = len(stream.encode(errors="replace"))
    if size > MAX_STREAM_BYTES:
        raise EventRefused(
            f"{name} names a stream of {size:,} bytes; the limit is {MAX_STREAM_BYTES:,}",
            hint="Name streams by a short, stable id.",
        )
    if re.search("[\0\ud800-\udfff]", stream):
        raise EventRefused(
            f"{name} names a stream with a NUL character or a lone surrogate",
            hint="Name streams by a short, stable id.",
        )


def check_text(what: str, encoded: Callable[[], bytes]) -> bytes:
    """The JSON, if Postgres can hold it.

    Raises:
        EventRefused: it cannot.
    """
    try:
        data = encoded()
    except UnicodeEncodeError as error:
        raise EventRefused(f"{what} holds a lone surrogate: {error}", hint="Replace such characters first.") from error
    if len(data) > MAX_EVENT_BYTES:
        raise EventRefused(
            f"{what} has {len(data):,} bytes; the limit is {MAX_EVENT_BYTES:,}",
            hint="Put the data into a table and its key into the event.",
        )
    if _NUL.search(data):
        raise EventRefused(f"{what} holds a NUL character", hint="Remove it: Postgres text cannot hold one.")
    return data


async def _append_rows(connection: Connection, rows: Sequence[Row], keys: Sequence[uuid.UUID | None]) -> list[Appended]:
    if len(rows) == 1 and keys[0] is None:
        return [Appended(position=await connection.fetchval(SQL.append_one, *rows[0]))]
    if len(rows) <= FEW:
        found = await connection.fetch(SQL.append_few, *columns_of(rows), keys)
        return [Appended(position=row["position"], duplicate=row["duplicate"]) for row in found]
    if not any(keys):
        await connection.copy_records_to_table("events", records=rows, columns=_COLUMNS)
        return [Appended(position=None)] * len(rows)
    return await _append_many_keyed(connection, rows, keys)


async def _append_many_keyed(
    connection: Connection, rows: Sequence[Row], keys: Sequence[uuid.UUID | None]
) -> list[Appended]:
    reserved = await connection.fetch(SQL.reserve_positions, keys)
    appended = [Appended(position=row["position"], duplicate=row["duplicate"]) for row in reserved]
    fresh = [(one.position, *row) for one, row in zip(appended, rows, strict=True) if not one.duplicate]
    await connection.copy_records_to_table("events", records=fresh, columns=("position", *_COLUMNS))
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
    """What a known key kept out does not count."""
    known = Counter(row[0] for row, one in zip(rows, appended, strict=True) if one.duplicate and row[0] in expected)
    if known:
        await connection.execute(SQL.take_back_streams, list(known), list(known.values()))
