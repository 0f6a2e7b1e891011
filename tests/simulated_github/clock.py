"""Time that passes only while all who act are asleep, and time that passes faster, in all processes alike."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Protocol

import anyio

_IDLE_SECONDS = 0.3
"""After so long without a request, a task has nothing to do with GitHub and is not waited for."""


class Clock(Protocol):
    def now(self) -> float:
        """Seconds since 1970."""
        ...

    async def sleep(self, seconds: float) -> None: ...


@dataclass
class ManualClock:
    """Stands still until it is moved on."""

    time: float

    def now(self) -> float:
        return self.time


class FakeClock:
    """Goes on to the first wake-up as soon as each task that made a request sleeps, so that waiting costs nothing.

    A task counts as asleep while it is in :meth:`sleep`, once it is done, or when it has made no request for 0.3 s of
    real time. :meth:`run` has to run in the background.
    """

    def __init__(self, now: float, on_advance: Callable[[float], Awaitable[None]] | None = None) -> None:
        """Args: on_advance is awaited with the new time before anything wakes up (for a database's clock)."""
        self._now = now
        self._on_advance = on_advance
        self._sleepers: dict[asyncio.Task[object], tuple[float, anyio.Event]] = {}
        self._awake: dict[asyncio.Task[object], float] = {}
        self._changed = anyio.Event()

    def now(self) -> float:
        return self._now

    def act(self) -> None:
        """Say that the current task is at work; the transport does so at each request."""
        self._awake[_current_task()] = anyio.current_time()

    async def sleep(self, seconds: float) -> None:
        """Until so much later."""
        task, woken = _current_task(), anyio.Event()
        self._awake.pop(task, None)
        self._sleepers[task] = (self._now + max(0.0, seconds), woken)
        self._changed.set()
        try:
            await woken.wait()
        finally:
            self._sleepers.pop(task, None)

    def move_on(self, seconds: float) -> None:
        """Let time pass by hand, between two crawls; what should have woken up does."""
        self._now += seconds
        self._changed.set()

    async def run(self) -> None:
        """Let time pass, until cancelled."""
        while True:
            with suppress(TimeoutError), anyio.fail_after(_IDLE_SECONDS / 3):
                await self._changed.wait()
            self._changed = anyio.Event()
            await self._advance()

    async def _advance(self) -> None:
        horizon = anyio.current_time() - _IDLE_SECONDS
        self._awake = {task: since for task, since in self._awake.items() if since > horizon and not task.done()}
        if self._awake or not self._sleepers:
            return
        task, (when, woken) = min(self._sleepers.items(), key=lambda item: item[1][0])
        self._now = max(self._now, when)
        if self._on_advance is not None:
            await self._on_advance(self._now)
        self._sleepers.pop(task, None)
        self._awake[task] = anyio.current_time()
        woken.set()


@dataclass(frozen=True)
class ScaledClock:
    """So many times as fast as the machine's, in each process to which its :meth:`text` is given."""

    began: float
    """Seconds since 1970 at the moment ``origin``."""
    pace: float
    origin: float
    """Of CLOCK_MONOTONIC, which all processes of a machine share."""

    @classmethod
    def start(cls, now: float, pace: float) -> ScaledClock:
        return cls(now, pace, time.monotonic())

    @classmethod
    def from_text(cls, text: str) -> ScaledClock:
        began, pace, origin = (float(part) for part in text.split())
        return cls(began, pace, origin)

    def text(self) -> str:
        """For an environment variable."""
        return f"{self.began!r} {self.pace!r} {self.origin!r}"

    def now(self) -> float:
        return self.began + (time.monotonic() - self.origin) * self.pace

    async def sleep(self, seconds: float) -> None:
        await anyio.sleep(self.real_seconds(seconds))

    def real_seconds(self, seconds: float) -> float:
        return max(0.0, seconds) / self.pace


def _current_task() -> asyncio.Task[object]:
    task = asyncio.current_task()
    assert task is not None
    return task
