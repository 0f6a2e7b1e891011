"""The worker: this process's place among those that handle events, under one lease.

An event's way is: the :class:`~codelupe.work.feeder.Feeder` makes a task of it and claims it for a
:class:`~codelupe.work.consumer.Consumer`, which starts an :class:`~codelupe.work.attempt.Attempt` in a free slot, which
calls the handler and records the outcome. A batch subscription has a
:class:`~codelupe.work.batch_reader.BatchReader` instead, which makes tasks only of what fails in a batch.
"""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import timedelta
from functools import partial

import anyio
import anyio.from_thread
import anyio.lowlevel
import anyio.to_thread
import asyncpg
import structlog

from codelupe.errors import DatabaseUnavailable
from codelupe.log.event_log import SQL
from codelupe.log.notifier import Signal
from codelupe.log.records import uuid7
from codelupe.postgres.retry import RetryWhileUnavailable
from codelupe.work.batch_reader import BatchReader, one_by_one
from codelupe.work.consumer import Consumer
from codelupe.work.feeder import Feeder, tell_of_the_end
from codelupe.work.leases import Heartbeat, ProcessIdentity, SignsOfLife
from codelupe.work.projections import finish_rebuild, rebuilding
from codelupe.work.runtime import Runtime
from codelupe.work.subscriptions import BatchSubscription, Handler, Subscribed, Subscription
from codelupe.work.task_queue import TaskQueue, handled_by

_TROUBLED_SLOTS = 4
"""How many events of a batch subscription are handled at once when they have become tasks."""

_PARTITION_SECONDS = 3600.0

log = structlog.get_logger("codelupe")


class Worker:
    """Runs subscriptions until :meth:`stop`, taking a new lease whenever one is lost."""

    def __init__(
        self,
        subscriptions: Sequence[Subscription | BatchSubscription],
        runtime: Runtime,
        *,
        lease: timedelta,
        drain: timedelta,
    ) -> None:
        self._runtime = runtime
        self._database = runtime.log.database
        self._notifier = runtime.log.notifier
        self._timings = runtime.timings
        self._queue = TaskQueue(self._database)
        self._lease = lease
        self._drain = drain
        self._signs = SignsOfLife()
        self._stopping = anyio.Event()
        self.stopped = anyio.Event()
        """Set when everything has drained and the lease is given back."""
        self._news = self._notifier.signal()
        self._consumers: list[Consumer] = []
        self._told: set[tuple[str, str, int]] = set()
        self._readers: list[BatchReader] = []
        self._batches = [one for one in subscriptions if isinstance(one, BatchSubscription)]
        self._ended: set[str] = set()
        for subscription in subscriptions:
            if isinstance(subscription, BatchSubscription):
                self._add_batches(subscription)
            else:
                self._add_consumer(subscription, subscription.handler, subscription.concurrency, feeder=self._news)
        self._feeder = Feeder(self._consumers, self._queue, runtime, self._news, self._signs)
        self._asked_at = anyio.current_time()

    def _add_batches(self, subscription: BatchSubscription) -> None:
        """A reader and a consumer for what fails in a batch; for a projection, the same for rebuilding it."""
        self._add_reader(subscription)
        if subscription.projects_to:
            swap = partial(
                finish_rebuild, self._database, subscription, self._runtime.calls.schema_of(subscription.name)
            )
            self._add_reader(rebuilding(subscription), news=Signal(), when_caught_up=swap)

    def _add_reader(
        self,
        subscription: BatchSubscription,
        *,
        news: Signal | None = None,
        when_caught_up: Callable[[], Awaitable[object]] = anyio.lowlevel.checkpoint,
    ) -> None:
        consumer = self._add_consumer(subscription, one_by_one(subscription, self._runtime), _TROUBLED_SLOTS)
        reader = BatchReader(
            subscription,
            self._runtime,
            news=news or self._notifier.signal(),
            on_tasks=consumer.claimable.set,
            when_caught_up=when_caught_up,
        )
        self._readers.append(reader)

    def _add_consumer(
        self, subscription: Subscribed, handler: Handler, slots: int, *, feeder: Signal | None = None
    ) -> Consumer:
        consumer = Consumer(
            subscription,
            handler,
            self._runtime,
            self._queue,
            slots=slots,
            feeder=feeder,
            on_idle=self._wake_if_idle,
            signs=self._signs,
        )
        self._consumers.append(consumer)
        return consumer

    def stop(self) -> None:
        """Claim nothing more, let running attempts end within the drain time, give the rest back."""
        self._stopping.set()
        self._runtime.calls.end_by(self._names, self._drain.total_seconds())
        for consumer in self._consumers:
            consumer.stop()

    async def run(self) -> None:
        """Work until stopped, over a database that may go away and come back."""
        attempt = RetryWhileUnavailable("lease", stop=self._stopping)
        while not self._stopping.is_set():
            self._asked_at = anyio.current_time()
            async with attempt, self._leased() as (worker, lost):
                attempt.record_success()
                await self._work(worker, lost)
                await self._tell_of_unknown_events()
        self.stopped.set()

    @property
    def alive_at(self) -> float:
        """When the feeder last came round or, without a lease, one was last asked for; the watchdog looks at it."""
        return max(self._feeder.alive_at, self._asked_at)

    async def is_idle(self) -> bool:
        """Whether only what pauses and dead letters hold is left, and no open transaction can append another event."""
        high_water_mark = await self._runtime.log.high_water_mark()
        held = [consumer for consumer in self._consumers if consumer.is_held]
        subscriptions = [consumer.subscription for consumer in self._consumers if consumer not in held]
        names = [subscription.name for subscription in subscriptions]
        is_busy = await self._database.fetchval(SQL.is_busy, names, high_water_mark, *handled_by(subscriptions))
        if is_busy or any(consumer.running for consumer in held):
            return False
        # Looked at last: a handler that ended while we looked has moved the head.
        return await self._runtime.log.head_position() == high_water_mark

    @property
    def _names(self) -> list[str]:
        return [consumer.subscription.name for consumer in self._consumers]

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
            self._runtime.calls.end_by(self._names, 0)
            anyio.from_thread.run_sync(lost.set, token=token)

        heartbeat = Heartbeat(self._database, worker, self._lease, on_lost, signs=self._signs)
        heartbeat.start()
        try:
            async with anyio.create_task_group() as beside:
                beside.start_soon(self._show_life)
                yield worker, lost
                beside.cancel_scope.cancel()
        finally:
            with anyio.CancelScope(shield=True):
                await self._leave(worker)
                await anyio.to_thread.run_sync(heartbeat.stop)

    async def _show_life(self) -> None:
        """For the heartbeat: the event loop comes round, and with it the feeder and the claims, unless they wait."""
        try:
            while True:
                self._signs.record("events")
                await anyio.sleep(self._lease.total_seconds() / 20)
        finally:
            self._signs.forget("events")

    async def _leave(self, worker: uuid.UUID) -> None:
        """Give everything back, or leave it after the time of a lease: others take it when the lease has run out."""
        try:
            with anyio.fail_after(self._lease.total_seconds()):
                await self._queue.release(worker, self._unfinished())
        except (DatabaseUnavailable, TimeoutError, asyncpg.DeadlockDetectedError):
            log.warning("leaving_without_release", worker=str(worker))

    def _unfinished(self) -> set[uuid.UUID]:
        return set().union(*(consumer.unfinished for consumer in self._consumers))

    # --- the work ---

    async def _work(self, worker: uuid.UUID, lost: anyio.Event) -> None:
        """Run the loops until told to stop or the lease is lost; then let attempts drain, or cancel them."""
        await self._runtime.pauses.refresh()
        async with anyio.create_task_group() as attempts:
            async with anyio.create_task_group() as loops:
                loops.start_soon(self._runtime.pauses.follow, self._timings.poll, self._wake_all)
                loops.start_soon(self._reap, worker)
                loops.start_soon(self._keep_partitions)
                loops.start_soon(self._keep_clock)
                for consumer in self._consumers:
                    consumer.begin(attempts)
                    loops.start_soon(consumer.run, worker)
                for reader in self._readers:
                    loops.start_soon(reader.run)
                loops.start_soon(self._feeder.run, worker)
                await _first(self._stopping, lost)
                loops.cancel_scope.cancel()
            self._signs.forget("feeder", *(f"claims of {one.subscription.name}" for one in self._consumers))
            if not lost.is_set():
                await self._drain_attempts()
            attempts.cancel_scope.cancel()

    async def _drain_attempts(self) -> None:
        if running := {one.subscription.name: one.running for one in self._consumers if one.running}:
            log.info("draining", running=running, at_most_seconds=self._drain.total_seconds())
        with anyio.move_on_after(self._drain.total_seconds()):
            while self._is_busy():
                await self._news.wait(self._timings.poll)

    def _is_busy(self) -> bool:
        return any(consumer.running for consumer in self._consumers)

    def _wake_if_idle(self) -> None:
        if not self._is_busy():
            self._notifier.wake()

    def _wake_all(self) -> None:
        self._notifier.wake()
        for consumer in self._consumers:
            consumer.claimable.set()

    async def _reap(self, worker: uuid.UUID) -> None:
        also = (asyncpg.DeadlockDetectedError,)  # with another reaper
        attempt = RetryWhileUnavailable("reaping", also=also, quiet=True)
        while True:
            async with attempt:
                await self._tell_of_unknown_events()
                await self._tell_of_the_retired()
                workers, tasks = await self._queue.reap(worker)
                if workers or tasks:
                    log.warning("workers_lost", workers=workers, tasks_requeued=tasks)
                    for consumer in self._consumers:
                        consumer.claimable.set()
                await anyio.sleep(self._lease.total_seconds() / 4)

    async def _tell_of_unknown_events(self) -> None:
        """Name what waits for other code than this, whenever there is something new of it."""
        handled = handled_by([consumer.subscription for consumer in self._consumers])
        rows = await self._database.fetch(SQL.waiting_for_other_code, self._names, *handled)
        unknown = {(row["subscription"], row["type"], row["version"]): row["events"] for row in rows}
        for (name, kind, version), events in unknown.items():
            if (name, kind, version) not in self._told:
                log.warning("unknown_events_wait", stage=name, type=kind, version=version, events=events)
        self._told = set(unknown)

    async def _tell_of_the_retired(self) -> None:
        """Of batch subscriptions; the feeder tells of the others, as soon as it notices."""
        names = [one.name for one in self._batches if one.name not in self._ended]
        for row in await self._database.fetch(SQL.ended, names):
            tell_of_the_end(row["name"])
            self._ended.add(row["name"])

    async def _keep_clock(self) -> None:
        attempt = RetryWhileUnavailable("clock", quiet=True)
        while True:
            async with attempt:
                if (seconds := await self._database.fetchval(SQL.check_clock)) is not None:
                    log.warning("clock_went_back", seconds=round(seconds, 1))
                if await self._database.fetchval(SQL.set_tasks_back):
                    for consumer in self._consumers:
                        consumer.claimable.set()
                await anyio.sleep(self._timings.poll)

    async def _keep_partitions(self) -> None:
        attempt = RetryWhileUnavailable("partitions", quiet=True)
        while True:
            async with attempt:
                async with self._database.connection() as connection:  # an index of a full partition takes its time
                    await connection.execute(SQL.keep_partitions, timeout=_PARTITION_SECONDS)
                await anyio.sleep(self._timings.partitions)


async def _first(*events: anyio.Event) -> None:
    async with anyio.create_task_group() as group:

        async def until(event: anyio.Event) -> None:
            await event.wait()
            group.cancel_scope.cancel()

        for event in events:
            group.start_soon(until, event)
