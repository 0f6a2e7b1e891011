"""A call of plugin code: what comes out of it, and what becomes of one that does not end."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Awaitable, Callable
from datetime import timedelta

import anyio
import pytest

from codelupe.contracts.boundary import is_cancelled_by_host
from codelupe.errors import RetryLater
from codelupe.work import plugin_calls
from codelupe.work.attempt import cause_of, describe
from codelupe.work.child_tasks import PluginRaised, contain_child_tasks
from codelupe.work.plugin_calls import PluginCalls, TimeLimitExceeded
from tests.logged import Logged
from tests.processes import HANGS

pytestmark = pytest.mark.anyio

SOON = timedelta(milliseconds=20)


async def call(
    calls: PluginCalls,
    code: Callable[[], Awaitable[object]],
    limit: timedelta | None = None,
    grace: timedelta = timedelta(0),
) -> None:
    await calls.run(code, name="test.s", stream="a/1", limit=limit, grace=grace)


async def test_an_error_comes_as_it_is_and_anything_else_as_an_exception() -> None:
    async def fail() -> None:
        raise ValueError("as it is")

    async def leave() -> None:
        raise SystemExit(3)

    with pytest.raises(ValueError, match="as it is"):
        await call(PluginCalls(), fail)
    with pytest.raises(PluginRaised) as raised:
        await call(PluginCalls(), leave)
    assert describe(cause_of(raised.value)) == "SystemExit: 3"


async def test_the_host_s_cancellation_passes_whatever_the_code_makes_of_it() -> None:
    endings = []

    async def resist(error: BaseException) -> None:
        try:
            await anyio.sleep_forever()
        except BaseException:
            assert is_cancelled_by_host()
            raise error from None

    for error in (ValueError(), SystemExit(), GeneratorExit(), asyncio.CancelledError()):
        with anyio.CancelScope() as scope:
            async with anyio.create_task_group() as group:

                async def run(error: BaseException = error) -> None:
                    try:
                        await call(PluginCalls(), lambda: resist(error))
                    except BaseException as ending:
                        endings.append(type(ending))
                        raise

                group.start_soon(run)
                await anyio.wait_all_tasks_blocked()
                scope.cancel()
    assert endings == [asyncio.CancelledError] * 4


async def test_no_cancellation_of_the_code_s_own_is_left_to_the_caller() -> None:
    async def cancel() -> None:
        task = asyncio.current_task()
        assert task is not None
        task.cancel()

    async def cancel_and_withdraw() -> None:
        await cancel()
        task = asyncio.current_task()
        assert task is not None
        task.uncancel()

    for code in (cancel, cancel_and_withdraw):
        await call(PluginCalls(), code)
        task = asyncio.current_task()
        assert task is not None
        assert task.cancelling() == 0
        await asyncio.sleep(0)


async def test_a_caller_s_own_time_limit_is_no_failure_of_the_code() -> None:
    with anyio.move_on_after(0.01) as scope:
        await call(PluginCalls(), anyio.sleep_forever)
    assert scope.cancelled_caught


async def test_its_time_limit_is_one() -> None:
    with pytest.raises(TimeLimitExceeded, match=r"not done within 0.02 s"):
        await call(PluginCalls(), anyio.sleep_forever, SOON)


async def test_a_time_limit_of_the_code_s_own_is_its_own() -> None:
    async def give_up() -> None:
        with anyio.fail_after(0.001):
            await anyio.sleep_forever()

    with pytest.raises(TimeoutError):
        await call(PluginCalls(), give_up, timedelta(hours=1))


def test_a_coroutine_that_is_torn_down_awaits_nothing() -> None:
    """As at the end of an interpreter, where the loop that ran it is gone."""

    async def wait() -> None:
        await anyio.sleep_forever()

    async def begin() -> None:
        run.send(None)

    run = call(PluginCalls(), wait)
    asyncio.run(begin())
    with pytest.raises((RuntimeError, ValueError)) as raised:
        run.close()
    assert "ignored GeneratorExit" not in str(raised.value), "neither scope nor context can be left without a loop"


# --- child tasks ---


@pytest.mark.parametrize("error", [SystemExit(3), KeyboardInterrupt(), asyncio.CancelledError()])
async def test_a_child_s_end_reaches_the_code_that_started_it(error: BaseException) -> None:
    contain_child_tasks()

    async def child() -> None:
        raise error

    async def start() -> None:
        async with anyio.create_task_group() as group:
            group.start_soon(child)

    with pytest.raises(ExceptionGroup) as raised:
        await call(PluginCalls(), start)
    assert cause_of(raised.value) is error


async def test_a_group_that_the_code_cancels_itself_is_no_failure() -> None:
    contain_child_tasks()

    async def start() -> None:
        async with anyio.create_task_group() as group:
            group.start_soon(anyio.sleep_forever)
            await anyio.wait_all_tasks_blocked()
            group.cancel_scope.cancel()
        task = asyncio.create_task(asyncio.sleep(10))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(asyncio.sleep(10), 0.001)

    await call(PluginCalls(), start)


async def test_a_library_s_task_that_ends_by_a_cancelled_future_is_its_own_affair() -> None:
    contain_child_tasks()

    async def wait_for(future: asyncio.Future[None]) -> None:
        await future

    async def start() -> None:
        future = asyncio.get_running_loop().create_future()
        task = asyncio.create_task(wait_for(future))
        await asyncio.sleep(0)
        future.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    await call(PluginCalls(), start)


# --- the guard ---


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plugin_calls, "_LOOK_SECONDS", 0.01)


class Ending:
    """What would end the process: here it lets the code go on to its end."""

    def __init__(self) -> None:
        self.times = 0
        self.happened = threading.Event()

    def __call__(self) -> None:
        self.times += 1
        self.happened.set()


async def _swallow(ended: threading.Event) -> None:
    while not ended.is_set():
        try:
            await anyio.sleep(0.01)
        except BaseException:
            continue


async def _shield(ended: threading.Event) -> None:
    with anyio.CancelScope(shield=True):
        while not ended.is_set():
            await anyio.sleep(0.01)


async def _block(ended: threading.Event) -> None:
    ended.wait(HANGS)


@pytest.mark.parametrize("stubborn", [_swallow, _shield, _block])
async def test_what_goes_on_after_its_time_is_named_with_its_stack(
    impatient: None, logged: Logged, stubborn: Callable[[threading.Event], Awaitable[None]]
) -> None:
    ending = Ending()
    calls = PluginCalls(end=ending)
    with calls.guarded(), pytest.raises(TimeLimitExceeded) if stubborn is not _block else anyio.fail_after(HANGS):
        await call(calls, lambda: stubborn(ending.happened), SOON, SOON)
    assert ending.times == 1
    [said] = logged.records("handler_ignores_cancellation")
    assert (said["stage"], said["stream"], said["log_level"]) == ("test.s", "a/1", "error")
    assert stubborn.__name__ in said["stack"]
    assert "`codelupe plugins pause test.s`" in said["hint"]


async def test_what_goes_on_after_its_host_cancelled_it_is_named(impatient: None, logged: Logged) -> None:
    ending = Ending()
    calls = PluginCalls(end=ending)
    with calls.guarded(), anyio.move_on_after(0.01):
        await call(calls, lambda: _shield(ending.happened), None, SOON)
    assert logged.count("handler_ignores_cancellation", stage="test.s") == 1


async def test_what_must_end_although_the_loop_cannot_say_so_is_named(impatient: None, logged: Logged) -> None:
    """The lease is lost while a handler blocks the loop: the heartbeat's thread says so."""
    ending = Ending()
    calls = PluginCalls(end=ending)

    async def block() -> None:
        threading.Timer(0.01, calls.end_by, (["test.s"], 0.0)).start()
        ending.happened.wait(HANGS)

    with calls.guarded():
        await call(calls, block, None, SOON)
    assert logged.count("handler_ignores_cancellation", stage="test.s") == 1


async def test_what_cleans_up_within_its_grace_and_what_was_not_cancelled_are_left_alone(
    impatient: None, logged: Logged
) -> None:
    ending = Ending()
    calls = PluginCalls(end=ending)

    async def clean_up() -> None:
        try:
            await anyio.sleep_forever()
        finally:
            with anyio.CancelScope(shield=True):
                await anyio.sleep(0.1)

    async def cancel_itself() -> None:
        with anyio.move_on_after(0.01), anyio.CancelScope(shield=True):
            await anyio.sleep(0.1)
        time.sleep(0.05)

    calls.end_by(["test.s"], 0)
    with calls.guarded():
        with pytest.raises(TimeLimitExceeded):
            await call(calls, clean_up, SOON, timedelta(hours=1))
        await call(calls, cancel_itself)
    assert ending.times == 0


# --- what is said of errors ---


def test_a_group_says_what_is_in_it() -> None:
    several = ExceptionGroup("a", [ValueError("a"), ExceptionGroup("b", [KeyError("b"), PluginRaised(SystemExit(1))])])
    assert describe(cause_of(several)) == "ValueError: a; KeyError: 'b'; SystemExit: 1"
    assert describe(ExceptionGroup("a", [ValueError(str(n)) for n in range(5)])) == (
        "ValueError: 0; ValueError: 1; ValueError: 2 (and 2 more)"
    )
    assert describe(ValueError()) == "ValueError"


def test_several_that_want_to_come_back_later_are_one_that_comes_back_last() -> None:
    soon, late = (RetryLater("away", after=timedelta(seconds=n), counts=False) for n in (1, 2))
    assert cause_of(ExceptionGroup("a", [soon, ExceptionGroup("b", [late, soon])])) is late
    mixed = ExceptionGroup("a", [soon, ValueError()])
    assert cause_of(mixed) is mixed
