"""What a worker knows about one of its stages while it runs: who is at work, and whether there is more to do."""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable, Iterator, Sequence
from datetime import timedelta
from functools import partial

import anyio
import anyio.lowlevel

from codelupe.log.notifier import Signal
from codelupe.work.attempt import Handling
from codelupe.work.batch_reader import BatchReader, one_by_one
from codelupe.work.context import Runtime
from codelupe.work.projections import finish_rebuild, rebuilding
from codelupe.work.subscriptions import BatchSubscription, Handler, Stage, Subscription
from codelupe.work.task import Task
from codelupe.work.task_queue import FEED_LIMIT, Fed, Tasks, Want

_QUICK_SECONDS = 0.1
_TROUBLED_AT_ONCE = 4
"""How many events of a batch subscription are handled at once when they have become tasks."""


def lanes_of(stages: Sequence[Stage], runtime: Runtime, tasks: Tasks) -> Iterator[Lane]:
    """A lane for each stage, and one for the rebuilding of each projection."""
    database = runtime.log.database
    for stage in stages:
        yield Lane(stage, runtime, tasks)
        subscription = stage.subscription
        if isinstance(subscription, BatchSubscription) and subscription.projects_to:
            swap = partial(finish_rebuild, database, stage, subscription)
            yield Lane(rebuilding(stage, subscription), runtime, tasks, news=Signal(), when_level=swap)


class Lane:
    """One stage's place in a worker."""

    def __init__(
        self,
        stage: Stage,
        runtime: Runtime,
        tasks: Tasks,
        *,
        news: Signal | None = None,
        when_level: Callable[[], Awaitable[object]] = anyio.lowlevel.checkpoint,
    ) -> None:
        self.stage = stage
        self.when_level = when_level
        """To be done whenever the reader has read all there is."""
        self.signal = runtime.log.notifier.task_signal()
        """Rings when a claim may bring something."""
        self.news = news or runtime.log.notifier.signal()
        """Rings when the log may have something for the reader; a rebuilding looks by itself."""
        self.running = 0
        self.waiting: deque[Task] = deque()
        """Claimed ahead, so that who is done with one task has the next at hand."""
        self._seconds = _QUICK_SECONDS
        subscription = stage.subscription
        self.reader: BatchReader | None = None
        handler: Handler
        if isinstance(subscription, BatchSubscription):
            self.reader = BatchReader(stage, subscription, runtime)
            handler, self._concurrency = one_by_one(subscription, runtime), _TROUBLED_AT_ONCE
        else:
            assert isinstance(subscription, Subscription)
            handler, self._concurrency = subscription.handler, subscription.concurrency
        self.handling = Handling(stage, handler, runtime, tasks, self._expect)
        self._hungry = self.reader is None
        self._taken = 0
        self._delivered = -1
        self._due: list[float] = []

    @property
    def wanted(self) -> int:
        """How many tasks to claim now: enough to be at work, and while they are quickly done, as many to follow."""
        full = self._concurrency * (2 if self._seconds < _QUICK_SECONDS else 1)
        missing = full - self.running - len(self.waiting)
        return missing if self.running < self._concurrency or missing > self._concurrency // 2 else 0

    def start_waiting(self) -> Iterator[Task]:
        """Claimed tasks that may begin now."""
        while self.waiting and self.running < self._concurrency:
            self.running += 1
            yield self.waiting.popleft()

    def note_handled(self, seconds: float) -> None:
        """Keep in mind how long tasks take."""
        self._seconds += (seconds - self._seconds) / 8

    @property
    def is_hungry(self) -> bool:
        """Whether the feeder should make tasks; that it does not before most are taken keeps the table small."""
        return self._hungry

    def note_claim(self, asked: int, got: int) -> bool:
        """Returns whether the lane has become hungry."""
        self._taken += got
        was, self._hungry = self._hungry, self.reader is None and (got < asked or self._taken >= FEED_LIMIT // 2)
        return self._hungry and not was

    @property
    def want(self) -> Want:
        """What the feeder may bring."""
        return Want(stage=self.stage, known=self._delivered, tasks=self.wanted)

    def note_feed(self, fed: Fed) -> int:
        """Take what was claimed; returns how many tasks were made since the last look, by whatever process."""
        made = fed.delivered - self._delivered
        if made:
            self._delivered, self._hungry, self._taken = fed.delivered, False, len(fed.tasks)
            self.waiting.extend(fed.tasks)
            self.signal.set()
        return made

    async def wait(self, at_most: float) -> None:
        """Until the signal rings or a task of this lane is to be tried again."""
        now = anyio.current_time()
        self._due = [due for due in self._due if due > now]
        await self.signal.wait(min([at_most, *(due - now for due in self._due)]))

    def _expect(self, after: timedelta) -> None:
        self._due.append(anyio.current_time() + after.total_seconds())
