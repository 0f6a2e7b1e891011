"""Time that passes only while all who act are asleep, so that an hour of waiting costs nothing."""

from __future__ import annotations

import heapq
import itertools

import anyio

_IDLE_SECONDS = 0.3
"""After so long without a request, an actor has nothing to do and is not waited for."""


class FakeClock:
    """Seconds since 1970. Who acts calls :meth:`acts` at each request; it is awaited until it sleeps."""

    def __init__(self, now: float) -> None:
        self._now = now
        self._sleepers: list[tuple[float, int, anyio.Event]] = []
        self._numbers = itertools.count()
        self._awake: dict[str, float] = {}

    def now(self) -> float:
        return self._now

    def acts(self, actor: str) -> None:
        self._awake[actor] = anyio.current_time()

    async def sleep(self, seconds: float, actor: str = "") -> None:
        """Until so much later."""
        self._awake.pop(actor, None)
        woken = anyio.Event()
        heapq.heappush(self._sleepers, (self._now + seconds, next(self._numbers), woken))
        await woken.wait()
        self.acts(actor)

    async def run(self) -> None:
        """Let time pass, until cancelled."""
        while True:
            await anyio.sleep(0.001)
            horizon = anyio.current_time() - _IDLE_SECONDS
            self._awake = {actor: since for actor, since in self._awake.items() if since > horizon}
            if self._sleepers and not self._awake:
                when, _, woken = heapq.heappop(self._sleepers)
                self._now = max(self._now, when)
                woken.set()
