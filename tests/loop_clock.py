"""An event loop's clock in the test's hand, as when the machine stands still while time goes on."""

from __future__ import annotations

import asyncio

import anyio.lowlevel
import pytest


class LoopClock:
    """Lets the running loop's time pass without anything else happening in it; by itself it goes at this pace."""

    def __init__(self, patch: pytest.MonkeyPatch, pace: float = 1) -> None:
        self._ahead = 0.0
        loop = asyncio.get_running_loop()
        real, start = loop.time, loop.time()
        patch.setattr(loop, "time", lambda: start + pace * (real() - start) + self._ahead)

    async def stand_still(self, seconds: float) -> None:
        """All timers of this time are due at once, as they are for a process that could not run."""
        self._ahead += seconds
        for _ in range(10):  # each thing that is due may have another come of it at once
            await anyio.lowlevel.checkpoint()

    async def pass_in_steps(self, seconds: float, steps: int) -> None:
        """As time passes on a machine that runs, so that what looks at the clock again and again does."""
        for _ in range(steps):
            await self.stand_still(seconds / steps)
