"""The pool of worker processes: results, errors, death, cancellation.

The pool lives and dies with its event loop, so each test has a loop of its own.
"""

from __future__ import annotations

import functools
import os
import signal
import time
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import anyio
import pytest

from codelupe import Executor
from codelupe.executor import ProcessExecutor

Test = Callable[..., Coroutine[Any, Any, None]]


def in_own_loop(test: Test) -> Callable[..., None]:
    @functools.wraps(test)
    def run(**fixtures: Any) -> None:
        anyio.run(functools.partial(test, **fixtures))

    return run


async def wait_until_gone(pid: int) -> None:
    with anyio.fail_after(10):
        while Path(f"/proc/{pid}/stat").exists():
            await anyio.sleep(0.01)


async def read_pid(path: Path) -> int:
    with anyio.fail_after(20):
        while not path.exists() or not path.read_text():
            await anyio.sleep(0.01)
    return int(path.read_text())


def write_pid_and_sleep(path: str) -> None:
    Path(path).write_text(str(os.getpid()))
    time.sleep(60)


@in_own_loop
async def test_a_function_runs_in_another_process() -> None:
    executor: Executor = ProcessExecutor(1)
    assert await executor.run(pow, 2, 10) == 1024
    assert await executor.run(os.getpid) != os.getpid()


@in_own_loop
async def test_a_process_serves_again() -> None:
    executor = ProcessExecutor(1)
    assert await executor.run(os.getpid) == await executor.run(os.getpid)


@in_own_loop
async def test_what_the_function_raises_reaches_the_caller() -> None:
    with pytest.raises(ValueError, match="invalid literal"):
        await ProcessExecutor(1).run(int, "no number")


@in_own_loop
async def test_a_process_that_dies_costs_one_call_only() -> None:
    executor = ProcessExecutor(2)
    with pytest.raises(anyio.BrokenWorkerProcess):
        await executor.run(os._exit, 3)
    assert await executor.run(pow, 3, 2) == 9


@in_own_loop
async def test_a_process_that_is_killed_costs_its_own_call_only(tmp_path: Path) -> None:
    executor = ProcessExecutor(2)
    outcomes = []

    async def doomed() -> None:
        with pytest.raises(anyio.BrokenWorkerProcess):
            await executor.run(write_pid_and_sleep, str(tmp_path / "pid"))
        outcomes.append("lost")

    async def fine() -> None:
        await executor.run(time.sleep, 0.5)
        outcomes.append("done")

    async with anyio.create_task_group() as group:
        group.start_soon(doomed)
        group.start_soon(fine)
        os.kill(await read_pid(tmp_path / "pid"), signal.SIGKILL)
    assert sorted(outcomes) == ["done", "lost"]


@in_own_loop
async def test_cancelling_the_caller_kills_the_process(tmp_path: Path) -> None:
    executor = ProcessExecutor(1)
    async with anyio.create_task_group() as group:
        group.start_soon(executor.run, write_pid_and_sleep, str(tmp_path / "pid"))
        pid = await read_pid(tmp_path / "pid")
        group.cancel_scope.cancel()
    await wait_until_gone(pid)
    assert await executor.run(pow, 3, 2) == 9


@in_own_loop
async def test_no_more_calls_run_at_once_than_there_are_workers(tmp_path: Path) -> None:
    executor = ProcessExecutor(2)
    began: list[float] = []

    async def call() -> None:
        await executor.run(time.sleep, 0.3)
        began.append(time.monotonic())

    await executor.run(os.getpid)
    start = time.monotonic()
    async with anyio.create_task_group() as group:
        for _ in range(4):
            group.start_soon(call)
    assert max(began) - start >= 0.6
