"""The log's protocol on a real Postgres: order, retry, dead letters, fencing tokens, leases, idempotency, drain."""

from __future__ import annotations

import os
import signal
import uuid
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from datetime import timedelta

import anyio
import pytest

from codelupe import Database, HandlerContext, Job, JobContext, Reject, RetryLater, RetryPolicy, Subscription
from codelupe.daemon import Daemon
from codelupe.errors import DatabaseUnavailable, LeaseLost
from codelupe.log import Entry, EventLog
from codelupe.log.entries import EventRefused
from codelupe.log.event_log import SQL
from codelupe.log.records import derive_key, uuid7
from codelupe.work.subscriptions import Subscribed
from codelupe.work.task import Task, complete
from codelupe.work.task_queue import Fed, FeedRequest, TaskQueue
from codelupe_events import BatchReady, Event, RepoEmpty, TaskDeadLettered
from tests.clock import Clock
from tests.conftest import RunUntilIdle
from tests.logged import Logged
from tests.plugins import batch, empty, make_plugin
from tests.processes import HANGS

pytestmark = pytest.mark.anyio

FAST = RetryPolicy(attempts=3, base=timedelta(milliseconds=10), cap=timedelta(milliseconds=50))


async def test_a_handler_s_rows_events_and_completion_commit_together(
    run_until_idle: RunUntilIdle, database: Database
) -> None:
    await database.execute("create table seen (batch int)")

    async def handle(event: BatchReady, context: HandlerContext) -> None:
        async with context.transaction() as connection:
            await connection.execute("insert into seen values ($1)", event.batch_id)
            context.emit(empty(event.batch_id))
            if event.batch_id == 2 and context.attempt == 1:
                raise RuntimeError("after the row, before the commit")

    it = make_plugin(subscriptions=[Subscription(name="s", events=(BatchReady,), handler=handle, retry=FAST)])
    events = await run_until_idle({"test": it}, events=[batch(1), batch(2)])
    assert sorted(row["batch"] for row in await database.fetch("select batch from seen")) == [1, 2]
    assert [event for event in events if isinstance(event, RepoEmpty)] == [empty(1), empty(2)]
    assert await database.fetchval("select count(*) from tasks") == 0


async def test_events_of_a_stream_arrive_in_order_and_streams_in_parallel(run_until_idle: RunUntilIdle) -> None:
    seen: dict[int, list[int]] = {1: [], 2: []}
    both_streams = anyio.Event()
    active: set[int] = set()

    async def handle(event: BatchReady, context: HandlerContext) -> None:
        assert event.batch_id not in active, "two events of one stream at once"
        active.add(event.batch_id)
        if len(active) == 2:
            both_streams.set()
        if event.files == 0:
            with anyio.fail_after(HANGS):
                await both_streams.wait()
        if event.files == 3 and context.attempt == 1:
            active.discard(event.batch_id)
            raise RuntimeError("the rest of the stream waits for my retry")
        seen[event.batch_id].append(event.files)
        active.discard(event.batch_id)

    it = make_plugin(
        subscriptions=[Subscription(name="s", events=(BatchReady,), handler=handle, concurrency=8, retry=FAST)]
    )
    await run_until_idle({"test": it}, events=[batch(stream, n) for n in range(10) for stream in (1, 2)])
    assert seen == {1: list(range(10)), 2: list(range(10))}


@pytest.mark.parametrize(("error", "attempts"), [(Reject("no use"), 1), (RuntimeError("always"), 3)])
async def test_what_cannot_be_handled_is_dead_lettered_and_said(
    run_until_idle: RunUntilIdle, database: Database, error: Exception, attempts: int
) -> None:
    calls = []

    async def handle(event: BatchReady, context: HandlerContext) -> None:
        calls.append(context.attempt)
        raise error

    it = make_plugin(subscriptions=[Subscription(name="s", events=(BatchReady,), handler=handle, retry=FAST)])
    events = await run_until_idle({"test": it}, events=[batch(1), batch(1, 2)])
    assert calls == list(range(1, attempts + 1)), "the second event of the stream waits behind the dead letter"
    [dead_letter] = [event for event in events if isinstance(event, TaskDeadLettered)]
    assert (dead_letter.subscription, dead_letter.attempts, dead_letter.event_type) == (
        "test.s",
        attempts,
        "BatchReady",
    )
    row = await database.fetchrow("select * from tasks where state = 'dead_lettered'")
    assert row is not None
    assert str(error) in row["error"]
    assert "Traceback" in row["traceback"]


async def test_a_dead_lettered_event_lets_its_stream_pass_when_the_subscription_says_so(
    run_until_idle: RunUntilIdle,
) -> None:
    seen = []

    async def handle(event: BatchReady, context: HandlerContext) -> None:
        if event.files == 0:
            raise Reject("no use")
        seen.append(event.files)

    it = make_plugin(
        subscriptions=[Subscription(name="s", events=(BatchReady,), handler=handle, dead_letter_blocks_stream=False)]
    )
    await run_until_idle({"test": it}, events=[batch(1, n) for n in range(3)])
    assert seen == [1, 2]


async def test_retry_later_need_not_use_up_an_attempt(run_until_idle: RunUntilIdle) -> None:
    calls = []

    async def handle(event: BatchReady, context: HandlerContext) -> None:
        calls.append(context.attempt)
        if len(calls) < 6:
            raise RetryLater("not yet", after=timedelta(milliseconds=1), counts=False)

    it = make_plugin(subscriptions=[Subscription(name="s", events=(BatchReady,), handler=handle, retry=FAST)])
    await run_until_idle({"test": it}, events=[batch(1)])
    assert calls == [1] * 6


async def test_a_broken_handler_harms_nobody_else(run_until_idle: RunUntilIdle) -> None:
    seen = []

    async def exit_(event: BatchReady, context: HandlerContext) -> None:
        raise SystemExit(3)

    async def handle(event: BatchReady, context: HandlerContext) -> None:
        seen.append(event.batch_id)

    broken = make_plugin(subscriptions=[Subscription(name="s", events=(BatchReady,), handler=exit_, retry=FAST)])
    sound = make_plugin(subscriptions=[Subscription(name="s", events=(BatchReady,), handler=handle)])
    await run_until_idle({"broken": broken, "sound": sound}, events=[batch(1), batch(2)])
    assert sorted(seen) == [1, 2]


async def test_no_more_tasks_are_asked_for_than_slots_are_free(
    run_until_idle: RunUntilIdle, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A task that waits here behind a long one would be another process's."""
    asked, most, at_work, both_at_once = Counter[str](), Counter[str](), Counter[str](), []
    claim, feed = TaskQueue.claim, TaskQueue.feed

    @contextmanager
    def asking(name: str, room: int) -> Iterator[None]:
        both_at_once.append(asked.total() > 0)
        asked[name] += room
        most[name] = max(most[name], asked[name] + at_work[name])
        yield
        asked[name] -= room

    async def slow_claim(queue: TaskQueue, subscription: Subscribed, worker: uuid.UUID, at_most: int) -> list[Task]:
        with asking(subscription.name, at_most):
            await anyio.sleep(0.02)
            return await claim(queue, subscription, worker, at_most)

    async def slow_feed(queue: TaskQueue, requests: Sequence[FeedRequest], worker: uuid.UUID) -> dict[str, Fed]:
        with ExitStack() as stack:
            for request in requests:
                stack.enter_context(asking(request.subscription.name, request.room))
            await anyio.sleep(0.02)
            return await feed(queue, requests, worker)

    async def handle(event: BatchReady, context: HandlerContext) -> None:
        at_work[context.name] += 1
        await anyio.sleep(0.12)
        at_work[context.name] -= 1

    monkeypatch.setattr(TaskQueue, "claim", slow_claim)
    monkeypatch.setattr(TaskQueue, "feed", slow_feed)
    subscriptions = [
        Subscription(name="one", events=(BatchReady,), handler=handle, concurrency=1),
        Subscription(name="four", events=(BatchReady,), handler=handle, concurrency=4),
    ]
    await run_until_idle({"test": make_plugin(subscriptions=subscriptions)}, events=[batch(n) for n in range(12)])
    assert most == {"test.one": 1, "test.four": 4}
    assert any(both_at_once)


async def test_a_worker_that_lost_its_task_cannot_commit(run_until_idle: RunUntilIdle, database: Database) -> None:
    calls = []

    async def handle(event: BatchReady, context: HandlerContext) -> None:
        calls.append(context.attempt)
        if len(calls) == 1:
            await database.execute(
                "update tasks set state = 'ready', worker = null, token = null, crashes = crashes + 1"
            )
        async with context.transaction():
            context.emit(empty(len(calls)))

    it = make_plugin(subscriptions=[Subscription(name="s", events=(BatchReady,), handler=handle)])
    events = await run_until_idle({"test": it}, events=[batch(1)])
    assert calls == [1, 2]
    assert [event for event in events if isinstance(event, RepoEmpty)] == [empty(2)]


async def test_a_handler_that_claims_to_have_lost_its_lease_has_failed(run_until_idle: RunUntilIdle) -> None:
    kept: list[HandlerContext] = []

    async def handle(event: BatchReady, context: HandlerContext) -> None:
        if kept and event.batch_id == 2:
            await kept[0].save_checkpoint({})
        kept.append(context)

    it = make_plugin(
        subscriptions=[Subscription(name="s", events=(BatchReady,), handler=handle, concurrency=1, retry=FAST)]
    )
    events = await run_until_idle({"test": it}, events=[batch(1), batch(2)])
    [dead_letter] = [event for event in events if isinstance(event, TaskDeadLettered)]
    assert "LeaseLost" in dead_letter.error


async def test_no_secret_of_an_error_is_kept(run_until_idle: RunUntilIdle, database: Database) -> None:
    async def handle(event: BatchReady, context: HandlerContext) -> None:
        raise RuntimeError("clone of https://someone:hunter2@example.org/a.git failed")

    it = make_plugin(subscriptions=[Subscription(name="s", events=(BatchReady,), handler=handle, retry=FAST)])
    events = await run_until_idle({"test": it}, events=[batch(1)])
    row = await database.fetchrow("select error, traceback from tasks")
    assert row is not None
    for text in (*row, str(events)):
        assert "example.org/a.git" in text
        assert "hunter2" not in text


@pytest.mark.parametrize("reported", [("3", 10, "x"), (1, "ten", "x"), (1, None, 7)])
async def test_progress_that_cannot_be_shown_is_the_handler_s_failure(
    run_until_idle: RunUntilIdle, reported: tuple[object, ...]
) -> None:
    async def handle(event: BatchReady, context: HandlerContext) -> None:
        context.progress(*reported)  # type: ignore[arg-type]

    it = make_plugin(subscriptions=[Subscription(name="s", events=(BatchReady,), handler=handle, retry=FAST)])
    events = await run_until_idle({"test": it}, events=[batch(1)])
    [dead_letter] = [event for event in events if isinstance(event, TaskDeadLettered)]
    assert dead_letter.error.startswith("TypeError: the progress has ")


async def test_a_second_transaction_is_refused(run_until_idle: RunUntilIdle) -> None:
    errors = []

    async def handle(event: BatchReady, context: HandlerContext) -> None:
        async with context.transaction():
            pass
        try:
            async with context.transaction():
                pass
        except RuntimeError as error:
            errors.append(str(error))

    it = make_plugin(subscriptions=[Subscription(name="s", events=(BatchReady,), handler=handle)])
    await run_until_idle({"test": it}, events=[batch(1)])
    assert len(errors) == 1


async def test_emit_now_appends_once_whatever_the_attempts(run_until_idle: RunUntilIdle) -> None:
    async def handle(event: BatchReady, context: HandlerContext) -> None:
        await context.emit_now(empty(1))
        if context.attempt == 1:
            raise RuntimeError("again")

    it = make_plugin(subscriptions=[Subscription(name="s", events=(BatchReady,), handler=handle, retry=FAST)])
    events = await run_until_idle({"test": it}, events=[batch(1)])
    assert events.count(empty(1)) == 1


async def test_progress_saved_by_one_attempt_reaches_the_next(run_until_idle: RunUntilIdle) -> None:
    found = []

    async def handle(event: BatchReady, context: HandlerContext) -> None:
        found.append(context.checkpoint)
        if context.attempt == 1:
            await context.save_checkpoint({"checkpoint": 7})
            raise RuntimeError("again")

    it = make_plugin(subscriptions=[Subscription(name="s", events=(BatchReady,), handler=handle, retry=FAST)])
    await run_until_idle({"test": it}, events=[batch(1)])
    assert found == [None, {"checkpoint": 7}]


async def test_tasks_of_a_dead_worker_come_back(run_until_idle: RunUntilIdle, database: Database) -> None:
    log = EventLog(database)
    await log.publish(batch(1))
    await database.execute("insert into subscriptions (name, position) values ('test.s', 1)")
    await database.execute(
        "insert into workers (id, lease_until, host, boot_id, pid, pid_started)"
        " values (gen_random_uuid(), now() - interval '1 second', 'elsewhere', '', 1, '')"
    )
    await database.execute(
        "insert into tasks (subscription, stream, position, type, version, state, worker, token)"
        " select 'test.s', 'batch/1', 1, 'BatchReady', 1, 'running', id, gen_random_uuid() from workers"
    )
    attempts = []

    async def handle(event: BatchReady, context: HandlerContext) -> None:
        attempts.append(context.attempt)

    it = make_plugin(subscriptions=[Subscription(name="s", events=(BatchReady,), handler=handle)])
    await run_until_idle({"test": it})
    assert attempts == [2]
    assert await database.fetchval("select count(*) from workers") == 0


async def test_a_lost_lease_cancels_the_work_and_starts_anew(
    make_daemon: Callable[..., Daemon], database: Database
) -> None:
    """Another host took this process's work: its handlers are stopped, and it goes on under a new lease."""
    await EventLog(database).publish(batch(1))
    attempts = []
    cancelled = anyio.Event()

    async def handle(event: BatchReady, context: HandlerContext) -> None:
        attempts.append(context.attempt)
        if len(attempts) == 1:
            async with database.transaction() as connection:
                workers = await connection.fetch("select id from workers for update")
                await connection.execute(
                    "update tasks set state = 'ready', worker = null, token = null, crashes = crashes + 1"
                )
                await connection.execute("delete from workers where id = any($1)", [row["id"] for row in workers])
            try:
                await anyio.sleep_forever()
            finally:
                cancelled.set()

    it = make_plugin(subscriptions=[Subscription(name="s", events=(BatchReady,), handler=handle)])
    with anyio.fail_after(HANGS):
        await make_daemon({"test": it}, lease_seconds=8).run()
    assert cancelled.is_set()
    assert attempts == [1, 2]


async def test_a_stop_drains_what_runs_and_gives_back_the_rest(
    make_daemon: Callable[..., Daemon], database: Database, logged: Logged
) -> None:
    """Nothing is claimed once it drains; the second signal cuts the wait short."""
    await EventLog(database).publish(batch(1))
    await EventLog(database).publish(batch(2))
    begun, finished = list[int](), list[int]()
    may_end = anyio.Event()

    async def handle(event: BatchReady, context: HandlerContext) -> None:
        begun.append(event.batch_id)
        if event.batch_id == 2:
            await anyio.sleep_forever()
        await may_end.wait()
        finished.append(event.batch_id)

    it = make_plugin(subscriptions=[Subscription(name="s", events=(BatchReady,), handler=handle)])
    daemon = make_daemon({"test": it}, until_idle=False, drain_seconds=600)
    with anyio.fail_after(HANGS):
        async with anyio.create_task_group() as group:
            group.start_soon(daemon.run)
            while sorted(begun) != [1, 2]:
                await anyio.sleep(0.01)
            os.kill(os.getpid(), signal.SIGTERM)
            await logged.wait_for("draining")
            await EventLog(database).publish(batch(3))
            may_end.set()
            while await database.fetchval("select count(*) from tasks where state = 'running'") > 1:
                await anyio.sleep(0.01)
            os.kill(os.getpid(), signal.SIGTERM)
    assert finished == [1]
    assert sorted(begun) == [1, 2]
    rows = await database.fetch("select state, attempts, crashes, stream from tasks")
    assert [(row["state"], row["attempts"], row["crashes"], row["stream"]) for row in rows] == [
        ("ready", 0, 1, "batch/2")
    ]
    assert await database.fetchval("select count(*) from workers") == 0


async def test_what_does_not_end_within_the_drain_time_is_given_back(
    make_daemon: Callable[..., Daemon], database: Database
) -> None:
    await EventLog(database).publish(batch(1))
    begun = anyio.Event()

    async def handle(event: BatchReady, context: HandlerContext) -> None:
        begun.set()
        await anyio.sleep_forever()

    it = make_plugin(subscriptions=[Subscription(name="s", events=(BatchReady,), handler=handle)])
    with anyio.fail_after(HANGS):
        async with anyio.create_task_group() as group:
            group.start_soon(make_daemon({"test": it}, until_idle=False, drain_seconds=0.1).run)
            await begun.wait()
            os.kill(os.getpid(), signal.SIGTERM)
    [row] = await database.fetch("select state, attempts, crashes from tasks")
    assert tuple(row) == ("ready", 0, 1)


async def test_a_database_that_does_not_answer_holds_up_a_stop_no_longer_than_a_lease(
    make_daemon: Callable[..., Daemon], database: Database, logged: Logged
) -> None:
    async def handle(event: BatchReady, context: HandlerContext) -> None: ...

    it = make_plugin(subscriptions=[Subscription(name="s", events=(BatchReady,), handler=handle)])
    with anyio.fail_after(HANGS):
        async with database.transaction() as connection, anyio.create_task_group() as group:
            group.start_soon(make_daemon({"test": it}, until_idle=False, lease_seconds=2).run)
            while not await connection.fetch("select id from workers for update"):
                await anyio.sleep(0.01)
            os.kill(os.getpid(), signal.SIGTERM)
            await logged.wait_for("leaving_without_release")


async def test_the_database_may_go_away_while_a_handler_works(run_until_idle: RunUntilIdle, database: Database) -> None:
    """It uses up no attempt, of which there is one."""
    calls = []

    async def handle(event: BatchReady, context: HandlerContext) -> None:
        calls.append(event)
        if len(calls) == 1:
            await database.fetch(
                "select pg_terminate_backend(pid) from pg_stat_activity"
                " where datname = current_database() and pid <> pg_backend_pid()"
            )
        async with context.transaction():
            context.emit(empty(1))

    once = RetryPolicy(attempts=1)
    it = make_plugin(subscriptions=[Subscription(name="s", events=(BatchReady,), handler=handle, retry=once)])
    assert await run_until_idle({"test": it}, events=[batch(1)]) == [batch(1), empty(1)]


async def test_an_outage_that_several_tasks_of_a_handler_met_uses_up_no_attempt(run_until_idle: RunUntilIdle) -> None:
    calls = []

    async def handle(event: BatchReady, context: HandlerContext) -> None:
        calls.append(context.attempt)
        if len(calls) == 1:
            raise ExceptionGroup("tasks", [DatabaseUnavailable("gone"), DatabaseUnavailable("gone, too")])

    it = make_plugin(subscriptions=[Subscription(name="s", events=(BatchReady,), handler=handle)])
    await run_until_idle({"test": it}, events=[batch(1)])
    assert calls == [1, 1]


async def test_jobs_run_in_turn_whenever_the_log_is_quiet(run_until_idle: RunUntilIdle) -> None:
    """The second job sees all that came of the first one's events, and the run ends when neither brings any."""
    handled: list[int] = []
    seen_by_second = []

    async def first(context: JobContext) -> None:
        async with context.transaction():
            for number in range(5):
                context.emit(batch(number), key=str(number))

    async def second(context: JobContext) -> None:
        seen_by_second.append(len(handled))

    async def handle(event: BatchReady, context: HandlerContext) -> None:
        await anyio.sleep(0.05)
        handled.append(event.batch_id)

    it = make_plugin(
        subscriptions=[Subscription(name="s", events=(BatchReady,), handler=handle)],
        jobs=[
            Job(name="first", every=timedelta(hours=1), run=first),
            Job(name="second", every=timedelta(hours=1), run=second),
        ],
    )
    events = await run_until_idle({"test": it})
    assert sorted(handled) == [0, 1, 2, 3, 4]
    assert seen_by_second == [5]
    assert len(events) == 5


async def test_the_same_key_twice_is_one_event_and_says_so(database: Database) -> None:
    log = EventLog(database)
    key = derive_key("a", "b")
    first = await log.publish(batch(1), key=key)
    second = await log.publish(batch(2), key=key)
    assert (first.duplicate, second.duplicate) == (False, True)
    assert second.position == first.position
    async with database.transaction() as connection:
        both = await log.append(connection, [Entry(event=batch(3), key=derive_key("c"))] * 2)
    assert [one.duplicate for one in both] == [False, True]
    assert len([event async for event in log.read()]) == 2


async def test_a_reader_never_passes_a_position_that_may_still_commit(database: Database) -> None:
    log = EventLog(database)
    async with database.transaction() as slow:
        [held] = await log.append(slow, [Entry(event=batch(1))])
        later = await log.publish(batch(2))
        assert held.position is not None
        assert later.position is not None
        assert later.position > held.position
        assert await log.high_water_mark() < held.position
        assert [event async for event in log.read()] == []
    assert await log.high_water_mark() >= later.position
    assert [event.decode() async for event in log.read()] == [batch(1), batch(2)]


@pytest.mark.parametrize(
    ("event", "word"),
    [
        (RepoEmpty(repository_id="a", url="x" * 1_100_000), "limit"),
        (RepoEmpty(repository_id="a", url="x\x00"), "NUL"),
        (RepoEmpty(repository_id="a", url="\ud800"), "surrogate"),
    ],
)
async def test_events_that_postgres_cannot_hold_are_refused(database: Database, event: Event, word: str) -> None:
    with pytest.raises(EventRefused, match=word):
        await EventLog(database).publish(event)
    assert await database.fetchval("select count(*) from events") == 0


async def test_an_event_of_newer_code_waits_for_that_code(
    run_until_idle: RunUntilIdle, database: Database, logged: Logged
) -> None:
    await EventLog(database).publish(batch(1))
    await database.execute("update events set version = 99")

    async def handle(event: Event, context: HandlerContext) -> None:
        raise AssertionError("must not be called")

    it = make_plugin(subscriptions=[Subscription(name="s", events=(BatchReady,), handler=handle)])
    with pytest.raises(Exception, match="version 99"):
        await run_until_idle({"test": it})
    assert [recorded.type async for recorded in EventLog(database).read()] == ["BatchReady"]
    assert dict(await database.fetchrow("select state, version, attempts from tasks") or {}) == {
        "state": "ready",
        "version": 99,
        "attempts": 0,
    }
    [told] = logged.records("unknown_events_wait")
    assert (told["stage"], told["type"], told["version"], told["events"]) == ("test.s", "BatchReady", 99, 1)


async def test_a_failed_attempt_waits_for_its_time(database: Database, clock: Clock) -> None:
    tasks, subscription, worker = await one_claimable_task(database)
    [task] = await tasks.claim(subscription, worker, 10)
    assert await tasks.retry(task, after=timedelta(hours=1), counts=True, error="e", traceback="t")
    await clock.advance(timedelta(minutes=59))
    assert await tasks.claim(subscription, worker, 10) == []
    await clock.advance(timedelta(minutes=1))
    [again] = await tasks.claim(subscription, worker, 10)
    assert (again.recorded, again.attempt) == (task.recorded, 2)


async def test_a_lease_lasts_as_long_as_the_database_s_clock_says(database: Database, clock: Clock) -> None:
    tasks, subscription, worker = await one_claimable_task(database)
    [task] = await tasks.claim(subscription, worker, 10)
    await clock.advance(timedelta(seconds=60))
    assert await tasks.reap(uuid7()) == (0, 0)
    await clock.advance(timedelta(seconds=1))
    assert await tasks.reap(uuid7()) == (1, 1)
    with pytest.raises(LeaseLost):
        async with database.transaction() as connection:
            await complete(connection, task, [])
    assert await tasks.claim(subscription, worker, 10) == [], "a worker that is gone claims nothing"


async def test_a_claim_made_while_its_worker_was_given_up_comes_back(database: Database, clock: Clock) -> None:
    tasks, subscription, worker = await one_claimable_task(database)
    await tasks.claim(subscription, worker, 10)
    await database.execute("delete from workers")
    assert await tasks.reap(uuid7()) == (0, 1)
    assert await database.fetchval("select crashes from tasks") == 1


async def test_an_event_over_which_workers_keep_dying_is_dead_lettered(
    run_until_idle: RunUntilIdle, database: Database
) -> None:
    calls = []

    async def handle(event: BatchReady, context: HandlerContext) -> None:
        calls.append(event)

    log = EventLog(database)
    await log.publish(batch(1))
    await database.execute("insert into subscriptions (name, position) values ('test.s', 1)")
    await database.execute(
        "insert into tasks (subscription, stream, position, type, version, crashes)"
        " values ('test.s', 'batch/1', 1, 'BatchReady', 1, 3)"
    )
    retry = RetryPolicy(crashes=3)
    it = make_plugin(subscriptions=[Subscription(name="s", events=(BatchReady,), handler=handle, retry=retry)])
    await run_until_idle({"test": it})
    assert calls == []
    error = await database.fetchval("select error from tasks")
    assert error == "3 workers died while they handled it"


async def one_claimable_task(database: Database) -> tuple[TaskQueue, Subscription, uuid.UUID]:
    """A subscription with one event to handle, and a worker whose lease lasts a minute."""

    async def handle(*_: object) -> None: ...

    subscription = Subscription(name="test.s", events=(BatchReady,), handler=handle)
    worker = uuid7()
    await EventLog(database).publish(batch(1))
    await database.execute(SQL.begin_subscription, subscription.name, False, subscription.event_types, True, "0")
    await database.execute(SQL.register_worker, worker, timedelta(minutes=1), "elsewhere", "", 1, "")
    tasks = TaskQueue(database)
    await tasks.feed([FeedRequest(subscription=subscription)])
    return tasks, subscription, worker
