"""procrastinate: jobs fetched one by one, on psycopg.

A handling takes three transactions: the fetch, the handler's own (effect and deferred job together), and the mark that
it is done, so a job whose effect is committed may run again. It has no batches to handle. The pool is one without its
check of every connection before use, and in autocommit mode, which saves three round trips a statement.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from functools import partial
from typing import Any, ClassVar, Self

import anyio
import msgspec
import psycopg
from procrastinate import App, PsycopgConnector
from procrastinate.jobs import JobDeferrer
from psycopg_pool import AsyncConnectionPool

from benchmarks.eventlog.databases import connected, vacuum
from benchmarks.eventlog.pace import Action, rate_of
from benchmarks.eventlog.payload import payload
from benchmarks.eventlog.system import HANDLERS, Closing, Seen
from codelupe.postgres.queries import load_queries

EFFECTS = load_queries("benchmarks", "effects")
_SENT, _EMITTED = "measured", "followed"
_CONNECTIONS = 2 * HANDLERS
_WORKERS = 4
"""How many workers share the handlers; one alone fetches more slowly, and so do many."""

Handler = Callable[[int, int, str], Awaitable[None]]


class Procrastinate(Closing):
    name: ClassVar[str] = "procrastinate"

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self._pool = AsyncConnectionPool(
            url, min_size=_CONNECTIONS, max_size=_CONNECTIONS, open=False, configure=_autocommit
        )
        self._app = App(connector=PsycopgConnector())

    async def install(self) -> None:
        async with connected(self.url) as connection:
            await connection.execute(EFFECTS.create_effects)
        async with self:
            await self._app.schema_manager.apply_schema_async()

    async def __aenter__(self) -> Self:
        await self._stack.enter_async_context(self._pool)
        await self._pool.wait()
        await self._app.open_async(self._pool)
        return self

    async def append(self, size: int, connections: int, seconds: float) -> float:
        jobs = [_arguments(number) for number in range(size)]
        deferrer = self._deferrer(_SENT)

        def append() -> Awaitable[object]:
            return deferrer.defer_async(**jobs[0]) if size == 1 else deferrer.batch_defer_async(*jobs)

        actions: list[Action] = [append] * connections
        return size * await rate_of(actions, seconds)

    async def handle(self, count: int) -> float:
        await self._fill(count)
        await vacuum(self.url)

        async def handle(number: int, sent_ns: int, text: str) -> None:  # noqa: ARG001
            async with self._pool.connection() as connection, connection.transaction():
                await psycopg.AsyncRawCursor(connection).execute(EFFECTS.insert_effect, (number, text))
                await self._deferrer(_EMITTED, connection).defer_async(**_arguments(number))

        self._register(handle)
        began = time.perf_counter()
        async with anyio.create_task_group() as group:
            for _ in range(_WORKERS):
                group.start_soon(partial(self._work, HANDLERS // _WORKERS, wait=False))
        return count / (time.perf_counter() - began)

    @asynccontextmanager
    async def consuming(self, seen: Seen) -> AsyncIterator[None]:
        async def handle(number: int, sent_ns: int, text: str) -> None:  # noqa: ARG001
            seen(sent_ns)

        self._register(handle)
        working = asyncio.create_task(self._work(HANDLERS, wait=True))
        yield
        working.cancel()
        with suppress(asyncio.CancelledError):
            await working

    async def send(self, number: int) -> None:
        await self._deferrer(_SENT).defer_async(**_arguments(number, time.monotonic_ns()))

    async def _fill(self, count: int) -> None:
        for first in range(0, count, 1000):
            numbers = range(first, min(first + 1000, count))
            await self._deferrer(_SENT).batch_defer_async(*map(_arguments, numbers))

    def _register(self, handler: Handler) -> None:
        self._app.task(name=_SENT, queue=_SENT)(handler)

    async def _work(self, concurrency: int, *, wait: bool) -> None:
        await self._app.run_worker_async(
            queues=[_SENT],
            concurrency=concurrency,
            wait=wait,
            listen_notify=wait,
            delete_jobs="successful",
            install_signal_handlers=False,
        )

    def _deferrer(self, name: str, connection: psycopg.AsyncConnection[Any] | None = None) -> JobDeferrer:
        return self._app.configure_task(name, queue=name, connection=connection)


async def _autocommit(connection: psycopg.AsyncConnection[Any]) -> None:
    await connection.set_autocommit(True)


def _arguments(number: int, sent_ns: int = 0) -> dict[str, Any]:
    return msgspec.structs.asdict(payload(number, sent_ns))
