"""Handing a batch subscription its events: many a call, read at its cursor, in one transaction with their effect.

The lock on the cursor's row is claim and fencing token in one: while a process holds it no other reads there, and it
falls with the transaction. Events that cannot be handled in a batch become tasks.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from operator import itemgetter

import anyio
import anyio.lowlevel
import asyncpg

from codelupe.contracts.boundary import used_parts
from codelupe.log.entries import FEW
from codelupe.log.event_log import SQL
from codelupe.log.notifier import Signal
from codelupe.postgres import Connection, answering
from codelupe.postgres.retry import RetryWhileUnavailable, is_unavailable
from codelupe.postgres.slots import borrowed_by
from codelupe.work.attempt import cause_of, describe
from codelupe.work.context import BatchContext, HandlerContext, logger
from codelupe.work.outbox import Outbox
from codelupe.work.pauses import subscription_part
from codelupe.work.postponement import Postponement, can_be_obeyed
from codelupe.work.runtime import Runtime
from codelupe.work.subscriptions import BatchSubscription, Handler
from codelupe.work.task_queue import FEED_LIMIT
from codelupe.work.transactions import SharedTransaction
from codelupe_events import Event, decode_all

_KIND = itemgetter("type", "version")
_ENCODED = itemgetter("type", "version", "data")
_LONGEST_WAIT = timedelta(hours=1)
"""A batch that is put off for longer is handed out again by then; its handler can say so again."""
_SMALLER = 8
_NOTE_SECONDS = 1.0
"""How long it may take to note that a call has ended."""


class BatchReader:
    """Takes a batch subscription forward, one transaction after another.

    ``on_tasks`` is called when events were made tasks, ``when_caught_up`` whenever all there is has been read.
    ``news`` is set when the log may have something; without it the reader looks once a second.
    """

    def __init__(
        self,
        subscription: BatchSubscription,
        runtime: Runtime,
        *,
        on_tasks: Callable[[], None],
        news: Signal | None = None,
        when_caught_up: Callable[[], Awaitable[object]] = anyio.lowlevel.checkpoint,
    ) -> None:
        self._subscription = subscription
        self._runtime = runtime
        self._on_tasks = on_tasks
        self._news = news or Signal()
        self._when_caught_up = when_caught_up
        self._size = subscription.size
        self._has_succeeded = False
        self._kinds = frozenset(subscription.kinds)
        self._postponement = Postponement()
        self._log = logger(subscription.name)

    async def run(self) -> None:
        """Read whenever there is something, until cancelled, over a database that may go away."""
        attempt = RetryWhileUnavailable("batches")
        while True:
            async with attempt:
                await self.read_all()
                await self._when_caught_up()
                await self._news.wait(self._runtime.timings.poll)

    async def read_all(self) -> None:
        """Handle what there is.

        Raises:
            DatabaseUnavailable: what was under way is rolled back and comes again.
        """
        more = True
        while more and not self._runtime.pauses.holds(self._subscription.name):
            began = anyio.current_time()
            try:
                with borrowed_by(self._subscription.name):
                    more = await self._read_one()
            except Exception as error:
                is_away = is_unavailable(error, outage=self._runtime.database.outage)
                if is_away and not await self._runtime.lost_sessions.are_too_many(self._subscription.name, error):
                    raise
                await self._after_failure(cause_of(error))
            else:
                self._size = min(self._size * _SMALLER, self._subscription.size)
                self._postponement.record_success(since=began)
                self._runtime.lost_sessions.record_success(self._subscription.name)

    async def _read_one(self) -> bool:
        database = self._runtime.database
        async with AsyncExitStack() as after_commit, database.transaction() as connection:
            with answering(database, connection):
                batch = await self._open(connection)
                if batch is None:
                    return False
                at_once, queued = await self._split(connection, batch)
            with used_parts() as used:
                await after_commit.enter_async_context(self._noted(batch, at_once))
                emitted = await self._handle(connection, at_once)
            with answering(database, connection):
                made = await self._make_tasks(connection, batch, queued)
                await self._move_cursor(connection, batch, len(at_once) + made)
        if at_once:
            self._has_succeeded = True
            await self._runtime.pauses.record_success({*used, subscription_part(self._subscription.name)})
        if emitted:
            self._runtime.log.notifier.announce()
        if made or batch.has_tasks:
            self._on_tasks()
        return batch.more

    async def _open(self, connection: Connection) -> _Batch | None:
        size = self._size
        rows = await connection.fetch(SQL.open_batch, self._subscription.name, size, FEW)
        if not rows:
            return None
        first = rows[0]
        is_suspected = (first["cut_off"] or 0) > first["after"]
        if first["position"] is None:
            rows = []
        elif is_suspected:
            rows, size = rows[:1], 1
        elif FEW == len(rows) < size:
            rows = await connection.fetch(SQL.read_batch, first["after"], first["reached"], first["types"], size)
        is_full = len(rows) == size
        return _Batch(
            rows=rows,
            catch_up=first["catch_up"],
            types=first["types"],
            reached=rows[-1]["position"] if is_full else first["reached"],
            more=is_full or first["more"],
            has_tasks=first["has_tasks"],
            is_suspected=is_suspected,
            has_ended_process=bool(rows) and rows[0]["position"] == first["alone"],
        )

    async def _handle(self, connection: Connection, batch: Sequence[asyncpg.Record]) -> bool:
        if not batch:
            return False
        shared = SharedTransaction(connection, self._subscription.name)
        with shared.watched():
            outbox = await self._call(connection, batch, shared)
            with answering(self._runtime.database, connection, rows=len(outbox.entries)):
                await shared.take_back()
                await self._runtime.log.append(connection, outbox.entries)
        shared.check()
        return bool(outbox.entries)

    @asynccontextmanager
    async def _noted(self, batch: _Batch, at_once: Sequence[asyncpg.Record]) -> AsyncIterator[None]:
        """Keep in the database that a call is under way, so that the next process knows if this one ends in it.

        What ends every process ends it over its first batch, for that one comes again; so the first is enough.
        """
        if not at_once or (self._has_succeeded and not batch.is_suspected):
            yield
            return
        database, cursor = self._runtime.log.database, (self._subscription.name, batch.catch_up or 0)
        alone = batch.rows[0]["position"] if batch.is_suspected else None
        await database.execute(SQL.begin_batch_call, *cursor, batch.reached, alone)
        try:
            yield
        finally:
            with anyio.move_on_after(_NOTE_SECONDS, shield=True), suppress(Exception):
                await database.execute(SQL.end_batch_call, *cursor, batch.reached)

    async def _call(self, connection: Connection, batch: Sequence[asyncpg.Record], shared: SharedTransaction) -> Outbox:
        name, version, timeout = self._subscription.name, self._subscription.version, self._subscription.timeout
        outbox = Outbox(name, version)

        async def handle() -> None:
            events = decode_all(list(map(_ENCODED, batch)))
            context = BatchContext(name, self._runtime, connection, events, batch, outbox)
            with answering(self._runtime.database, connection):
                await shared.find_own_tables()
            await self._subscription.handler(events, context)

        with outbox.open_inside():
            await self._runtime.calls.run(
                handle, name=name, stream=batch[0]["stream"], limit=timeout, grace=self._subscription.grace
            )
        return outbox

    # --- events that become tasks ---

    async def _split(
        self, connection: Connection, batch: _Batch
    ) -> tuple[Sequence[asyncpg.Record], Sequence[asyncpg.Record]]:
        """What may be handled now; and what has to queue.

        Its stream has tasks, this code does not know it, or processes have ended while they handled it, first with
        others and then alone: a task counts its crashes.
        """
        if batch.has_ended_process:
            self._log.warning("batch_ended_its_process", stream=batch.rows[0]["stream"])
            return [], batch.rows
        unknown = set(map(_KIND, batch.rows)) - self._kinds
        busy = {row["stream"] for row in batch.rows if _KIND(row) in unknown} if unknown else set()
        if batch.has_tasks:
            streams = [row["stream"] for row in batch.rows]
            blocks = self._subscription.dead_letter_blocks_stream
            rows = await connection.fetch(SQL.streams_with_tasks, self._subscription.name, streams, blocks)
            busy |= {row["stream"] for row in rows}
        if not busy:
            return batch.rows, []
        at_once = [row for row in batch.rows if row["stream"] not in busy]
        return at_once, [row for row in batch.rows if row["stream"] in busy]

    async def _make_tasks(self, connection: Connection, batch: _Batch, rows: Sequence[asyncpg.Record]) -> int:
        if not rows:
            return 0
        columns = [[row[column] for row in rows] for column in ("stream", "position", "type", "version")]
        of_types = batch.types if batch.catch_up is not None else None
        name = self._subscription.name
        return int(await connection.fetchval(SQL.make_tasks, name, *columns, FEED_LIMIT, of_types))

    async def _move_cursor(self, connection: Connection, batch: _Batch, handled: int) -> None:
        await connection.execute(SQL.move_cursor, self._subscription.name, batch.catch_up, batch.reached, handled)

    async def _after_failure(self, error: BaseException) -> None:
        """Wait if the handler asks for it; else try a smaller batch next.

        An event that failed alone becomes a task, which has retries.
        """
        if can_be_obeyed(error) and not error.counts:
            self._postponement.meet(self._log, describe(error), error.after)
            await anyio.sleep(min(error.after, _LONGEST_WAIT).total_seconds())
            return
        if self._size > 1:
            self._size = max(1, self._size // _SMALLER)
            self._log.warning("batch_failed", error=describe(error), next_size=self._size, exc_info=error)
            return
        async with self._runtime.log.database.transaction() as connection:
            batch = await self._open(connection)
            if batch is None:
                return
            made = await self._make_tasks(connection, batch, batch.rows)
            await self._move_cursor(connection, batch, made)
        self._on_tasks()


@dataclass(frozen=True, kw_only=True)
class _Batch:
    """Events behind the cursor, how far the cursor comes with them, and whether more may be read.

    Those of a ``catch_up`` lie behind a cursor of its own, for the ``types`` that it names. While the batch
    ``is_suspected`` it is of one event, for a process has ended in a call that was to go further.
    """

    rows: Sequence[asyncpg.Record]
    catch_up: int | None
    types: Sequence[str]
    reached: int
    more: bool
    has_tasks: bool
    is_suspected: bool
    has_ended_process: bool


def one_by_one(subscription: BatchSubscription, runtime: Runtime) -> Handler:
    """The same handler for a single event, under the protocol of tasks."""

    async def handle(event: Event, context: HandlerContext) -> None:
        async with context.transaction() as connection:
            row = await runtime.log.database.fetchrow(SQL.event_at, context.recorded.position)
            assert row is not None, "a task's event stays in the log"
            outbox = Outbox(context.name, subscription.version)
            with outbox.open_inside():
                single = BatchContext(context.name, runtime, connection, [event], [row], outbox)
                await subscription.handler([event], single)
            context.emit_all(outbox)

    return handle
