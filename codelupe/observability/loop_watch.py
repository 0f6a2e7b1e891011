"""Watches the event loop from a thread: names what blocks it, for how long, and where in its code.

While one handler computes or waits without ``await``, nothing else of the process goes on. The thread asks the loop
again and again to answer; while it does not, the thread looks at what the loop is doing instead.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections import defaultdict, deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Self

import anyio
import asyncpg
import structlog
from prometheus_client.core import Metric, SummaryMetricFamily
from prometheus_client.registry import Collector

from codelupe.observability.attribution import Running, what_runs
from codelupe.postgres import Database
from codelupe.postgres.queries import load_queries
from codelupe.postgres.retry import retry_while_unavailable
from codelupe.postgres.text import storable

SQL = load_queries("codelupe_sql", "incidents")
_LOOKS = 10
"""In the time of the shortest block that is logged."""
_STANDSTILL = 0.05
"""A loop that used less of a processor than this while other threads got no turn got none itself."""
_LAST_SECONDS = 2.0

_Culprit = tuple[str, str | None]
"""A plugin, and its subscription, job or service."""

log = structlog.get_logger("codelupe")


@dataclass(frozen=True, kw_only=True)
class Block:
    """The loop was blocked for so many seconds by this."""

    running: Running
    seconds: float

    @property
    def fields(self) -> dict[str, Any]:
        """As a log record has them, without the stack."""
        who = {name: getattr(self.running, name) for name in ("plugin", "stage", "stream")}
        return {**{name: value for name, value in who.items() if value}, "seconds": round(self.seconds, 1)}


class LoopWatch(Collector):
    """Watches the loop that it is entered in until it is left; for Prometheus, seconds and number of blocks by plugin.

    A loop that does not answer for ``threshold`` seconds is blocked: ``event_loop_blocked`` is logged then and each
    time the block has doubled, ``event_loop_free`` at its end. Seconds are exact to a tenth of the threshold. A
    process that did not run at all, since it was stopped or its machine slept, logs ``process_stood_still`` and names
    no code. ``packages`` says which plugin a Python package belongs to.
    """

    def __init__(self, packages: Mapping[str, str], threshold: float) -> None:
        self._packages = packages
        self._threshold = threshold
        self._interval = threshold / _LOOKS
        self._episode: _Episode | None = None
        self._blocks: deque[Block] = deque(maxlen=100)
        self._ended = anyio.Event()
        self._totals: defaultdict[str, tuple[int, float]] = defaultdict(lambda: (0, 0.0))
        self._lock = threading.Lock()
        self._wake = threading.Event()
        self._is_leaving = False
        self._thread = threading.Thread(target=self._run, name="loop-watch", daemon=True)

    def __enter__(self) -> Self:
        self._loop, self._loop_thread = asyncio.get_running_loop(), threading.get_ident()
        self._looked_at = self._accounted_until = self._asked_at = self._answered_at = time.monotonic()
        self._cpu_clock = time.pthread_getcpuclockid(self._loop_thread)
        self._used = time.clock_gettime(self._cpu_clock)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._is_leaving = True
        self._wake.set()
        self._thread.join()

    async def wait(self) -> list[Block]:
        """The blocks that have ended since the last call, at least one."""
        while not (blocks := self.take()):
            self._ended = anyio.Event()
            await self._ended.wait()
        return blocks

    def take(self) -> list[Block]:
        """The blocks that have ended since the last call, up to this moment. Call it on the loop."""
        self._answer()
        self._look()
        return [self._blocks.popleft() for _ in range(len(self._blocks))]

    def collect(self) -> Iterator[Metric]:
        """Called by the metrics server's threads. A block counts while it lasts, too."""
        with self._lock:
            totals = dict(self._totals)
            for block in self._episode.announced if self._episode is not None else ():
                _add(totals, block)
        family = SummaryMetricFamily(
            "codelupe_event_loop_blocked_seconds",
            "How often, and how long in all, code of the plugin has blocked the event loop of this process.",
            labels=["plugin"],
        )
        for plugin, (count, seconds) in totals.items():
            family.add_metric([plugin], count, seconds)
        yield family

    # --- the thread ---

    def _run(self) -> None:
        while not self._is_leaving:
            self._wake.wait(self._interval)
            self._wake.clear()
            self._look()

    def _look(self) -> None:
        with self._lock:
            now = time.monotonic()
            overslept = self._overslept(now)
            if self._answered_at < self._asked_at:
                self._observe(now)
                return
            self._end_episode()
            unwatched = min(overslept, now - self._answered_at)
            if unwatched > self._interval:  # the loop's thread let no other have the interpreter
                self._accounted_until = now - unwatched
                self._observe(now)
            self._asked_at = self._accounted_until = now
            self._loop.call_soon_threadsafe(self._answer)

    def _answer(self) -> None:
        self._answered_at = time.monotonic()
        if self._episode is not None:
            self._wake.set()

    def _tell(self) -> None:
        self._ended.set()

    def _overslept(self, now: float) -> float:
        """For how many seconds this thread got no turn because the loop's had it."""
        overslept, used = now - self._looked_at - self._interval, time.clock_gettime(self._cpu_clock) - self._used
        self._looked_at, self._used = now, self._used + used
        if overslept <= self._interval or used > overslept * _STANDSTILL:
            return max(0.0, overslept)
        self._accounted_until = now
        if overslept > self._threshold:
            log.warning("process_stood_still", seconds=round(overslept, 1))
        return 0.0

    def _observe(self, now: float) -> None:
        """Count the time since the last look for what runs now."""
        seconds, self._accounted_until = now - self._accounted_until, now
        if (running := what_runs(self._loop, self._loop_thread, self._packages)) is not None:
            self._episode = self._episode or _Episode(self._threshold)
            self._episode.add(running, seconds)

    def _end_episode(self) -> None:
        if self._episode is None:
            return
        blocks = self._episode.end(max(0.0, self._answered_at - self._accounted_until))
        self._episode = None
        for block in blocks:
            log.warning("event_loop_free", **block.fields)
            _add(self._totals, block)
            self._blocks.append(block)
        if blocks:
            self._loop.call_soon_threadsafe(self._tell)


class _Episode:
    """A time in which the loop does not answer, and how much of it was whose."""

    def __init__(self, threshold: float) -> None:
        self._threshold = threshold
        self._blocks: dict[_Culprit, Block] = {}
        self._announce_at: dict[_Culprit, float] = {}
        self._latest: Running | None = None

    @property
    def announced(self) -> list[Block]:
        """The blocks that were long, each as it was first seen: the last look may have come when it was just over."""
        return [self._blocks[culprit] for culprit, seconds in self._announce_at.items() if seconds > self._threshold]

    def add(self, running: Running, seconds: float) -> None:
        """So much of it was this; a block is logged when it comes to the threshold, and each time it has doubled."""
        culprit, self._latest = (running.plugin, running.stage), running
        before = self._blocks.get(culprit, Block(running=running, seconds=0.0))
        self._blocks[culprit] = block = replace(before, seconds=before.seconds + seconds)
        if block.seconds >= self._announce_at.setdefault(culprit, self._threshold):
            self._announce_at[culprit] = 2 * block.seconds
            log.warning("event_loop_blocked", **block.fields, stack=running.stack)

    def end(self, rest: float) -> list[Block]:
        """The blocks that were long, with the rest of the time."""
        if self._latest is not None:
            self.add(self._latest, rest)
        return self.announced


def _add(totals: dict[str, tuple[int, float]], block: Block) -> None:
    count, seconds = totals.get(block.running.plugin, (0, 0.0))
    totals[block.running.plugin] = count + 1, seconds + block.seconds


async def record_blocks(watch: LoopWatch, database: Database) -> None:
    """Write down each block when the loop is free again, until cancelled, and then what is left."""
    try:
        while True:
            await _record(await watch.wait(), database)
    finally:
        with anyio.move_on_after(_LAST_SECONDS, shield=True):
            await _record(watch.take(), database)


async def _record(blocks: Sequence[Block], database: Database) -> None:
    for block in blocks:
        await retry_while_unavailable(partial(_record_one, block, database), "incidents", also=(asyncpg.PostgresError,))


async def _record_one(block: Block, database: Database) -> None:
    who = block.running
    stream = None if who.stream is None else storable(who.stream)
    await database.execute(SQL.record_blocked_loop, who.plugin, who.stage, stream, block.seconds, storable(who.stack))
