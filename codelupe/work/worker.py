"""The worker: takes events to their handlers, under a lease.

Loops share one lease. The feeder turns settled events into tasks. A consumer for each stage claims as many tasks as
it may run at once; a batch subscription has a reader besides, which hands out events without making tasks of them.
The reaper gives back what dead workers left. Handlers run beside the loops, so that the loops can stop first and the
handlers drain.
"""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import timedelta

import anyio
import anyio.abc
import anyio.from_thread
import anyio.lowlevel
import anyio.to_thread
import asyncpg
import structlog

from codelupe.errors import DatabaseUnavailable
from codelupe.log.event_log import SQL
from codelupe.log.records import uuid7
from codelupe.work.batch_reader import BatchReader
from codelupe.work.consumer import Lane, lanes_of
from codelupe.work.context import Runtime
from codelupe.work.leases import Heartbeat, ProcessIdentity
from codelupe.work.subscriptions import Stage
from codelupe.work.task import Task
from codelupe.work.task_queue import Tasks

POLL_SECONDS = 1.0
"""How often a loop looks by itself, should no wake-up reach it."""
_FEED_INTERVAL_SECONDS = 0.003
"""Under a steady stream of events the feeder takes together what came within this time,"""
_VAIN_FEED_INTERVAL_SECONDS = 0.02
"""and at most this one while nothing of it is wanted."""
_PARTITIONS_SECONDS = 10.0
_AWAY_PAUSE_SECONDS = 0.5

log = structlog.get_logger("codelupe")


class Worker:
    """Runs the stages until :meth:`stop`, taking a new lease whenever one is lost."""

    def __init__(self, stages: Sequence[Stage], runtime: Runtime, *, lease: timedelta, drain: timedelta) -> None:
        self._runtime = runtime
        self._database = runtime.log.database
        self._tasks = Tasks(self._database)
        self._lanes = {lane.stage.name: lane for lane in lanes_of(stages, runtime, self._tasks)}
        self._lease = lease
        self._drain = drain
        self._stopping = anyio.Event()
        self.stopped = anyio.Event()
        """Set when everything has drained and the lease is given back."""
        self._notifier = runtime.log.notifier
        self._signal = self._notifier.signal()
        self.alive_at = anyio.current_time()
        """When the feeder last came round; the watchdog looks at it."""

    def stop(self) -> None:
        """Claim nothing more, let running handlers end within the drain time, give the rest back."""
        self._stopping.set()
        self._notifier.wake()

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
        settled = await self._runtime.log.settled_position()
        blocks = [lane.stage.subscription.parked_blocks_stream for lane in self._lanes.values()]
        counts = await self._database.fetchrow(SQL.counts, list(self._lanes), settled, blocks)
        is_done = counts is not None and counts["waiting"] == counts["running"] == 0 and counts["level"] is not False
        # Looked at last: a handler that ended while we counted has moved the head.
        return is_done and await self._runtime.log.head_position() == settled

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
            await self._tasks.release(worker)
        except (DatabaseUnavailable, asyncpg.DeadlockDetectedError):
            log.warning("leaving_without_release", worker=str(worker))

    # --- the loops ---

    async def _work(self, worker: uuid.UUID, lost: anyio.Event) -> None:
        for lane in self._lanes.values():
            lane.waiting.clear()  # claimed under an earlier lease
        async with anyio.create_task_group() as handlers:
            async with anyio.create_task_group() as loops:
                loops.start_soon(self._reap, worker)
                loops.start_soon(self._keep_partitions)
                loops.start_soon(self._feed, worker, handlers)
                for lane in self._lanes.values():
                    loops.start_soon(self._consume, lane, worker, handlers)
                    if lane.reader is not None:
                        loops.start_soon(self._read, lane.reader, lane)
                await _first(self._stopping, lost)
                loops.cancel_scope.cancel()
            if not lost.is_set():
                await self._drain_handlers()
            handlers.cancel_scope.cancel()

    async def _drain_handlers(self) -> None:
        if busy := {name: lane.running for name, lane in self._lanes.items() if lane.running}:
            log.info("draining", running=busy, at_most_seconds=self._drain.total_seconds())
        with anyio.move_on_after(self._drain.total_seconds()):
            while self._is_busy():
                await self._signal.wait(POLL_SECONDS)

    def _is_busy(self) -> bool:
        return any(lane.running for lane in self._lanes.values())

    async def _feed(self, worker: uuid.UUID, handlers: anyio.abc.TaskGroup) -> None:
        pause = _FEED_INTERVAL_SECONDS
        while True:
            self.alive_at = anyio.current_time()
            try:
                hungry = [lane for lane in self._lanes.values() if lane.is_hungry]
                made, is_level = await self._feed_hungry(hungry, worker, handlers)
            except DatabaseUnavailable as error:
                log.warning("database_unavailable", error=error.message)
                await anyio.sleep(_AWAY_PAUSE_SECONDS)
                continue
            pause = _FEED_INTERVAL_SECONDS if made else min(2 * pause, _VAIN_FEED_INTERVAL_SECONDS)
            await anyio.sleep(pause)
            if is_level and await self._signal.wait(POLL_SECONDS):
                pause = _FEED_INTERVAL_SECONDS

    async def _feed_hungry(
        self, lanes: Sequence[Lane], worker: uuid.UUID, handlers: anyio.abc.TaskGroup
    ) -> tuple[int, bool]:
        """How many tasks there are to take, and whether that is all for those that are still hungry."""
        if not lanes:
            return 0, True
        fed = await self._tasks.feed([lane.want for lane in lanes], worker)
        made = 0
        for lane in lanes:
            made += lane.note_feed(fed[lane.stage.name])
            self._start_waiting(lane, handlers)
        if made > sum(len(lane.waiting) for lane in lanes):
            self._notifier.announce()  # other processes may have a hand free
        return made, all(fed[lane.stage.name].level for lane in lanes if lane.is_hungry)

    def _start_waiting(self, lane: Lane, handlers: anyio.abc.TaskGroup) -> None:
        for task in lane.start_waiting():
            handlers.start_soon(self._run, lane, task)

    async def _read(self, reader: BatchReader, lane: Lane) -> None:
        while True:
            try:
                await reader.read_all(on_tasks=lane.signal.set)
                await lane.when_level()
            except DatabaseUnavailable as error:
                log.warning("database_unavailable", error=error.message)
                await anyio.sleep(_AWAY_PAUSE_SECONDS)
                continue
            await lane.news.wait(POLL_SECONDS)

    async def _consume(self, lane: Lane, worker: uuid.UUID, handlers: anyio.abc.TaskGroup) -> None:
        while True:
            await self._claim(lane, worker)
            self._start_waiting(lane, handlers)
            await lane.wait(POLL_SECONDS)

    async def _claim(self, lane: Lane, worker: uuid.UUID) -> None:
        wanted = lane.wanted
        if not wanted:
            return
        try:
            tasks = await self._tasks.claim(lane.stage, worker, wanted)
        except DatabaseUnavailable:
            log.debug("claim_postponed", stage=lane.stage.name)
            return
        lane.waiting.extend(tasks)
        if lane.note_claim(wanted, len(tasks)):
            self._signal.set()

    async def _run(self, lane: Lane, task: Task) -> None:
        """Handle the task, and then those that wait in its lane."""
        try:
            await self._run_one(lane, task)
            while lane.waiting and not self._stopping.is_set():
                if lane.wanted:
                    lane.signal.set()
                await self._run_one(lane, lane.waiting.popleft())
        finally:
            lane.running -= 1
            lane.signal.set()
            if not self._is_busy():
                self._notifier.wake()

    async def _run_one(self, lane: Lane, task: Task) -> None:
        began = anyio.current_time()
        with self._runtime.board.working(task.subscription, task.recorded.stream):
            await lane.handling.run(task)
        lane.note_handled(anyio.current_time() - began)

    async def _reap(self, worker: uuid.UUID) -> None:
        while True:
            try:
                workers, tasks = await self._tasks.reap(worker)
                if workers or tasks:
                    log.warning("workers_lost", workers=workers, tasks_requeued=tasks)
                    self._ring_lanes()
            except (DatabaseUnavailable, asyncpg.DeadlockDetectedError):  # with another reaper
                log.debug("reaping_postponed")
            await anyio.sleep(self._lease.total_seconds() / 4)

    def _ring_lanes(self) -> None:
        for lane in self._lanes.values():
            lane.signal.set()

    async def _keep_partitions(self) -> None:
        while True:
            try:
                await self._database.execute(SQL.keep_partitions)
            except DatabaseUnavailable:
                log.debug("partitions_postponed")
            await anyio.sleep(_PARTITIONS_SECONDS)


async def _first(*events: anyio.Event) -> None:
    async with anyio.create_task_group() as group:

        async def until(event: anyio.Event) -> None:
            await event.wait()
            group.cancel_scope.cancel()

        for event in events:
            group.start_soon(until, event)
