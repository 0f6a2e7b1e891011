"""One process at work on the log: it feeds cursors, claims tasks, runs handlers and records how they ended.

Three loops share one lease. The feeder turns settled events into tasks. A consumer for each stage claims as many
tasks as it may run at once. The reaper gives back what dead workers left. Handlers run beside the loops, so that
the loops can stop first and the handlers drain.
"""

from __future__ import annotations

import traceback
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

import anyio
import anyio.abc
import asyncpg
import msgspec
import structlog

from codelupe.contracts import RetryPolicy
from codelupe.errors import DatabaseUnavailable, LeaseLost, Reject, RetryLater
from codelupe.log.context import ClaimedTask, HandlerContext, Surroundings
from codelupe.log.event_log import Entry
from codelupe.log.leases import Heartbeat, ProcessIdentity, is_alive
from codelupe.log.records import Recorded, uuid7
from codelupe.log.stages import Stage, backoff
from codelupe.queries import load_queries
from codelupe_events import EventError, TaskParked

SQL = load_queries("codelupe_sql", "log")
POLL_SECONDS = 1.0
"""How often a loop looks by itself, should no wake-up reach it."""
_FEED_LIMIT = 1000
_AWAY_PAUSE_SECONDS = 0.5

log = structlog.get_logger("codelupe")


class Worker:
    """Runs the stages until :meth:`stop`, taking a new lease whenever one is lost."""

    def __init__(
        self, stages: Sequence[Stage], surroundings: Surroundings, *, lease: timedelta, drain: timedelta
    ) -> None:
        self._stages = {stage.name: stage for stage in stages}
        self._surroundings = surroundings
        self._database = surroundings.log.database
        self._wakeups = surroundings.log.wakeups
        self._lease = lease
        self._drain = drain
        self._stopping = anyio.Event()
        self.stopped = anyio.Event()
        """Set when everything has drained and the lease is given back."""
        self._running: dict[str, int] = dict.fromkeys(self._stages, 0)
        self.alive_at = anyio.current_time()
        """When the feeder last came round; the watchdog looks at it."""

    def stop(self) -> None:
        """Claim nothing more, let running handlers end within the drain time, give the rest back."""
        self._stopping.set()
        self._wakeups.wake()

    async def run(self) -> None:
        """Work until stopped, over a database that may go away and come back."""
        while not self._stopping.is_set():
            try:
                async with self._leased() as (worker, lost):
                    await self._work(worker, lost)
            except DatabaseUnavailable as error:
                log.warning("database_unavailable", error=error.message)
                with anyio.move_on_after(_AWAY_PAUSE_SECONDS):
                    await self._stopping.wait()
        self.stopped.set()

    async def is_quiet(self) -> bool:
        """Whether every event has been handled or parked and nobody is about to append another."""
        settled = await self._surroundings.log.settled_position()
        blocks = [stage.subscription.parked_blocks_stream for stage in self._stages.values()]
        counts = await self._database.fetchrow(SQL.counts, list(self._stages), settled, blocks)
        is_done = counts is not None and counts["waiting"] == counts["running"] == 0 and counts["level"] is not False
        # Looked at last: a handler that ended while we counted has moved the head.
        return is_done and await self._surroundings.log.head_position() == settled

    # --- the lease ---

    @asynccontextmanager
    async def _leased(self) -> AsyncIterator[tuple[uuid.UUID, anyio.Event]]:
        worker, lost = uuid7(), anyio.Event()
        identity = ProcessIdentity.of_this_process()
        await self._database.execute(
            SQL.register_worker,
            worker,
            self._lease,
            identity.host,
            identity.boot_id,
            identity.pid,
            identity.pid_started,
        )
        token = anyio.lowlevel.current_token()

        def on_lost(reason: str) -> None:
            log.error("lease_lost", worker=str(worker), reason=reason)
            anyio.from_thread.run_sync(lost.set, token=token)

        heartbeat = Heartbeat(self._database, worker, self._lease, on_lost)
        heartbeat.start()
        try:
            yield worker, lost
        finally:
            with anyio.CancelScope(shield=True):
                await self._leave(worker)
                await anyio.to_thread.run_sync(heartbeat.stop)

    async def _leave(self, worker: uuid.UUID) -> None:
        try:
            async with self._database.transaction() as connection:
                await connection.execute(SQL.release, worker)
                await connection.execute(SQL.delete_workers, [worker])
        except DatabaseUnavailable:
            log.warning("leaving_without_release", worker=str(worker))

    # --- the loops ---

    async def _work(self, worker: uuid.UUID, lost: anyio.Event) -> None:
        async with anyio.create_task_group() as handlers:
            async with anyio.create_task_group() as loops:
                loops.start_soon(self._reap, worker)
                loops.start_soon(self._feed)
                for stage in self._stages.values():
                    loops.start_soon(self._consume, stage, worker, handlers)
                await _first(self._stopping, lost)
                loops.cancel_scope.cancel()
            if not lost.is_set():
                await self._drain_handlers()
            handlers.cancel_scope.cancel()

    async def _drain_handlers(self) -> None:
        if busy := {name: count for name, count in self._running.items() if count}:
            log.info("draining", running=busy, at_most_seconds=self._drain.total_seconds())
        with anyio.move_on_after(self._drain.total_seconds()):
            while any(self._running.values()):
                await self._wakeups.wait(POLL_SECONDS)

    async def _feed(self) -> None:
        while True:
            self.alive_at = anyio.current_time()
            try:
                await self._feed_all()
            except DatabaseUnavailable as error:
                log.warning("database_unavailable", error=error.message)
                await anyio.sleep(_AWAY_PAUSE_SECONDS)
                continue
            await self._wakeups.wait(POLL_SECONDS)

    async def _feed_all(self) -> None:
        settled = await self._surroundings.log.settled_position()
        fed = 0
        for stage in self._stages.values():
            seen = _FEED_LIMIT
            while seen == _FEED_LIMIT:
                seen = await self._database.fetchval(SQL.feed, stage.name, settled, stage.event_types, _FEED_LIMIT) or 0
                fed += seen
        if fed:
            self._wakeups.wake()

    async def _consume(self, stage: Stage, worker: uuid.UUID, handlers: anyio.abc.TaskGroup) -> None:
        subscription = stage.subscription
        while True:
            free = subscription.concurrency - self._running[stage.name]
            rows: list[asyncpg.Record] = []
            if free:
                try:
                    rows = await self._database.fetch(
                        SQL.claim, stage.name, worker, free, subscription.parked_blocks_stream
                    )
                except (DatabaseUnavailable, asyncpg.UniqueViolationError):
                    rows = []
            for row in rows:
                self._running[stage.name] += 1
                handlers.start_soon(self._run_task, stage, row)
            if not rows:
                await self._wakeups.wait(POLL_SECONDS)

    async def _reap(self, worker: uuid.UUID) -> None:
        identity = ProcessIdentity.of_this_process()
        while True:
            try:
                await self._reap_once(worker, identity)
                await self._database.fetchval(SQL.create_partitions)
            except DatabaseUnavailable:
                log.debug("reaping_postponed")
            await anyio.sleep(self._lease.total_seconds() / 4)

    async def _reap_once(self, worker: uuid.UUID, identity: ProcessIdentity) -> None:
        neighbours = await self._database.fetch(SQL.workers_on_this_machine, identity.host, identity.boot_id, worker)
        dead = [row["id"] for row in neighbours if not is_alive(row["pid"], row["pid_started"])]
        async with self._database.transaction() as connection:
            lost = [row["id"] for row in await connection.fetch(SQL.lock_lost_workers, dead)]
            if not lost:
                return
            requeued = await connection.execute(SQL.requeue_lost_tasks, lost)
            await connection.execute(SQL.delete_workers, lost)
        log.warning("workers_lost", workers=len(lost), tasks_requeued=int(requeued.split()[-1]))
        self._wakeups.wake()

    # --- one task ---

    async def _run_task(self, stage: Stage, row: asyncpg.Record) -> None:
        task = ClaimedTask(
            id=row["task_id"],
            token=row["token"],
            attempts=row["attempts"],
            losses=row["losses"],
            progress=msgspec.json.decode(row["progress"]) if row["progress"] else None,
        )
        recorded = Recorded.from_row(row)
        try:
            with self._surroundings.board.working(stage.name, recorded.stream):
                await self._handle(stage, recorded, task)
        finally:
            self._running[stage.name] -= 1
            self._wakeups.wake()

    async def _handle(self, stage: Stage, recorded: Recorded, task: ClaimedTask) -> None:
        subscription = stage.subscription
        context = HandlerContext(stage.name, subscription.version, self._surroundings, recorded, task)
        try:
            await subscription.handler(recorded.decode(), context)
            await context.finish()
        except (Exception, SystemExit) as error:
            await self._settle_anyhow(stage, recorded, task, _sole_cause(error), context)

    async def _settle_anyhow(
        self, stage: Stage, recorded: Recorded, task: ClaimedTask, error: BaseException, context: HandlerContext
    ) -> None:
        """Settle it; an error that cannot be dealt with as what it claims to be parks the event."""
        try:
            await self._settle(stage, recorded, task, error, context)
        except (Exception, SystemExit) as odd:
            reason = Reject(f"{describe(error)} (and that cannot be obeyed: {describe(odd)})")
            context.log.error("parked", error=str(reason), exc_info=odd)
            await self._persist(lambda: self._park(stage, recorded, task, reason))

    async def _settle(
        self, stage: Stage, recorded: Recorded, task: ClaimedTask, error: BaseException, context: HandlerContext
    ) -> None:
        policy, failures = stage.subscription.retry, task.attempts + 1
        match error:
            case LeaseLost():
                context.log.warning("result_discarded", reason=error.message)
            case DatabaseUnavailable():
                await self._persist(lambda: self._retry(task, error, timedelta(seconds=1), counts=False))
            case RetryLater():
                context.log.warning("retry_later", reason=str(error), after_seconds=error.after.total_seconds())
                await self._persist(lambda: self._retry(task, error, error.after, counts=error.counts))
            case Reject() | EventError():
                context.log.error("parked", error=describe(error))
                await self._persist(lambda: self._park(stage, recorded, task, error))
            case _ if failures >= policy.attempts:
                context.log.error("parked", error=describe(error), exc_info=error)
                await self._persist(lambda: self._park(stage, recorded, task, error))
            case _:
                await self._fail(policy, failures, task, error, context)

    async def _fail(
        self, policy: RetryPolicy, failures: int, task: ClaimedTask, error: BaseException, context: HandlerContext
    ) -> None:
        after = backoff(policy, failures)
        context.log.warning(
            "attempt_failed", error=describe(error), retry_in_seconds=round(after.total_seconds(), 1), exc_info=error
        )
        await self._persist(lambda: self._retry(task, error, after, counts=True))

    async def _persist(self, record: Callable[[], Awaitable[Any]]) -> None:
        """Record how a handling ended, however long the database is away; the lease's end cancels this."""
        while True:
            try:
                await record()
            except DatabaseUnavailable:
                await anyio.sleep(_AWAY_PAUSE_SECONDS)
            else:
                return

    async def _retry(self, task: ClaimedTask, error: BaseException, after: timedelta, *, counts: bool) -> None:
        await self._database.fetchval(
            SQL.retry, task.id, task.token, int(counts), after, describe(error), _traceback(error)
        )

    async def _park(self, stage: Stage, recorded: Recorded, task: ClaimedTask, error: BaseException) -> None:
        event = TaskParked(
            subscription=stage.name,
            event_id=str(recorded.id),
            event_type=recorded.type,
            attempts=task.attempts + 1,
            error=describe(error),
        )
        metadata = {"by": stage.name, "caused_by": str(recorded.id)}
        async with self._database.transaction() as connection:
            if await connection.fetchval(SQL.park, task.id, task.token, describe(error), _traceback(error)):
                await self._surroundings.log.append(connection, [Entry(event=event, metadata=metadata)])
        self._wakeups.announce()


def describe(error: BaseException) -> str:
    """The error in one line, fit for a table: its type unless it is one of ours, and its first words."""
    try:
        text = _storable(str(error))[:2000]
    except Exception:
        text = "it cannot say what"
    return text if isinstance(error, (Reject, RetryLater)) else f"{type(error).__name__}: {text}"


def _traceback(error: BaseException) -> str:
    return _storable("".join(traceback.format_exception(error)))[-20_000:]


def _storable(text: str) -> str:
    """The text as Postgres can hold it: no NUL, and no lone surrogate of a file name that is not UTF-8."""
    return text.replace("\x00", "\N{SYMBOL FOR NULL}").encode(errors="backslashreplace").decode()


def _sole_cause(error: BaseException) -> BaseException:
    """A handler's own task group wraps its error; what counts is the error inside."""
    while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]
    return error


async def _first(*events: anyio.Event) -> None:
    async with anyio.create_task_group() as group:

        async def until(event: anyio.Event) -> None:
            await event.wait()
            group.cancel_scope.cancel()

        for event in events:
            group.start_soon(until, event)
