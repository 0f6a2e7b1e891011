"""Runs one subscription in this process: takes tasks as its slots become free, and attempts them."""

from __future__ import annotations

import uuid
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

import anyio
import anyio.abc

from codelupe.log.notifier import Signal
from codelupe.postgres.retry import RetryWhileUnavailable
from codelupe.work.attempt import Attempt
from codelupe.work.leases import SignsOfLife
from codelupe.work.postponement import Postponement
from codelupe.work.runtime import Runtime
from codelupe.work.subscriptions import Handler, Subscribed
from codelupe.work.task import Task
from codelupe.work.task_queue import FEED_LIMIT, Fed, FeedRequest, TaskQueue

_QUICK_SECONDS = 0.1


class Consumer:
    """One subscription in this process, with ``slots`` attempts at once.

    Its tasks come from the feeder, which asks ``feed_request``, and from its own claims; without ``feeder`` only from
    these. ``on_idle`` is called when its last running attempt has ended.
    """

    def __init__(
        self,
        subscription: Subscribed,
        handler: Handler,
        runtime: Runtime,
        queue: TaskQueue,
        *,
        slots: int,
        feeder: Signal | None = None,
        on_idle: Callable[[], None],
        signs: SignsOfLife,
    ) -> None:
        self.subscription = subscription
        self.claimable = runtime.log.notifier.task_signal()
        """Set when a claim may bring something."""
        self.running = 0
        self.needs_tasks = feeder is not None
        """Whether the feeder should make tasks; it does not before most are claimed, which keeps the table small."""
        self.unfinished: set[uuid.UUID] = set()
        """The tokens of tasks whose attempt has begun and not ended; a worker that leaves has crashed over them."""
        self._handler = handler
        self._runtime = runtime
        self._queue = queue
        self._slots = slots
        self._feeder = feeder
        self._on_idle = on_idle
        self._signs = signs
        self._waiting: deque[Task] = deque()
        """Claimed ahead, so that a free slot has the next one at hand."""
        self._asked = 0
        """For how many tasks a statement is under way: by the claims below, or by the feeder."""
        self._was_turned_away = False
        self._mean_seconds = _QUICK_SECONDS
        self._postponement = Postponement()
        self._delivered = -1
        self._claimed = 0
        self._retry_times: list[float] = []

    # --- taking tasks ---

    async def run(self, worker: uuid.UUID) -> None:
        """Claim whenever a slot is free and a task may be ready, until cancelled."""
        attempt = RetryWhileUnavailable("claim", quiet=True)
        while True:
            self._signs.record(f"claims of {self.subscription.name}")
            async with attempt:
                with self.asking() as room:
                    tasks = await self._queue.claim(self.subscription, worker, room) if room else []
                if room:
                    self.accept(tasks)
                    self._record_claim(asked=room, got=len(tasks))
                await self._wait_until_claimable()

    @contextmanager
    def asking(self) -> Iterator[int]:
        """For how many tasks to ask inside the block; a slot for which another statement asks is not free."""
        room = self._room  # less than is free, while another asks
        self._was_turned_away |= self._asked > 0
        self._asked += room
        try:
            yield room
        finally:
            self._asked -= room
            if room and self._was_turned_away:
                self._was_turned_away = False
                self.claimable.set()

    def begin(self, attempts: anyio.abc.TaskGroup) -> None:
        """Run attempts in this group from now on; what was claimed under an earlier lease is not ours any more."""
        self._attempts = attempts
        self._waiting.clear()
        self.unfinished.clear()

    def accept(self, tasks: Iterable[Task]) -> None:
        """Attempt claimed tasks as slots are free; the others wait."""
        self._waiting.extend(tasks)
        while self._waiting and self.running < self._slots:
            self.running += 1
            self._attempts.start_soon(self._occupy_slot, self._waiting.popleft())

    def stop(self) -> None:
        """Let running attempts end, and begin no other; the worker gives back what waits."""
        self._waiting.clear()

    async def _occupy_slot(self, task: Task) -> None:
        """Attempt the task, and then those that wait, one after another."""
        try:
            await self._attempt(task)
            while self._waiting:
                if self._room:
                    self.claimable.set()
                await self._attempt(self._waiting.popleft())
        finally:
            self.running -= 1
            self.claimable.set()
            if not self.running:
                self._on_idle()

    async def _attempt(self, task: Task) -> None:
        began = anyio.current_time()
        self.unfinished.add(task.token)
        attempt = Attempt(
            self.subscription, self._handler, task, self._runtime, self._queue, postponement=self._postponement
        )
        with self._runtime.progress.working(task.subscription, task.recorded.stream):
            retry_after = await attempt.run()
        self.unfinished.discard(task.token)
        ended = anyio.current_time()
        self._mean_seconds += (ended - began - self._mean_seconds) / 8
        if retry_after is not None:
            self._retry_times.append(ended + retry_after.total_seconds())

    async def _wait_until_claimable(self) -> None:
        now = anyio.current_time()
        self._retry_times = [time for time in self._retry_times if time > now]
        await self.claimable.wait(min([self._runtime.timings.poll, *(time - now for time in self._retry_times)]))

    @property
    def is_held(self) -> bool:
        """Whether the subscription, or something that it needs, is paused."""
        return self._runtime.pauses.holds(self.subscription.name)

    @property
    def _room(self) -> int:
        """How many tasks to claim now: one per free slot; twice that while handlers finish within 100 ms."""
        if self.is_held:
            return 0
        full = self._slots * (2 if self._mean_seconds < _QUICK_SECONDS else 1)
        missing = full - self.running - len(self._waiting) - self._asked
        return max(0, missing) if self.running < self._slots or missing > self._slots // 2 else 0

    # --- being fed ---

    def _record_claim(self, *, asked: int, got: int) -> None:
        """Ask for more tasks when the queue is empty, or half of what was made is claimed."""
        self._claimed += got
        if self._feeder is not None and (got < asked or self._claimed >= FEED_LIMIT // 2):
            if not self.needs_tasks:
                self._feeder.set()
            self.needs_tasks = True
        else:
            self.needs_tasks = False

    def feed_request(self, room: int) -> FeedRequest:
        """What the feeder may bring."""
        return FeedRequest(subscription=self.subscription, known=self._delivered, room=room)

    def accept_fed(self, fed: Fed) -> int:
        """Take what was claimed; returns how many tasks were made since the last look, by whatever process."""
        made = fed.delivered - self._delivered
        if made:
            self._delivered, self.needs_tasks, self._claimed = fed.delivered, False, len(fed.tasks)
            self.claimable.set()
        self.accept(fed.tasks)
        return made
