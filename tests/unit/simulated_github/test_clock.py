"""Clocks on which the simulated GitHub and its clients agree."""

from __future__ import annotations

import subprocess
import sys
import time

import anyio
import pytest

from tests.simulated_github.clock import FakeClock, ScaledClock

pytestmark = pytest.mark.anyio


async def test_hours_of_sleep_cost_nothing_and_come_in_order() -> None:
    clock, woken = FakeClock(100.0), list[tuple[str, float]]()

    async def sleep(name: str, seconds: float, times: int) -> None:
        for _ in range(times):
            await clock.sleep(seconds)
            woken.append((name, clock.now()))

    began = time.monotonic()
    async with anyio.create_task_group() as background:
        background.start_soon(clock.run)
        async with anyio.create_task_group() as group:
            group.start_soon(sleep, "a", 3_600, 3)
            group.start_soon(sleep, "b", 5_000, 2)
        background.cancel_scope.cancel()
    assert woken == [("a", 3_700), ("b", 5_100), ("a", 7_300), ("b", 10_100), ("a", 10_900)]
    assert time.monotonic() - began < 2


async def test_time_stands_still_while_one_is_at_work() -> None:
    clock, done = FakeClock(0.0), anyio.Event()

    async def work() -> None:
        clock.act()
        for _ in range(5):  # in all, longer than a task that makes no request is waited for
            await anyio.sleep(0.1)
            clock.act()
            assert clock.now() == 0
        done.set()

    async with anyio.create_task_group() as background:
        background.start_soon(clock.run)
        async with anyio.create_task_group() as group:
            group.start_soon(work)
            await anyio.lowlevel.checkpoint()
            await clock.sleep(60)
            assert done.is_set()
        background.cancel_scope.cancel()
    assert clock.now() == 60


async def test_a_task_that_has_nothing_more_to_ask_is_not_waited_for() -> None:
    clock = FakeClock(0.0)

    async def ask_once() -> None:
        clock.act()
        await anyio.sleep_forever()

    async with anyio.create_task_group() as background:
        background.start_soon(clock.run)
        background.start_soon(ask_once)
        await anyio.lowlevel.checkpoint()
        with anyio.fail_after(5):
            await clock.sleep(60)
        background.cancel_scope.cancel()
    assert clock.now() == 60


async def test_a_sleep_that_was_cancelled_holds_up_and_wakes_none() -> None:
    times = list[float]()

    async def note(now: float) -> None:
        times.append(now)

    clock = FakeClock(0.0, note)
    async with anyio.create_task_group() as cancelled:
        cancelled.start_soon(clock.sleep, 10)
        await anyio.lowlevel.checkpoint()
        cancelled.cancel_scope.cancel()
    async with anyio.create_task_group() as background:
        background.start_soon(clock.run)
        await clock.sleep(60)
        background.cancel_scope.cancel()
    assert times == [60]


async def test_another_clock_is_moved_on_before_anything_wakes_up() -> None:
    moved = list[float]()

    async def move(now: float) -> None:
        await anyio.lowlevel.checkpoint()
        moved.append(now)

    clock = FakeClock(0.0, move)
    async with anyio.create_task_group() as background:
        background.start_soon(clock.run)
        await clock.sleep(60)
        assert moved == [60]
        clock.move_on(40)
        await clock.sleep(1)
        background.cancel_scope.cancel()
    assert clock.now() == 101


async def test_a_scaled_clock_is_the_same_in_another_process() -> None:
    clock = ScaledClock.start(1_000_000.0, pace=100)
    script = (
        "import sys; from tests.simulated_github.clock import ScaledClock;"
        " print(ScaledClock.from_text(sys.argv[1]).now())"
    )
    before = clock.now()
    theirs = float(subprocess.run([sys.executable, "-c", script, clock.text()], capture_output=True, check=True).stdout)
    assert before < theirs < clock.now()
    began = time.monotonic()
    await clock.sleep(20)
    assert 0.2 <= time.monotonic() - began < 2
