"""Bare asyncpg on bare tables: rows ready to go, no gaps watched, no retries. Nothing built on it can be faster."""

from __future__ import annotations

import os
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, ClassVar, Self

import anyio
from asyncpg.pgproto.pgproto import UUID

from benchmarks.eventlog.databases import Connection, connected, vacuum
from benchmarks.eventlog.pace import Action, rate_of
from benchmarks.eventlog.payload import decoded, encoded, stream
from benchmarks.eventlog.system import HANDLERS, Closing, Seen
from codelupe.postgres.queries import load_queries

SQL = load_queries("benchmarks", "ceiling")
EFFECTS = load_queries("benchmarks", "effects")
_COLUMNS = ["stream", "type", "version", "id", "data", "metadata"]


class Ceiling(Closing):
    name: ClassVar[str] = "ceiling"

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self._connections: list[Connection] = []

    async def install(self) -> None:
        async with connected(self.url) as connection:
            await connection.execute(SQL.create)
            await connection.execute(EFFECTS.create_effects)

    async def __aenter__(self) -> Self:
        self._connections = [await self._stack.enter_async_context(connected(self.url)) for _ in range(HANDLERS)]
        return self

    async def append(self, size: int, connections: int, seconds: float) -> float:
        records = _records(size)

        def action(connection: Connection) -> Action:
            if size == 1:
                return lambda: connection.execute(SQL.insert_event, *records[0])
            return lambda: connection.copy_records_to_table("ceiling", records=records, columns=_COLUMNS)

        return size * await rate_of([action(one) for one in self._connections[:connections]], seconds)

    async def handle(self, count: int) -> float:
        await self._fill(count)
        await self._connections[0].execute(SQL.make_tasks)
        await vacuum(self.url)

        async def work(connection: Connection) -> None:
            while await _handle_next(connection):
                pass

        began = time.perf_counter()
        async with anyio.create_task_group() as group:
            for connection in self._connections:
                group.start_soon(work, connection)
        return count / (time.perf_counter() - began)

    async def handle_batches(self, count: int, size: int) -> float:
        await self._fill(count)
        await vacuum(self.url)
        connection, position = self._connections[0], 0
        began = time.perf_counter()
        while position < count:
            async with connection.transaction():
                rows = await connection.fetch(SQL.read, position, size)
                position = rows[-1]["position"]
                events = [decoded(row["data"]) for row in rows]
                effects = [(event.number, event.text) for event in events]
                await connection.copy_records_to_table("effects", records=effects, columns=["number", "text"])
                emitted = [_record(event.number) for event in events]
                await connection.copy_records_to_table("ceiling", records=emitted, columns=_COLUMNS)
                await connection.execute(SQL.advance, position)
        return count / (time.perf_counter() - began)

    async def read(self, count: int, size: int) -> float:
        await self._fill(count)
        await vacuum(self.url)
        connection, position = self._connections[0], 0
        began = time.perf_counter()
        while position < count:
            async with connection.transaction():
                rows = await connection.fetch(SQL.read, position, size)
                position = rows[-1]["position"]
                for row in rows:
                    decoded(row["data"])
                await connection.execute(SQL.advance, position)
        return count / (time.perf_counter() - began)

    @asynccontextmanager
    async def consuming(self, seen: Seen) -> AsyncIterator[None]:
        """A listener, and another connection that reads what is new when it is told so."""
        listener, reader = self._connections[1:3]
        told = anyio.Event()

        def hear(*_: Any) -> None:
            told.set()

        async def follow() -> None:
            nonlocal told
            position = 0
            while True:
                await told.wait()
                told = anyio.Event()
                for row in await reader.fetch(SQL.read, position, 1000):
                    position = row["position"]
                    seen(decoded(row["data"]).sent_ns)

        await listener.add_listener("ceiling", hear)
        async with anyio.create_task_group() as group:
            group.start_soon(follow)
            yield
            group.cancel_scope.cancel()
        await listener.remove_listener("ceiling", hear)

    async def send(self, number: int) -> None:
        record = _record(number, time.monotonic_ns())
        await self._connections[0].execute(SQL.insert_event, *record)
        await self._connections[0].execute(SQL.notify)

    async def _fill(self, count: int) -> None:
        records = _records(count)
        await self._connections[0].copy_records_to_table("ceiling", records=records, columns=_COLUMNS)


async def _handle_next(connection: Connection) -> bool:
    async with connection.transaction():
        data = await connection.fetchval(SQL.take_task)
        if data is None:
            return False
        event = decoded(data)
        await connection.execute(EFFECTS.insert_effect, event.number, event.text)
        await connection.execute(SQL.insert_event, *_record(event.number))
        return True


def _records(count: int) -> list[tuple[Any, ...]]:
    return [_record(number) for number in range(count)]


def _record(number: int, sent_ns: int = 0) -> tuple[Any, ...]:
    return stream(number), "Measured", 1, UUID(os.urandom(16)), encoded(number, sent_ns).decode(), "{}"
