"""Plugin code that misbehaves: its failure is its own, and innocent code beside it runs once for each event."""

from __future__ import annotations

import asyncio
import json
import os
import re
import sys
from collections.abc import Awaitable, Callable, Sequence
from datetime import timedelta
from pathlib import Path
from typing import NoReturn

import anyio
import anyio.to_thread
import pytest

from codelupe import (
    BatchContext,
    BatchSubscription,
    Database,
    HandlerContext,
    Job,
    JobContext,
    RetryLater,
    RetryPolicy,
    Service,
    Subscription,
)
from codelupe.daemon import Daemon
from codelupe.errors import DatabaseUnavailable
from codelupe.log import EventLog
from codelupe.work import lost_sessions
from codelupe.work.timings import Timings
from codelupe_events import BatchReady, RepoEmpty, TaskDeadLettered
from tests.conftest import RunUntilIdle
from tests.logged import Logged
from tests.plugins import FAST, batch, empty, make_plugin
from tests.processes import HANGS

pytestmark = pytest.mark.anyio

MakeDaemon = Callable[..., Daemon]
Misdeed = Callable[[], Awaitable[object]]
HOURLY = timedelta(hours=1)
QUICK = Timings(
    leader_poll=0.05, restarts=RetryPolicy(base=timedelta(milliseconds=20), cap=timedelta(milliseconds=100))
)


# --- whatever it raises ---


class PanicException(BaseException):
    """As Rust's panics arrive (PyO3#3918): no ``Exception``."""


async def a_cancelled_future() -> None:
    """A library cancelled what the handler waits for (procrastinate#871, pgqueuer#630)."""
    future = asyncio.get_running_loop().create_future()
    asyncio.get_running_loop().call_soon(future.cancel)
    await future


async def a_cancellation() -> NoReturn:
    raise asyncio.CancelledError


async def its_own_task_s_cancellation() -> None:
    task = asyncio.current_task()
    assert task is not None
    task.cancel()
    await asyncio.sleep(10)


async def a_panic() -> NoReturn:
    raise PanicException("index out of bounds")


async def a_panic_whose_text_panics() -> NoReturn:
    class Mute(BaseException):
        def __str__(self) -> str:
            raise PanicException

    raise Mute


async def a_generator_s_exit() -> NoReturn:
    raise GeneratorExit


async def an_exit() -> NoReturn:
    raise SystemExit(3)


async def an_interrupt() -> NoReturn:
    raise KeyboardInterrupt


async def a_group() -> NoReturn:
    raise BaseExceptionGroup(
        "several", [PanicException("a"), ValueError("b"), BaseExceptionGroup("c", [SystemExit(4)])]
    )


async def a_group_of_one() -> NoReturn:
    raise BaseExceptionGroup("one", [PanicException("a")])


async def a_child_s_cancellation() -> None:
    """It ends a task group of anyio's early, which says nothing (anyio#374)."""
    async with anyio.create_task_group() as group:
        group.start_soon(a_cancelled_future)


async def a_child_s_exit() -> None:
    """In any task it ends the loop of asyncio."""
    async with anyio.create_task_group() as group:
        group.start_soon(an_exit)


async def a_child_s_interrupt() -> None:
    await asyncio.create_task(an_interrupt())


async def a_thread_s_exit() -> None:
    await anyio.to_thread.run_sync(sys.exit, 5)


MISDEEDS: dict[Misdeed, str] = {
    a_cancelled_future: "CancelledError",
    a_cancellation: "CancelledError",
    its_own_task_s_cancellation: "CancelledError",
    a_panic: "PanicException: index out of bounds",
    a_panic_whose_text_panics: "Mute: it cannot say what",
    a_generator_s_exit: "GeneratorExit",
    an_exit: "SystemExit: 3",
    an_interrupt: "KeyboardInterrupt",
    a_group: "PanicException: a; ValueError: b; SystemExit: 4",
    a_group_of_one: "PanicException: a",
    a_child_s_cancellation: "CancelledError",
    a_child_s_exit: "SystemExit: 3",
    a_child_s_interrupt: "KeyboardInterrupt",
    a_thread_s_exit: "SystemExit: 5",
}

every_misdeed = pytest.mark.parametrize(
    ("misdeed", "error"), MISDEEDS.items(), ids=lambda it: getattr(it, "__name__", "")
)


class Innocent:
    """Handles the same events beside it; each must reach it once."""

    def __init__(self) -> None:
        self.handled: list[int] = []
        self.plugin = make_plugin(
            subscriptions=[Subscription(name="s", events=(BatchReady,), handler=self._handle, concurrency=2)]
        )

    async def _handle(self, event: BatchReady, context: HandlerContext) -> None:
        await anyio.sleep(0.05)
        self.handled.append(event.batch_id)


@every_misdeed
@pytest.mark.parametrize("in_transaction", [False, True])
async def test_a_handler_that_raises_it_is_tried_again_and_dead_lettered(
    run_until_idle: RunUntilIdle,
    database: Database,
    logged: Logged,
    misdeed: Misdeed,
    error: str,
    in_transaction: bool,
) -> None:
    innocent, calls, after = Innocent(), list[int](), list[int]()

    async def handle(event: BatchReady, context: HandlerContext) -> None:
        if event.batch_id == 2:
            after.append(event.batch_id)
            return
        calls.append(context.attempt)
        if not in_transaction:
            await misdeed()
        async with context.transaction():
            await misdeed()

    bad = make_plugin(
        subscriptions=[Subscription(name="s", events=(BatchReady,), handler=handle, retry=FAST, concurrency=1)]
    )
    with anyio.fail_after(HANGS):
        events = await run_until_idle({"bad": bad, "innocent": innocent.plugin}, events=[batch(1), batch(2)])
    assert calls == [1, 2, 3]
    assert after == [2], "the same slot handles what comes next"
    assert sorted(innocent.handled) == [1, 2]
    [letter] = [event for event in events if isinstance(event, TaskDeadLettered)]
    assert (letter.subscription, letter.attempts) == ("bad.s", 3)
    assert letter.error.startswith(error)
    assert await database.fetchval("select crashes from tasks") == 0
    assert logged.count("attempt_failed", stage="bad.s") == 2
    assert logged.count("dead_lettered", stage="bad.s") == 1


@every_misdeed
async def test_a_batch_handler_that_raises_it_fails_for_that_event_alone(
    run_until_idle: RunUntilIdle, database: Database, logged: Logged, misdeed: Misdeed, error: str
) -> None:
    innocent, handled = Innocent(), list[int]()

    async def handle(events: Sequence[BatchReady], context: BatchContext) -> None:
        if any(event.batch_id == 1 for event in events):
            await misdeed()
        handled.extend(event.batch_id for event in events)

    bad = make_plugin(subscriptions=[BatchSubscription(name="s", events=(BatchReady,), handler=handle, retry=FAST)])
    numbers = [0, 1, 2]
    with anyio.fail_after(HANGS):
        await run_until_idle({"bad": bad, "innocent": innocent.plugin}, events=[batch(number) for number in numbers])
    assert sorted(handled) == [0, 2]
    assert sorted(innocent.handled) == numbers
    [letter] = await database.fetch("select error, attempts, stream from tasks where state = 'dead_lettered'")
    assert (letter["attempts"], letter["stream"]) == (3, "batch/1")
    assert letter["error"].startswith(error)
    assert logged.count("batch_failed", stage="bad.s", next_size=1) >= 1


@every_misdeed
async def test_a_job_that_raises_it_has_failed_and_the_others_run(
    make_daemon: MakeDaemon, database: Database, logged: Logged, misdeed: Misdeed, error: str
) -> None:
    innocent, runs, others = Innocent(), list[int](), list[int]()
    await EventLog(database).publish(batch(1))

    async def run(context: JobContext) -> None:
        runs.append(len(runs))
        await misdeed()

    async def other(context: JobContext) -> None:
        others.append(len(others))

    bad = make_plugin(
        jobs=[Job(name="j", every=timedelta(milliseconds=20), run=run)],
    )
    sound = make_plugin(
        jobs=[Job(name="j", every=timedelta(milliseconds=20), run=other)],
    )
    plugins = {"bad": bad, "innocent": innocent.plugin, "sound": sound}
    with anyio.fail_after(HANGS):
        outcome = await make_daemon(plugins).run()
    assert list(outcome.failed_jobs) == ["bad.j"]
    assert outcome.failed_jobs["bad.j"].startswith(error)
    assert innocent.handled == [1]
    runs.clear()
    others.clear()
    async with anyio.create_task_group() as group:
        group.start_soon(make_daemon(plugins, until_idle=False).run)
        with anyio.fail_after(HANGS):
            while min(len(runs), len(others)) < 3:
                await anyio.sleep(0.01)
        group.cancel_scope.cancel()
    failures = logged.records("job_failed")
    assert len(failures) >= 3
    assert all(failure["stage"] == "bad.j" and failure["error"].startswith(error) for failure in failures)


@every_misdeed
@pytest.mark.parametrize("leader", [False, True])
async def test_a_service_that_raises_it_is_started_again_and_the_others_run(
    make_daemon: MakeDaemon, logged: Logged, misdeed: Misdeed, error: str, leader: bool
) -> None:
    starts, others = list[int](), list[int]()

    async def serve(context: JobContext) -> None:
        starts.append(len(starts))
        await misdeed()

    async def other(context: JobContext) -> None:
        others.append(len(others))
        await anyio.sleep_forever()

    bad = make_plugin(services=[Service(name="s", run=serve, leader=leader)])
    sound = make_plugin(services=[Service(name="s", run=other)])
    async with anyio.create_task_group() as group:
        group.start_soon(make_daemon({"bad": bad, "sound": sound}, until_idle=False, timings=QUICK).run)
        with anyio.fail_after(HANGS):
            while len(starts) < 3:
                await anyio.sleep(0.01)
        group.cancel_scope.cancel()
    assert others == [0]
    assert logged.count("service_failed", stage="bad.s") >= 2
    assert all(record["error"].startswith(error) for record in logged.records("service_failed"))


async def test_a_cancellation_that_a_handler_requested_and_did_not_wait_for_hits_neither_host_nor_next_task(
    run_until_idle: RunUntilIdle, database: Database
) -> None:
    """asyncio delivers it at the next ``await``, which is the host's."""
    handled = []

    async def handle(event: BatchReady, context: HandlerContext) -> None:
        handled.append((event.batch_id, context.attempt))
        task = asyncio.current_task()
        assert task is not None
        if event.batch_id in (1, 2):
            task.cancel()
        if event.batch_id == 2:
            task.uncancel()  # which takes back the count alone before Python 3.13

    it = make_plugin(subscriptions=[Subscription(name="s", events=(BatchReady,), handler=handle, concurrency=1)])
    await run_until_idle({"test": it}, events=[batch(1), batch(2), batch(3)])
    assert handled == [(1, 1), (2, 1), (3, 1)]
    assert await database.fetchval("select count(*) from tasks") == 0


async def test_the_host_s_cancellation_wins_over_what_a_handler_makes_of_it(
    make_daemon: MakeDaemon, database: Database, logged: Logged
) -> None:
    await EventLog(database).publish(batch(1))
    await EventLog(database).publish(batch(2))
    begun = list[int]()

    async def handle(event: BatchReady, context: HandlerContext) -> None:
        begun.append(event.batch_id)
        try:
            await anyio.sleep_forever()
        except BaseException:
            if event.batch_id == 1:
                raise ValueError("instead") from None

    it = make_plugin(subscriptions=[Subscription(name="s", events=(BatchReady,), handler=handle)])
    async with anyio.create_task_group() as group:
        group.start_soon(make_daemon({"test": it}, until_idle=False).run)
        with anyio.fail_after(HANGS):
            while len(begun) < 2:
                await anyio.sleep(0.01)
        group.cancel_scope.cancel()
    rows = await database.fetch("select state, attempts, crashes from tasks")
    assert [tuple(row) for row in rows] == [("ready", 0, 1), ("ready", 0, 1)]
    assert logged.count("attempt_failed") == 0


# --- how long it takes ---

AT_ONCE = timedelta(milliseconds=50)


@pytest.mark.parametrize("in_transaction", [False, True])
async def test_a_handler_that_takes_too_long_is_cancelled_and_has_failed(
    run_until_idle: RunUntilIdle, database: Database, in_transaction: bool
) -> None:
    calls, cancelled = list[int](), list[int]()

    async def handle(event: BatchReady, context: HandlerContext) -> None:
        calls.append(context.attempt)
        try:
            if not in_transaction:
                await anyio.sleep_forever()
            async with context.transaction() as connection:
                await connection.execute("create table never (a int)")
                await connection.execute("select pg_sleep(600)")
        except BaseException:
            cancelled.append(context.attempt)
            raise

    it = make_plugin(
        subscriptions=[Subscription(name="s", events=(BatchReady,), handler=handle, retry=FAST, timeout=AT_ONCE)]
    )
    with anyio.fail_after(HANGS):
        await run_until_idle({"test": it}, events=[batch(1)])
    assert calls == cancelled == [1, 2, 3]
    error = await database.fetchval("select error from tasks where state = 'dead_lettered'")
    assert error == "TimeLimitExceeded: not done within 0.05 s, which is its timeout"
    assert await database.fetchval("select to_regclass('never')") is None


async def test_a_handler_that_swallows_its_timeout_and_returns_has_failed(
    run_until_idle: RunUntilIdle, database: Database
) -> None:
    async def handle(event: BatchReady, context: HandlerContext) -> None:
        try:
            await anyio.sleep_forever()
        except BaseException:
            context.emit(empty(1))

    it = make_plugin(
        subscriptions=[Subscription(name="s", events=(BatchReady,), handler=handle, retry=FAST, timeout=AT_ONCE)]
    )
    events = await run_until_idle({"test": it}, events=[batch(1)])
    assert [type(event) for event in events] == [BatchReady, TaskDeadLettered]


async def test_a_batch_that_takes_too_long_fails_and_is_tried_in_pieces(
    run_until_idle: RunUntilIdle, database: Database
) -> None:
    sizes, handled = list[int](), list[int]()

    async def handle(events: Sequence[BatchReady], context: BatchContext) -> None:
        sizes.append(len(events))
        if any(event.batch_id == 1 for event in events):
            await anyio.sleep_forever()
        handled.extend(event.batch_id for event in events)

    it = make_plugin(
        subscriptions=[
            BatchSubscription(name="s", events=(BatchReady,), handler=handle, retry=FAST, timeout=AT_ONCE, size=8)
        ]
    )
    with anyio.fail_after(HANGS):
        await run_until_idle({"test": it}, events=[batch(number) for number in range(3)])
    assert sizes[0] == 3
    assert sorted(handled) == [0, 2]
    assert "its timeout" in await database.fetchval("select error from tasks where state = 'dead_lettered'")


async def test_a_job_that_takes_too_long_has_failed(make_daemon: MakeDaemon) -> None:
    async def run(context: JobContext) -> None:
        await anyio.sleep_forever()

    it = make_plugin(jobs=[Job(name="j", every=HOURLY, run=run, timeout=AT_ONCE)])
    with anyio.fail_after(HANGS):
        outcome = await make_daemon({"test": it}).run()
    assert "its timeout" in outcome.failed_jobs["test.j"]


async def test_what_fails_after_it_has_committed_is_said_and_not_tried_again(
    run_until_idle: RunUntilIdle, database: Database, logged: Logged
) -> None:
    calls = []

    async def handle(event: BatchReady, context: HandlerContext) -> None:
        calls.append(context.attempt)
        async with context.transaction():
            context.emit(empty(1))
        raise RuntimeError("too late")

    retry = RetryPolicy(attempts=1)
    it = make_plugin(subscriptions=[Subscription(name="s", events=(BatchReady,), handler=handle, retry=retry)])
    events = await run_until_idle({"test": it}, events=[batch(1)])
    assert calls == [1]
    assert events == [batch(1), empty(1)]
    assert logged.count("failed_after_commit", stage="test.s", error="RuntimeError: too late") == 1


# --- that it does not end ---


@pytest.mark.parametrize("way", ["swallows", "blocks", "shields", "swallows_in_job", "swallows_when_drained"])
async def test_what_ignores_its_cancellation_is_named_and_ends_the_process_and_counts_a_crash(
    database: Database, database_url: str, tmp_path: Path, way: str
) -> None:
    """A real daemon ends with EX_SOFTWARE, so that systemd starts it again; the next one finds that it crashed."""
    await EventLog(database).publish(batch(1))
    arguments = [sys.executable, "-m", "tests.integration.stubborn", database_url, str(tmp_path / "state"), way]
    with (tmp_path / "log").open("w") as output:
        process = await anyio.open_process(arguments, stdout=output, stderr=output, env={**os.environ})
        async with process:
            with anyio.fail_after(HANGS):
                await process.wait()
    text = (tmp_path / "log").read_text()
    assert process.returncode == os.EX_SOFTWARE, text
    [said] = [one for one in map(json.loads, text.splitlines()) if one["event"] == "handler_ignores_cancellation"]
    assert said["stage"] == ("stubborn.j" if "job" in way else "stubborn.s")
    assert said["seconds"] > 0.5
    assert "go_on" in said["stack"]
    if "job" not in way:
        assert said["stream"] == "batch/1"
        await until_reaped(database)
        assert await database.fetchval("select crashes from tasks") == 1


async def until_reaped(database: Database) -> None:
    from codelupe.log.records import uuid7
    from codelupe.work.task_queue import TaskQueue

    assert await TaskQueue(database).reap(uuid7()) == (1, 1), "its process is gone, and its lease has not run out"


async def test_what_had_begun_and_did_not_end_counts_a_crash_when_its_worker_leaves_in_order(
    make_daemon: MakeDaemon, database: Database, logged: Logged
) -> None:
    """A handler that always takes longer than the process lives is dead-lettered in the end (hindsight#2675).

    One slot: what waits for it has not begun, and is given back untouched.
    """
    await EventLog(database).publish(batch(1))
    await EventLog(database).publish(batch(2))
    begun = list[int]()

    async def handle(event: BatchReady, context: HandlerContext) -> None:
        begun.append(event.batch_id)
        await anyio.sleep_forever()

    retry = RetryPolicy(crashes=3)
    it = make_plugin(
        subscriptions=[Subscription(name="s", events=(BatchReady,), handler=handle, retry=retry, concurrency=1)]
    )

    async def run_until(condition: Callable[[], bool]) -> None:
        async with anyio.create_task_group() as group:
            group.start_soon(make_daemon({"test": it}, until_idle=False).run)
            with anyio.fail_after(HANGS):
                while not condition() or await database.fetchval("select count(*) from tasks") < 2:
                    await anyio.sleep(0.01)
            group.cancel_scope.cancel()

    while max(begun.count(1), begun.count(2)) < 3:
        wanted = len(begun) + 1
        await run_until(lambda wanted=wanted: len(begun) == wanted)  # type: ignore[misc]
        rows = await database.fetch("select state, crashes from tasks order by position")
        assert [tuple(row) for row in rows] == [("ready", begun.count(1)), ("ready", begun.count(2))]
    fatal = max((1, 2), key=begun.count)
    await run_until(lambda: logged.count("dead_lettered", stream=f"batch/{fatal}") == 1)
    assert begun.count(fatal) == 3


async def test_work_that_comes_forward_may_be_restarted_as_often_as_it_takes(
    make_daemon: MakeDaemon, database: Database
) -> None:
    await EventLog(database).publish(batch(1))
    steps = list[int]()

    async def handle(event: BatchReady, context: HandlerContext) -> None:
        step = 1 + (context.checkpoint or {"step": 0})["step"]
        await context.save_checkpoint({"step": step})
        steps.append(step)
        await anyio.sleep_forever()

    retry = RetryPolicy(crashes=2)
    it = make_plugin(subscriptions=[Subscription(name="s", events=(BatchReady,), handler=handle, retry=retry)])
    for turn in range(1, 6):
        async with anyio.create_task_group() as group:
            group.start_soon(make_daemon({"test": it}, until_idle=False).run)
            with anyio.fail_after(HANGS):
                while len(steps) < turn:
                    await anyio.sleep(0.01)
            group.cancel_scope.cancel()
    assert steps == [1, 2, 3, 4, 5]
    assert await database.fetchval("select crashes from tasks") == 1


# --- outages ---


async def test_a_batch_waits_for_what_is_away_whole_and_says_so_once(
    run_until_idle: RunUntilIdle, database: Database, logged: Logged
) -> None:
    sizes = []

    async def handle(events: Sequence[BatchReady], context: BatchContext) -> None:
        sizes.append(len(events))
        assert await database.fetchval("select count(*) from tasks") == 0
        if len(sizes) < 30:
            raise RetryLater("the index is away", after=timedelta(milliseconds=1), counts=False)

    it = make_plugin(subscriptions=[BatchSubscription(name="s", events=(BatchReady,), handler=handle, retry=FAST)])
    with anyio.fail_after(HANGS):
        await run_until_idle({"test": it}, events=[batch(number) for number in range(5)])
    assert sizes == [5] * 30
    assert logged.count("retry_later", log_level="warning", stage="test.s", reason="the index is away") == 1
    assert logged.count("retry_later_over", log_level="info", stage="test.s") == 1
    assert logged.count("batch_failed") == 0


async def test_a_batch_that_waits_does_not_hold_up_a_stop(
    make_daemon: MakeDaemon, database: Database, logged: Logged
) -> None:
    await EventLog(database).publish(batch(1))

    async def handle(events: Sequence[BatchReady], context: BatchContext) -> None:
        raise RetryLater("the index is away", after=HOURLY, counts=False)

    it = make_plugin(subscriptions=[BatchSubscription(name="s", events=(BatchReady,), handler=handle, retry=FAST)])
    with anyio.fail_after(HANGS):
        async with anyio.create_task_group() as group:
            group.start_soon(make_daemon({"test": it}, until_idle=False).run)
            await logged.wait_for("retry_later")
            group.cancel_scope.cancel()


@pytest.mark.parametrize(
    ("error", "began", "ended"),
    [
        (RetryLater("no paint", after=timedelta(milliseconds=1), counts=False), "retry_later", "retry_later_over"),
        (DatabaseUnavailable("gone"), "database_unavailable", "database_available"),
        (
            ExceptionGroup("both", [RetryLater("no paint", after=AT_ONCE, counts=False)] * 2),
            "retry_later",
            "retry_later_over",
        ),
    ],
    ids=["later", "database", "several"],
)
async def test_an_outage_that_many_handlers_meet_is_one_warning_and_one_line_at_its_end(
    run_until_idle: RunUntilIdle, logged: Logged, error: Exception, began: str, ended: str
) -> None:
    calls = list[int]()

    async def handle(event: BatchReady, context: HandlerContext) -> None:
        calls.append(context.attempt)
        if len(calls) < 16:
            raise error

    it = make_plugin(subscriptions=[Subscription(name="s", events=(BatchReady,), handler=handle, retry=FAST)])
    with anyio.fail_after(HANGS):
        await run_until_idle({"test": it}, events=[batch(number) for number in range(8)])
    assert set(calls) == {1}
    assert logged.count(began, log_level="warning") == 1
    assert logged.count(began, log_level="debug") == 14
    assert logged.count(ended, log_level="info") == 1


async def test_another_database_that_is_away_is_the_failure_of_who_needs_it(
    make_daemon: MakeDaemon, database: Database, logged: Logged
) -> None:
    """The host knows nothing of when that one comes back; its own is there."""

    async def connect(*_: object) -> None:
        async with Database("postgresql://127.0.0.1:1/none"):
            raise AssertionError("nothing listens there")

    it = make_plugin(
        subscriptions=[
            Subscription(name="s", events=(BatchReady,), handler=connect, retry=FAST),
            BatchSubscription(name="b", events=(BatchReady,), handler=connect, retry=FAST),
        ],
        jobs=[Job(name="j", every=HOURLY, run=connect)],
    )
    await EventLog(database).publish(batch(1))
    with anyio.fail_after(HANGS):
        outcome = await make_daemon({"test": it}).run()
    rows = await database.fetch(
        "select subscription, attempts, error from tasks where state = 'dead_lettered' order by 1"
    )
    assert [(row["subscription"], row["attempts"]) for row in rows] == [("test.b", 3), ("test.s", 3)]
    errors = [*(row["error"] for row in rows), outcome.failed_jobs["test.j"]]
    assert all(error.startswith("DatabaseUnavailable: the database at 127.0.0.1:1/none") for error in errors)
    assert logged.count("database_unavailable") == 0


# --- what it emits ---


async def test_an_event_emitted_after_the_commit_is_refused(run_until_idle: RunUntilIdle) -> None:
    """Also by a task that outlives the handler, and while the handling is being completed."""
    errors, late = list[str](), anyio.Event()
    tasks = list[asyncio.Task[None]]()

    async def handle(event: BatchReady, context: HandlerContext) -> None:
        async def emit_later() -> None:
            await late.wait()
            emit()

        def emit() -> None:
            try:
                context.emit(empty(1))
            except RuntimeError as error:
                errors.append(str(error))

        tasks.append(asyncio.create_task(emit_later()))
        if event.batch_id == 1:
            async with context.transaction():
                context.emit(empty(2))
            emit()
            with pytest.raises(RuntimeError):
                await context.emit_now(empty(1))

    it = make_plugin(subscriptions=[Subscription(name="s", events=(BatchReady,), handler=handle)])
    events = await run_until_idle({"test": it}, events=[batch(1), batch(2)])
    late.set()
    await asyncio.gather(*tasks)
    assert [event for event in events if isinstance(event, RepoEmpty)] == [empty(2)]
    assert len(errors) == 3
    assert all(re.match(r"test\.s emitted a RepoEmpty too late: ", error) for error in errors)


async def test_what_was_emitted_in_a_transaction_that_rolled_back_is_gone_with_it(
    run_until_idle: RunUntilIdle, database: Database
) -> None:
    """What was emitted before stays (domain-events-bundle#46), and keys are those of a handling without it."""

    async def handle(event: BatchReady, context: HandlerContext) -> None:
        context.emit(empty(1))
        with pytest.raises(ValueError, match="no"):
            async with context.transaction() as connection:
                await connection.execute("create table never (a int)")
                context.emit(empty(1))
                await context.emit_now(empty(1))
                context.emit(empty(3))
                raise ValueError("no")
        context.emit(empty(1))
        async with context.transaction():
            context.emit(empty(4))

    it = make_plugin(subscriptions=[Subscription(name="s", events=(BatchReady,), handler=handle)])
    events = await run_until_idle({"test": it}, events=[batch(1)])
    assert sorted(event.repository_id for event in events if isinstance(event, RepoEmpty)) == [
        "test:1",
        "test:1",
        "test:1",
        "test:4",
    ], "none has the key of the one that was appended at once"


async def test_a_batch_s_late_event_is_refused(run_until_idle: RunUntilIdle) -> None:
    kept = list[tuple[BatchContext, BatchReady]]()

    async def handle(events: Sequence[BatchReady], context: BatchContext) -> None:
        kept.append((context, events[0]))

    it = make_plugin(subscriptions=[BatchSubscription(name="s", events=(BatchReady,), handler=handle)])
    await run_until_idle({"test": it}, events=[batch(1)])
    [(context, event)] = kept
    with pytest.raises(RuntimeError, match=r"test\.s"):
        context.emit(empty(1), because=event)


async def test_transactions_of_a_job_at_the_same_time_each_have_their_own_events(
    make_daemon: MakeDaemon, database: Database
) -> None:
    errors = list[str]()

    async def run(context: JobContext) -> None:
        entered, go_on = list[int](), anyio.Event()

        async def one(number: int) -> None:
            try:
                async with context.transaction():
                    entered.append(number)
                    if len(entered) == 6:
                        go_on.set()
                    await go_on.wait()
                    context.emit(empty(number), key=str(number))
                    await anyio.sleep(0.01 * (number % 3))
                    if number in (2, 4):
                        raise ValueError("no")
            except ValueError:
                pass

        async with anyio.create_task_group() as group:
            for number in range(6):
                group.start_soon(one, number)
        try:
            context.emit(empty(9))
        except RuntimeError as error:
            errors.append(str(error))

    it = make_plugin(jobs=[Job(name="j", every=HOURLY, run=run)])
    outcome = await make_daemon({"test": it}).run()
    assert outcome.failed_jobs == {}
    events = [event.decode() async for event in EventLog(database).read()]
    assert sorted(str(event) for event in events) == sorted(str(empty(number)) for number in (0, 1, 3, 5))
    assert errors[0] == "test.j emitted a RepoEmpty outside a transaction"


async def test_a_job_s_transaction_inside_another_is_one_of_its_own(
    make_daemon: MakeDaemon, database: Database
) -> None:
    async def run(context: JobContext) -> None:
        with pytest.raises(ValueError, match="outer"):
            async with context.transaction():
                context.emit(empty(1))
                async with context.transaction():
                    context.emit(empty(2), key="2")
                context.emit(empty(3))
                raise ValueError("outer")

    it = make_plugin(jobs=[Job(name="j", every=HOURLY, run=run)])
    assert (await make_daemon({"test": it}).run()).failed_jobs == {}
    assert [event.decode() async for event in EventLog(database).read()] == [empty(2)]


# --- sessions that it ends itself ---

_END = "select pg_terminate_backend(pg_backend_pid())"


@pytest.fixture
def two_sessions(monkeypatch: pytest.MonkeyPatch) -> None:
    """So many may be lost in a row."""
    monkeypatch.setattr(lost_sessions, "LIMIT", 2)


@pytest.mark.usefixtures("two_sessions")
async def test_a_handler_that_always_ends_its_session_is_dead_lettered_and_not_taken_for_an_outage(
    run_until_idle: RunUntilIdle, database: Database
) -> None:
    async def handle(event: BatchReady, context: HandlerContext) -> None:
        await context.database.execute(_END)

    it = make_plugin(subscriptions=[Subscription(name="s", events=(BatchReady,), handler=handle, retry=FAST)])
    await run_until_idle({"test": it}, events=[batch(1)])
    [dead] = await database.fetch("select attempts, error from tasks where state = 'dead_lettered'")
    assert dead["attempts"] == FAST.attempts
    assert "terminating connection" in dead["error"]


@pytest.mark.usefixtures("two_sessions")
async def test_a_batch_handler_that_always_ends_its_session_is_dead_lettered_and_the_other_events_are_handled(
    run_until_idle: RunUntilIdle, database: Database
) -> None:
    handled: list[int] = []

    async def handle(events: Sequence[BatchReady], context: BatchContext) -> None:
        if any(event.batch_id == 2 for event in events):
            await context.connection.execute(_END)
        handled.extend(event.batch_id for event in events)

    subscription = BatchSubscription(name="s", events=(BatchReady,), handler=handle, retry=FAST)
    await run_until_idle({"test": make_plugin(subscriptions=[subscription])}, events=[batch(n) for n in (1, 2, 3)])
    assert handled == [1, 3]
    assert await database.fetchval("select stream from tasks where state = 'dead_lettered'") == "batch/2"


@pytest.mark.usefixtures("two_sessions")
async def test_a_job_that_always_ends_its_session_has_failed(make_daemon: MakeDaemon) -> None:
    async def run(context: JobContext) -> None:
        await context.database.execute(_END)

    outcome = await make_daemon({"test": make_plugin(jobs=[Job(name="j", every=HOURLY, run=run)])}).run()
    assert "terminating connection" in outcome.failed_jobs["test.j"]


# --- transactions that it ends itself ---

ENDINGS = [
    "commit",
    "rollback",
    "commit; begin",
    "commit and chain",
    "COMMIT WORK;\nBEGIN",
    "commit|begin",
    "rollback|begin",
    "end; begin",
    "commit; select 1; begin",
    "commit /* x */ ; begin",
    "rollback; select 1;; start transaction",
    "rollback; select repeat('x', 300000); begin",
    "/* x */ abort and chain",
    "select 1; -- x\n rollback work and chain",
]


@pytest.mark.parametrize("ending", ENDINGS)
async def test_a_handler_that_ends_its_transaction_itself_is_named_and_its_task_not_completed(
    run_until_idle: RunUntilIdle, database: Database, ending: str
) -> None:
    async def handle(event: BatchReady, context: HandlerContext) -> None:
        async with context.transaction() as connection:
            context.emit(empty(1))
            for statement in ending.split("|"):
                await connection.execute(statement)

    it = make_plugin(subscriptions=[Subscription(name="s", events=(BatchReady,), handler=handle, retry=FAST)])
    events = await run_until_idle({"test": it}, events=[batch(1)])
    assert [type(event) for event in events] == [BatchReady, TaskDeadLettered]
    error = await database.fetchval("select error from tasks where state = 'dead_lettered'")
    assert "test.s ended the transaction" in error


@pytest.mark.parametrize("ending", ENDINGS)
async def test_a_batch_handler_that_ends_its_transaction_itself_is_named(
    run_until_idle: RunUntilIdle, database: Database, ending: str
) -> None:
    async def handle(events: Sequence[BatchReady], context: BatchContext) -> None:
        for event in events:
            context.emit(empty(1), because=event)
        for statement in ending.split("|"):
            await context.connection.execute(statement)

    it = make_plugin(subscriptions=[BatchSubscription(name="s", events=(BatchReady,), handler=handle, retry=FAST)])
    events = await run_until_idle({"test": it}, events=[batch(1), batch(2)])
    assert sorted({type(event).__name__ for event in events}) == ["BatchReady", "TaskDeadLettered"]
    error = await database.fetchval("select error from tasks where state = 'dead_lettered' limit 1")
    assert "test.s ended the transaction" in error


@pytest.mark.parametrize("ending", ENDINGS)
async def test_a_job_that_ends_its_transaction_itself_has_failed(
    make_daemon: MakeDaemon, database: Database, ending: str
) -> None:
    async def run(context: JobContext) -> None:
        async with context.transaction() as connection:
            context.emit(empty(1))
            for statement in ending.split("|"):
                await connection.execute(statement)

    it = make_plugin(jobs=[Job(name="j", every=HOURLY, run=run)])
    outcome = await make_daemon({"test": it}).run()
    assert "test.j ended the transaction" in outcome.failed_jobs["test.j"]
    assert await database.fetchval("select count(*) from events") == 0


@pytest.mark.parametrize("ending", ["commit", "end and chain", "rollback and chain", "/* x */ ; rollback and chain"])
async def test_an_ending_that_is_prepared_is_noticed_too(
    run_until_idle: RunUntilIdle, database: Database, ending: str
) -> None:
    async def handle(event: BatchReady, context: HandlerContext) -> None:
        async with context.transaction() as connection:
            await connection.fetch(ending)

    it = make_plugin(subscriptions=[Subscription(name="s", events=(BatchReady,), handler=handle, retry=FAST)])
    await run_until_idle({"test": it}, events=[batch(1)])
    error = await database.fetchval("select error from tasks where state = 'dead_lettered'")
    assert "test.s ended the transaction" in error


async def test_a_handler_that_changes_how_the_host_s_values_travel_is_named_and_nothing_is_appended_so(
    run_until_idle: RunUntilIdle, database: Database
) -> None:
    async def handle(event: BatchReady, context: HandlerContext) -> None:
        async with context.transaction() as connection:
            await connection.set_type_codec("jsonb", schema="pg_catalog", encoder=repr, decoder=str)
            context.emit(empty(1))

    it = make_plugin(subscriptions=[Subscription(name="s", events=(BatchReady,), handler=handle, retry=FAST)])
    events = await run_until_idle({"test": it}, events=[batch(1)])
    assert [type(event) for event in events] == [BatchReady, TaskDeadLettered]
    error = await database.fetchval("select error from tasks where state = 'dead_lettered'")
    assert "test.s changed how values of Postgres' own types travel" in error


async def test_savepoints_and_blocks_of_code_are_a_handler_s_to_use(
    run_until_idle: RunUntilIdle, database: Database
) -> None:
    async def handle(event: BatchReady, context: HandlerContext) -> None:
        async with context.transaction() as connection:
            await connection.execute("create table kept (text text)")
            with pytest.raises(ZeroDivisionError):
                async with connection.transaction():
                    await connection.execute("insert into kept values ('gone')")
                    raise ZeroDivisionError
            await connection.execute("do $$ begin begin null; end; begin null; end; end $$")
            await connection.execute("insert into kept values ($1)", "commit; begin")
            await connection.execute("delete from kept where text = 'rollback; begin'")
            await connection.execute("savepoint here; rollback to here; release here")

    it = make_plugin(subscriptions=[Subscription(name="s", events=(BatchReady,), handler=handle)])
    await run_until_idle({"test": it}, events=[batch(1)])
    assert await database.fetchval("select text from kept") == "commit; begin"
