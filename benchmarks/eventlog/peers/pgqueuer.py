"""pgqueuer: jobs claimed with SKIP LOCKED, on asyncpg.

A handling takes three transactions: the claim, the handler's own (effect and emitted job together), and the mark that
it is done, which pgqueuer writes later, many at once, so a job whose effect is committed may run again. It claims in
batches but calls a handler for each job; those that run at once may still write together, which is the most its API
allows (:class:`Pgqueuer`), or each by itself, as its documentation shows (:class:`PgqueuerJobByJob`).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import ClassVar, Self

import anyio
from pgqueuer import Job, Queries, QueueManager

from benchmarks.eventlog.databases import Connection, connected, vacuum
from benchmarks.eventlog.pace import Action, rate_of
from benchmarks.eventlog.payload import Payload, decoded, encoded
from benchmarks.eventlog.system import HANDLERS, Closing, Seen
from codelupe.postgres.queries import load_queries

EFFECTS = load_queries("benchmarks", "effects")
_SENT, _EMITTED = "measured", "followed"
_MANAGERS = 4
"""How many queue managers claim one job at a time; with more, or with one alone, it is slower."""

Write = Callable[[Payload], Awaitable[None]]


class _Queue(Closing):
    """The queue of one database, with a connection for each queue manager and more for handlers."""

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self._queries: list[Queries] = []
        self._writers: asyncio.Queue[tuple[Connection, Queries]] = asyncio.Queue()

    async def install(self) -> None:
        async with connected(self.url) as connection:
            await connection.execute(EFFECTS.create_effects)
            queries = Queries.from_asyncpg_connection(connection)
            await queries.install()
            await queries.optimize_autovacuum()

    async def __aenter__(self) -> Self:
        self._queries = [Queries.from_asyncpg_connection(await self._connect()) for _ in range(HANDLERS)]
        for _ in range(HANDLERS):
            connection = await self._connect()
            self._writers.put_nowait((connection, Queries.from_asyncpg_connection(connection)))
        return self

    async def _handle_all(self, count: int, write: Write, *, managers: int, batch_size: int) -> float:
        """How many waiting jobs a second are handled by that function, marked as done and out of the queue."""
        await self._fill(count)
        await vacuum(self.url)
        handled = 0

        async def handle(job: Job) -> None:
            nonlocal handled
            await write(_payload(job))
            handled += 1
            if handled == count:
                for manager in running:
                    manager.shutdown.set()  # what it has still to write, it writes before it ends

        running = [_manager(queries, handle) for queries in self._queries[:managers]]
        began = time.perf_counter()
        async with anyio.create_task_group() as group:
            for manager in running:
                group.start_soon(lambda it: it.run(batch_size=batch_size), manager)
        return count / (time.perf_counter() - began)

    async def _write_one(self, event: Payload) -> None:
        async with self._transaction() as (connection, queries):
            await connection.execute(EFFECTS.insert_effect, event.number, event.text)
            await queries.enqueue(_EMITTED, encoded(event.number))

    async def _write_many(self, events: Sequence[Payload]) -> None:
        effects = [(event.number, event.text) for event in events]
        async with self._transaction() as (connection, queries):
            await connection.copy_records_to_table("effects", records=effects, columns=["number", "text"])
            await _enqueue(queries, _EMITTED, [event.number for event in events])

    @asynccontextmanager
    async def _transaction(self) -> AsyncIterator[tuple[Connection, Queries]]:
        writer = await self._writers.get()
        try:
            async with writer[0].transaction():
                yield writer
        finally:
            self._writers.put_nowait(writer)

    async def _fill(self, count: int) -> None:
        for first in range(0, count, 1000):
            await _enqueue(self._queries[0], _SENT, range(first, min(first + 1000, count)))

    async def _connect(self) -> Connection:
        return await self._stack.enter_async_context(connected(self.url))


class Pgqueuer(_Queue):
    name: ClassVar[str] = "pgqueuer"

    async def append(self, size: int, connections: int, seconds: float) -> float:
        payloads = [encoded(number) for number in range(size)]

        def action(queries: Queries) -> Action:
            if size == 1:
                return lambda: queries.enqueue(_SENT, payloads[0])
            return lambda: queries.enqueue([_SENT] * size, list(payloads), [0] * size)

        return size * await rate_of([action(one) for one in self._queries[:connections]], seconds)

    async def handle(self, count: int) -> float:
        return await self._handle_all(count, self._write_one, managers=_MANAGERS, batch_size=1)

    async def handle_batches(self, count: int, size: int) -> float:
        write = GroupCommit(self._write_many).write
        return await self._handle_all(count, write, managers=1, batch_size=size)

    @asynccontextmanager
    async def consuming(self, seen: Seen) -> AsyncIterator[None]:
        async def handle(job: Job) -> None:
            seen(_payload(job).sent_ns)

        manager = _manager(self._queries[1], handle)
        async with anyio.create_task_group() as group:
            group.start_soon(manager.run)
            yield
            manager.shutdown.set()

    async def send(self, number: int) -> None:
        await self._queries[0].enqueue(_SENT, encoded(number, time.monotonic_ns()))


class PgqueuerJobByJob(_Queue):
    name: ClassVar[str] = "pgqueuer, job by job"

    async def handle_batches(self, count: int, size: int) -> float:
        return await self._handle_all(count, self._write_one, managers=1, batch_size=size)


class GroupCommit:
    """Writes what handlers running at once have to write: whatever came while the last write went on, in one."""

    def __init__(self, write_many: Callable[[Sequence[Payload]], Awaitable[None]]) -> None:
        self._write_many = write_many
        self._waiting: list[tuple[Payload, asyncio.Future[None]]] = []
        self._lock = asyncio.Lock()

    async def write(self, event: Payload) -> None:
        """Returns when it is committed."""
        written = asyncio.get_running_loop().create_future()
        self._waiting.append((event, written))
        async with self._lock:
            if not written.done():
                batch, self._waiting = self._waiting, []
                await self._write_many([event for event, _ in batch])
                for _, future in batch:
                    future.set_result(None)


async def _enqueue(queries: Queries, name: str, numbers: Sequence[int]) -> None:
    await queries.enqueue([name] * len(numbers), [encoded(number) for number in numbers], [0] * len(numbers))


def _payload(job: Job) -> Payload:
    return decoded(job.payload or b"")


def _manager(queries: Queries, handler: Callable[[Job], Awaitable[None]]) -> QueueManager:
    manager = QueueManager(replace(queries))
    manager.entrypoint(_SENT)(handler)
    return manager
