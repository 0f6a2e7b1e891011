"""The database's clock is set, back or on, under a running daemon."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import timedelta

import anyio
import pytest

from codelupe import Database, HandlerContext, Job, JobContext, RetryLater, Subscription
from codelupe.daemon import Daemon
from codelupe.log import EventLog
from codelupe.log.event_log import SQL
from codelupe.log.records import uuid7
from codelupe.work.task_queue import FeedRequest, TaskQueue
from codelupe_events import BatchReady
from tests.logged import Logged
from tests.plugins import batch, make_plugin
from tests.processes import HANGS

pytestmark = pytest.mark.anyio

HOUR = timedelta(hours=1)
SOON = 25.0
"""Seconds within which work goes on, in the wake of a clock that was set."""


class SetClock:
    """A clock that runs, and is set by the test."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def take_over(self) -> None:
        await self._database.execute(
            "create table clock_offset (by interval); insert into clock_offset values ('0');"
            "create or replace function log_time() returns timestamptz language sql stable"
            " as 'select now() + (select by from clock_offset)'"
        )

    async def set(self, by: timedelta) -> None:
        await self._database.execute("update clock_offset set by = $1", by)


@pytest.fixture
async def set_clock(database: Database) -> SetClock:
    it = SetClock(database)
    await it.take_over()
    return it


@asynccontextmanager
async def running(daemon: Daemon, logged: Logged) -> AsyncIterator[None]:
    async with anyio.create_task_group() as group:
        group.start_soon(daemon.run)
        await logged.wait_for("started")
        yield
        group.cancel_scope.cancel()


async def until(condition: Callable[[], bool], seconds: float = HANGS) -> None:
    with anyio.fail_after(seconds):
        while not condition():
            await anyio.sleep(0.01)


async def test_work_goes_on_when_the_clock_goes_back_an_hour(
    make_daemon: Callable[..., Daemon], database: Database, set_clock: SetClock, logged: Logged
) -> None:
    """What was ready, what waited for its retry, what is appended then; and it is said once."""
    done: list[int] = []
    begun: list[int] = []
    may_end = anyio.Event()
    runs: list[int] = []

    async def handle(event: BatchReady, context: HandlerContext) -> None:
        begun.append(event.batch_id)
        if event.batch_id == 2 and context.attempt == 1:
            raise RetryLater("in half a second", after=timedelta(seconds=0.5))
        if event.batch_id == 1:
            await may_end.wait()
        done.append(event.batch_id)

    async def job(context: JobContext) -> None:
        runs.append(1)

    plugin = make_plugin(
        subscriptions=[Subscription(name="s", events=(BatchReady,), handler=handle, concurrency=1)],
        jobs=[Job(name="j", every=timedelta(seconds=1), run=job)],
    )
    log = EventLog(database)
    for number in (2, 1, 3, 4):
        await log.publish(batch(number))
    async with running(make_daemon({"test": plugin}, until_idle=False), logged):
        await until(lambda: 1 in begun and bool(runs))
        await set_clock.set(-HOUR)
        may_end.set()
        await log.publish(batch(5))
        runs.clear()
        await until(lambda: {1, 2, 3, 4, 5} <= set(done) and len(runs) > 1, SOON)
        await logged.wait_for("clock_went_back")
        await until(lambda: len(runs) > 3)
    assert sorted(done) == [1, 2, 3, 4, 5]
    [said] = logged.records("clock_went_back")
    assert said["seconds"] == pytest.approx(3600, abs=3)
    assert logged.records("lease_lost") == []


async def test_dead_workers_leases_do_not_last_longer_when_the_clock_goes_back(
    make_daemon: Callable[..., Daemon], database: Database, set_clock: SetClock, logged: Logged
) -> None:
    done: list[int] = []

    async def handle(event: BatchReady, context: HandlerContext) -> None:
        done.append(event.batch_id)

    plugin = make_plugin(subscriptions=[Subscription(name="s", events=(BatchReady,), handler=handle)])
    daemon = make_daemon({"test": plugin}, until_idle=False, lease_seconds=10)  # its own, however busy the machine is
    async with running(daemon, logged):
        dead = uuid7()
        async with database.transaction() as connection:
            await connection.execute(SQL.declared_subscription, "test.s")  # the daemon feeds after this
            await connection.execute(SQL.register_worker, dead, timedelta(seconds=2), "elsewhere", "", 1, "")
            await EventLog(database).publish(batch(1))
            await connection.execute("select feed_tasks(array['test.s'], 1000)")
            claimed = await connection.fetch(SQL.claim, "test.s", dead, 1, ["BatchReady"], [1])
            assert len(claimed) == 1
        await set_clock.set(-HOUR)
        await logged.wait_for("workers_lost", workers=1, tasks_requeued=1)
        await until(lambda: done == [1])
    assert logged.records("lease_lost") == []


async def test_a_clock_that_goes_on_an_hour_loses_and_doubles_nothing(
    make_daemon: Callable[..., Daemon], database: Database, set_clock: SetClock, logged: Logged
) -> None:
    """The lease is over at once; what was begun may be begun again, and takes effect once."""
    await database.execute("create table effects (batch int)")
    begun: list[int] = []

    async def handle(event: BatchReady, context: HandlerContext) -> None:
        begun.append(event.batch_id)
        if event.batch_id == 1 and len(begun) == 1:
            await set_clock.set(HOUR)
            await anyio.sleep(1)  # others may look for dead workers meanwhile
        async with context.transaction() as connection:
            await connection.execute("insert into effects values ($1)", event.batch_id)

    plugin = make_plugin(subscriptions=[Subscription(name="s", events=(BatchReady,), handler=handle, concurrency=1)])
    log = EventLog(database)
    for number in range(1, 21):
        await log.publish(batch(number))
    await make_daemon({"test": plugin}, lease_seconds=2).run()
    effects = [row["batch"] for row in await database.fetch("select batch from effects order by batch")]
    assert effects == list(range(1, 21))
    assert logged.records("clock_went_back") == []


async def test_of_several_processes_one_says_that_the_clock_went_back(database: Database, set_clock: SetClock) -> None:
    await database.fetchval(SQL.check_clock)
    await set_clock.set(-HOUR)
    said = [await database.fetchval(SQL.check_clock) for _ in range(5)]
    assert [seconds for seconds in said if seconds is not None] == [pytest.approx(3600, abs=3)]


async def test_a_lease_that_is_extended_while_the_clock_is_looked_at_is_not_set_back(
    database: Database, set_clock: SetClock
) -> None:
    """It is by the new clock already, unlike that of a worker that has died."""
    lives, died, lease = uuid7(), uuid7(), timedelta(seconds=HANGS)
    for worker in (lives, died):
        await database.execute(SQL.register_worker, worker, lease, "elsewhere", "", 1, "")
    await database.fetchval(SQL.check_clock)
    await set_clock.set(-HOUR)
    async with database.transaction() as connection:
        await connection.execute("select log_time()")
        await database.execute(SQL.heartbeat, lives, lease)
        assert await connection.fetchval(SQL.check_clock) == pytest.approx(3600, abs=HANGS)
    for worker in (lives, died):
        left = await database.fetchval("select lease_until - log_time() from workers where id = $1", worker)
        assert timedelta(0) < left <= lease


async def test_leases_follow_the_clock_while_a_process_that_stands_still_has_tasks_locked(
    make_daemon: Callable[..., Daemon], database: Database, set_clock: SetClock, logged: Logged
) -> None:
    """Such a transaction may stay open for 300 seconds. What it has locked follows then, and nothing follows twice."""
    done: list[int] = []

    async def handle(event: BatchReady, context: HandlerContext) -> None:
        if event.batch_id == 1:
            raise RetryLater("in an hour", after=HOUR)
        if event.batch_id == 3:
            raise RetryLater("in half an hour", after=HOUR / 2)
        done.append(event.batch_id)

    plugin = make_plugin(subscriptions=[Subscription(name="s", events=(BatchReady,), handler=handle)])
    log, wait = EventLog(database), "select run_at - log_time() from tasks where stream = $1"
    async with running(make_daemon({"test": plugin}, until_idle=False, lease_seconds=2), logged):
        dead = uuid7()
        await database.execute(SQL.register_worker, dead, timedelta(seconds=2), "elsewhere", "", 1, "")
        await log.publish(batch(1))
        await logged.wait_for("retry_later")
        await until_put_off(database, "batch/1")
        async with database.transaction() as frozen:
            await frozen.execute("select from tasks for update")
            before = await database.fetchval(wait, "batch/1")
            await set_clock.set(-HOUR)
            await logged.wait_for("workers_lost", workers=1, tasks_requeued=0)
            await log.publish(batch(3))
            await log.publish(batch(2))
            await until(lambda: done == [2])
            await until_put_off(database, "batch/3")
            assert await database.fetchval(wait, "batch/1") > before + HOUR / 2, "it cannot be set back yet"
        with anyio.fail_after(SOON):
            while await database.fetchval(wait, "batch/1") > before:
                await anyio.sleep(0.01)
        assert await database.fetchval(wait, "batch/1") > before - timedelta(seconds=HANGS)
        assert await database.fetchval(wait, "batch/3") > HOUR / 2 - timedelta(seconds=HANGS)
        assert await database.fetchval("select count(*) from tasks_to_set_back") == 0
    assert logged.count("round_failed") == 0


async def until_put_off(database: Database, stream: str) -> None:
    with anyio.fail_after(HANGS):
        while not await database.fetchval("select run_at > log_time() from tasks where stream = $1", stream):
            await anyio.sleep(0.01)


async def test_a_task_put_off_for_a_day_stays_so_when_the_clock_goes_back(
    database: Database, set_clock: SetClock
) -> None:
    """What was to happen later by the old clock is set back with it: as long after now as it was."""
    subscription = Subscription(name="test.s", events=(BatchReady,), handler=None)  # type: ignore[arg-type]
    await database.execute(SQL.begin_subscription, "test.s", False, ["BatchReady"], True, "0")
    tasks, worker = TaskQueue(database), uuid7()
    await database.execute(SQL.register_worker, worker, HOUR, "elsewhere", "", 1, "")
    await EventLog(database).publish(batch(1))
    fed = await tasks.feed([FeedRequest(subscription=subscription, room=1)], worker)
    [task] = fed["test.s"].tasks
    assert await tasks.retry(task, after=timedelta(days=1), counts=False, error="", traceback="")
    before = await database.fetchval("select run_at - log_time() from tasks")
    await database.fetchval(SQL.set_tasks_back)
    await set_clock.set(-HOUR)
    assert await database.fetchval(SQL.set_tasks_back)
    after = await database.fetchval("select run_at - log_time() from tasks")
    look = timedelta(seconds=0.5)  # the time is written down no more often
    assert -look <= before - after < timedelta(seconds=HANGS)


CHANGE = """
do $$
declare
    number bigint;
begin
    perform set_config('enable_seqscan', 'off', false), set_config('synchronous_commit', 'off', false);
    while exists (select from changing) loop
        number := ceil(random() * (select count(*) from before));
        update tasks set attempts = attempts + 1
        where subscription = 's' and stream = 'batch/' || number and position = number;
        commit;
    end loop;
end $$
"""


async def test_tasks_that_change_while_they_are_set_back_are_set_back_all_the_same(
    database: Database, set_clock: SetClock
) -> None:
    """Such as those that are given back just then."""
    await database.execute(
        "insert into tasks (subscription, stream, position, type, version, state, run_at)"
        " select 's', 'batch/' || n, n, 'BatchReady', 1, 'ready', log_time() + interval '1 day'"
        " from generate_series(1, 2000) as n;"
        "create table before as select position, run_at from tasks; create table changing as select"
    )
    await database.fetchval(SQL.set_tasks_back)
    hours = 5
    async with anyio.create_task_group() as group:
        for _ in range(2):
            group.start_soon(database.execute, CHANGE)
        await until_true(database, "select exists (select from tasks where attempts > 0)")
        for hour in range(1, hours + 1):
            await set_clock.set(-HOUR * hour)
            with anyio.fail_after(HANGS):
                await database.fetchval(SQL.set_tasks_back)
                while await database.fetchval("select count(*) from tasks_to_set_back"):
                    await database.fetchval(SQL.set_tasks_back)
        await database.execute("truncate changing")
    backs = "select distinct before.run_at - tasks.run_at as back from tasks join before using (position)"
    [(back,)] = await database.fetch(backs)
    assert hours * HOUR - timedelta(seconds=HANGS) < back < hours * HOUR


async def test_what_a_transaction_puts_off_by_the_old_clock_follows_once_it_ends(
    database: Database, set_clock: SetClock
) -> None:
    """It has made a task and put another off when the clock goes back. What comes later is by the new clock."""
    subscription = Subscription(name="test.s", events=(BatchReady,), handler=None)  # type: ignore[arg-type]
    await database.execute(SQL.begin_subscription, "test.s", False, ["BatchReady"], True, "0")
    tasks, worker, log = TaskQueue(database), uuid7(), EventLog(database)
    await database.execute(SQL.register_worker, worker, timedelta(days=1), "elsewhere", "", 1, "")
    for number in (1, 2):
        await log.publish(batch(number))
    fed = await tasks.feed([FeedRequest(subscription=subscription, room=2)], worker)
    first, second = fed["test.s"].tasks
    await database.fetchval(SQL.set_tasks_back)
    await log.publish(batch(3))
    async with database.transaction() as connection:
        assert await connection.fetchval(SQL.retry, *first.key, 1, HOUR / 2, "", "")
        await connection.execute("select feed_tasks(array['test.s'], 1000)")
        await set_clock.set(-HOUR)
        await database.fetchval(SQL.set_tasks_back)
        assert await tasks.retry(second, after=timedelta(days=1), counts=False, error="", traceback="")
        await database.fetchval(SQL.set_tasks_back)
    waits = "select stream, extract(epoch from run_at - log_time())::float as seconds from tasks order by position"
    before = {row["stream"]: row["seconds"] for row in await database.fetch(waits)}
    assert before == {
        "batch/1": pytest.approx(5400, abs=HANGS),
        "batch/2": pytest.approx(86400, abs=HANGS),
        "batch/3": pytest.approx(3600, abs=HANGS),
    }
    for _ in range(3):
        await database.fetchval(SQL.set_tasks_back)
    after = {row["stream"]: row["seconds"] for row in await database.fetch(waits)}
    assert after == {
        "batch/1": pytest.approx(1800, abs=HANGS),
        "batch/2": pytest.approx(86400, abs=HANGS),
        "batch/3": pytest.approx(0, abs=HANGS),
    }
    assert await database.fetchval("select count(*) from transactions_of_old_clock") == 0
    assert await database.fetchval("select count(*) from tasks_to_set_back") == 0


async def until_true(database: Database, query: str) -> None:
    with anyio.fail_after(HANGS):
        while not await database.fetchval(query):
            await anyio.sleep(0.01)
