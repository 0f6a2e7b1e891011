"""Activity something as often as possible, or at a steady rate, and the clock over it."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import anyio
import anyio.to_thread

Action = Callable[[], Awaitable[object]]


async def rate_of(actions: Sequence[Action], seconds: float) -> float:
    """How often a second the actions complete when each is repeated, all at once, for that long.

    Each is done once before the clock starts, so that connections are open and statements prepared.
    """
    completed = 0

    async def once(action: Action) -> None:
        await action()

    async def repeat(action: Action) -> None:
        nonlocal completed
        while time.perf_counter() < deadline:
            await action()
            completed += 1

    await _all_at_once(once, actions)
    began = time.perf_counter()
    deadline = began + seconds
    await _all_at_once(repeat, actions)
    return completed / (time.perf_counter() - began)


async def rate_in_threads(actions: Sequence[Callable[[], object]], seconds: float) -> float:
    """As :func:`rate_of`, for actions that block: each has a thread of its own."""

    def repeat(action: Callable[[], object]) -> int:
        completed = 0
        while time.perf_counter() < deadline:
            action()
            completed += 1
        return completed

    with ThreadPoolExecutor(len(actions)) as threads:

        def all_of(work: Callable[[Callable[[], object]], object]) -> list[object]:
            return list(threads.map(work, actions))

        await anyio.to_thread.run_sync(all_of, lambda action: action())
        began = time.perf_counter()
        deadline = began + seconds
        completed = await anyio.to_thread.run_sync(lambda: sum(threads.map(repeat, actions)))
        return completed / (time.perf_counter() - began)


async def _all_at_once(work: Callable[[Action], Coroutine[Any, Any, None]], actions: Sequence[Action]) -> None:
    async with anyio.create_task_group() as group:
        for action in actions:
            group.start_soon(work, action)


async def at_rate(send: Callable[[int], Awaitable[object]], count: int, per_second: float) -> None:
    """Send the events 0 to ``count``, one after another, at steady intervals."""
    began = anyio.current_time()
    for number in range(count):
        await anyio.sleep_until(began + number / per_second)
        await send(number)
