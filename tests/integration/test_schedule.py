"""Jobs and services: when they run, in how many processes, and what their errors do."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path

import anyio
import pytest

from codelupe import (
    BatchContext,
    BatchSubscription,
    Database,
    HandlerContext,
    Job,
    JobContext,
    Reject,
    RetryPolicy,
    Service,
    Subscription,
)
from codelupe.daemon import Daemon
from codelupe.errors import DatabaseUnavailable
from codelupe.host.extensions import Extensions
from codelupe.log import EventLog
from codelupe.views.pipeline import read_status
from codelupe.work.pauses import read_pauses, resume
from codelupe.work.timings import Timings
from codelupe_events import BatchReady
from tests.integration.deadly import DEADLY, run_deadly
from tests.logged import Logged
from tests.plugins import batch, make_plugin
from tests.processes import HANGS

pytestmark = pytest.mark.anyio

MakeDaemon = Callable[..., Daemon]
HOURLY = timedelta(hours=1)


@asynccontextmanager
async def at_work(*daemons: Daemon) -> AsyncIterator[None]:
    async with anyio.create_task_group() as group:
        for daemon in daemons:
            group.start_soon(daemon.run)
        yield
        group.cancel_scope.cancel()


async def until(condition: Callable[[], bool | Awaitable[bool]]) -> None:
    with anyio.fail_after(HANGS):
        while True:
            holds = condition()
            if holds if isinstance(holds, bool) else await holds:
                return
            await anyio.sleep(0.02)


QUICK = Timings(
    leader_poll=0.05, restarts=RetryPolicy(base=timedelta(milliseconds=20), cap=timedelta(milliseconds=100))
)
"""A process that does not lead asks again at once, and a service is started again at once."""
AFTER_AN_HOUR = Timings(restarts=RetryPolicy(base=timedelta(hours=2), cap=timedelta(hours=2)))
"""A service that has failed is not seen again in this test."""


# --- jobs ---


async def test_a_batch_handler_can_let_a_job_run_ahead_of_its_interval(
    make_daemon: MakeDaemon, database: Database
) -> None:
    ran: list[str] = []

    async def work(context: JobContext) -> None:
        ran.append(context.name)

    async def want(_events: Sequence[BatchReady], context: BatchContext) -> None:
        await context.want_job("work")

    plugin = make_plugin(
        jobs=[Job(name="work", every=HOURLY, run=work)],
        subscriptions=[BatchSubscription(name="want", events=(BatchReady,), handler=want)],
    )
    timings = Timings(leader_poll=0.05, job_poll=0.05)
    async with at_work(make_daemon({"test": plugin}, until_idle=False, timings=timings)):
        await until(lambda: len(ran) == 1)
        await EventLog(database).publish(batch(1))
        await until(lambda: len(ran) == 2)


async def test_an_error_of_a_job_is_reported_and_the_other_jobs_run(
    make_daemon: MakeDaemon, database: Database
) -> None:
    ran = []

    async def fail(context: JobContext) -> None:
        raise ValueError("no batch today")

    async def leave(context: JobContext) -> None:
        raise SystemExit(4)

    async def work(context: JobContext) -> None:
        ran.append(context.name)

    jobs = [Job(name=name, every=HOURLY, run=run) for name, run in [("a", fail), ("b", leave), ("c", work)]]
    outcome = await make_daemon({"test": make_plugin(jobs=jobs)}).run()
    assert outcome.failed_jobs == {"test.a": "ValueError: no batch today", "test.b": "SystemExit: 4"}
    assert not outcome.interrupted
    assert ran == ["test.c"]
    states = {job["name"]: job for job in (await read_status(database, Extensions()))["jobs"]}
    assert [states[name]["error"] for name in ("test.a", "test.b", "test.c")] == [*outcome.failed_jobs.values(), None]
    assert all(job["finished_at"] >= job["started_at"] for job in states.values())


async def test_a_job_that_succeeds_later_is_no_longer_failed(make_daemon: MakeDaemon, database: Database) -> None:
    calls: list[int] = []

    async def work(context: JobContext) -> None:
        calls.append(len(calls))
        if len(calls) == 1:
            async with context.transaction():
                context.emit(batch(1), key="1")
            raise ValueError("after the first half")

    outcome = await make_daemon({"test": make_plugin(jobs=[Job(name="j", every=HOURLY, run=work)])}).run()
    assert calls == [0, 1], "it brought something, so it runs once more"
    assert outcome.failed_jobs == {}
    assert await database.fetchval("select error from jobs") is None


async def test_what_a_failing_job_wrote_before_is_kept_and_what_it_was_writing_is_not(
    make_daemon: MakeDaemon, database: Database
) -> None:
    async def work(context: JobContext) -> None:
        async with context.transaction():
            context.emit(batch(1), key="1")
        async with context.transaction():
            context.emit(batch(2), key="2")
            raise ValueError("too late")

    await make_daemon({"test": make_plugin(jobs=[Job(name="j", every=HOURLY, run=work)])}).run()
    assert [event.decode() async for event in EventLog(database).read()] == [batch(1)]


async def test_an_event_with_a_key_is_brought_once_for_ever(make_daemon: MakeDaemon, database: Database) -> None:
    brought = []

    async def work(context: JobContext) -> None:
        async with context.transaction():
            context.emit(batch(1), key="1")
        brought.append(context.appended)

    plugins = {"test": make_plugin(jobs=[Job(name="j", every=HOURLY, run=work)])}
    await make_daemon(plugins).run()
    await make_daemon(plugins).run()
    assert brought == [1, 0, 0]


async def test_jobs_run_at_their_interval_and_a_restart_does_not_bring_them_forward(
    make_daemon: MakeDaemon,
) -> None:
    ran: list[str] = []

    async def often(context: JobContext) -> None:
        ran.append("often")

    async def seldom(context: JobContext) -> None:
        ran.append("seldom")

    plugins = {
        "test": make_plugin(
            jobs=[
                Job(name="often", every=timedelta(milliseconds=50), run=often),
                Job(name="seldom", every=HOURLY, run=seldom),
            ]
        )
    }
    for _ in range(2):
        so_far = ran.count("often")
        async with at_work(make_daemon(plugins, until_idle=False)):
            await until(lambda so_far=so_far: ran.count("often") >= so_far + 3 and "seldom" in ran)  # type: ignore[misc]
    assert ran.count("seldom") == 1


async def test_a_job_runs_in_one_process_of_the_cluster(
    make_daemon: MakeDaemon, tmp_path: Path, logged: Logged
) -> None:
    """Each run waits until the other process has asked for it in vain."""
    active, most, runs = 0, 0, 0

    async def work(context: JobContext) -> None:
        nonlocal active, most, runs
        active, runs = active + 1, runs + 1
        most = max(most, active)
        await logged.wait_for_more(1, "another_process_leads", name="test.j")
        active -= 1

    plugins = {"test": make_plugin(jobs=[Job(name="j", every=timedelta(milliseconds=1), run=work)])}
    daemons = [make_daemon(plugins, until_idle=False, timings=QUICK, state_dir=str(tmp_path / name)) for name in "ab"]
    async with at_work(*daemons):
        await until(lambda: runs >= 8)
    assert most == 1


async def test_a_run_until_idle_waits_for_what_a_job_has_brought_but_not_for_dead_lettered_events(
    make_daemon: MakeDaemon, database: Database
) -> None:
    async def bring(context: JobContext) -> None:
        async with context.transaction():
            context.emit(batch(1), key="1")

    async def reject(event: BatchReady, context: HandlerContext) -> None:
        raise Reject("no use")

    it = make_plugin(
        subscriptions=[Subscription(name="s", events=(BatchReady,), handler=reject)],
        jobs=[Job(name="j", every=HOURLY, run=bring)],
    )
    with anyio.fail_after(HANGS):
        outcome = await make_daemon({"test": it}).run()
    assert outcome.failed_jobs == {}
    assert await database.fetchval("select count(*) from tasks where state = 'dead_lettered'") == 1


async def test_without_any_plugin_there_is_nothing_to_do(make_daemon: MakeDaemon) -> None:
    with anyio.fail_after(HANGS):
        outcome = await make_daemon({}).run()
    assert (outcome.failed_jobs, outcome.interrupted) == ({}, False)


# --- services ---


async def test_a_job_over_which_processes_keep_dying_is_paused(
    database: Database, database_url: str, tmp_path: Path
) -> None:
    """The ninth and the tenth die; then it is paused, and the events beside it are handled."""
    await database.execute("insert into jobs (name, crashes) values ('deadly.j', 8)")
    await database.execute("create table ledger (stream bigint)")
    await EventLog(database).publish(batch(1))
    assert [await run_deadly(database_url, tmp_path, "job") for _ in range(3)] == [DEADLY, DEADLY, 0]
    [paused] = await read_pauses(database)
    assert (str(paused.part), paused.why) == ("job deadly.j", "10 processes died while it ran")
    assert await database.fetchval("select count(*) from ledger") == 1
    await resume(database, "deadly.j")
    assert await run_deadly(database_url, tmp_path, "job") == DEADLY


async def test_a_run_that_a_stop_or_an_outage_ends_is_no_crash(make_daemon: MakeDaemon, database: Database) -> None:
    runs = []

    async def run(_: JobContext) -> None:
        runs.append(await database.fetchval("select crashes from jobs"))
        if len(runs) == 1:
            raise DatabaseUnavailable("gone")
        await anyio.sleep_forever()

    it = make_plugin(jobs=[Job(name="j", every=HOURLY, run=run)])
    async with at_work(make_daemon({"test": it}, until_idle=False)):
        await until(lambda: len(runs) == 2)
    assert runs == [1, 1]
    assert await database.fetchval("select crashes from jobs") == 0


def troubled(started: list[int]) -> Service:
    """A service that is started again and again, so that there was time to start others, too."""

    async def fail(context: JobContext) -> None:
        started.append(len(started))
        raise RuntimeError("as always")

    return Service(name="troubled", run=fail)


async def test_a_service_that_fails_is_started_again(make_daemon: MakeDaemon) -> None:
    starts, others = list[int](), list[int]()
    errors = [ValueError("one"), SystemExit(2), ExceptionGroup("three", [ValueError("x")])]

    async def serve(context: JobContext) -> None:
        starts.append(len(starts))
        if errors:
            raise errors.pop(0)
        await anyio.sleep_forever()

    plugin = make_plugin(services=[Service(name="s", run=serve), troubled(others)])
    async with at_work(make_daemon({"test": plugin}, until_idle=False, timings=QUICK)):
        await until(lambda: len(starts) == 4)
        others.clear()
        await until(lambda: len(others) == 5)
    assert starts == [0, 1, 2, 3]


@pytest.mark.parametrize("leader", [True, False])
@pytest.mark.parametrize(
    "error",
    [DatabaseUnavailable("gone"), ExceptionGroup("tasks", [DatabaseUnavailable("gone")])],
    ids=["bare", "group"],
)
async def test_an_outage_that_a_service_meets_is_no_failure_of_it(
    make_daemon: MakeDaemon, logged: Logged, leader: bool, error: Exception
) -> None:
    starts, errors = list[int](), [error, error]

    async def serve(context: JobContext) -> None:
        starts.append(len(starts))
        if errors:
            raise errors.pop()
        await anyio.sleep_forever()

    plugin = make_plugin(services=[Service(name="s", run=serve, leader=leader)])
    async with at_work(make_daemon({"test": plugin}, until_idle=False, timings=AFTER_AN_HOUR)):
        await until(lambda: len(starts) == 3)
    assert logged.count("service_failed") == 0
    assert logged.count("database_unavailable", activity="test.s", error="gone") == 2


async def test_a_service_whose_leadership_breaks_off_leads_again_at_once(
    make_daemon: MakeDaemon, database: Database, logged: Logged
) -> None:
    starts = list[int]()

    async def serve(context: JobContext) -> None:
        starts.append(len(starts))
        await anyio.sleep_forever()

    plugin = make_plugin(services=[Service(name="s", run=serve, leader=True)])
    async with at_work(make_daemon({"test": plugin}, until_idle=False, timings=AFTER_AN_HOUR)):
        for turn in (1, 2):
            await until(lambda turn=turn: len(starts) == turn)  # type: ignore[misc]
            await database.fetch(
                "select pg_terminate_backend(pid) from pg_locks where locktype = 'advisory' and classid = 20261"
            )
        await until(lambda: len(starts) == 3)
    assert logged.count("service_failed") == 0
    assert logged.count("database_unavailable", activity="test.s", log_level="warning") == 2
    assert logged.count("database_available", activity="test.s") == 2


async def test_a_service_that_ends_is_left_in_peace(make_daemon: MakeDaemon) -> None:
    ended, others = list[str](), list[int]()

    async def once(context: JobContext) -> None:
        ended.append(context.name)

    plugin = make_plugin(services=[Service(name="once", run=once), troubled(others)])
    async with at_work(make_daemon({"test": plugin}, until_idle=False, timings=QUICK)):
        await until(lambda: bool(ended))
        others.clear()
        await until(lambda: len(others) == 5)
    assert ended == ["test.once"]


async def test_a_service_is_cancelled_when_the_daemon_stops(make_daemon: MakeDaemon) -> None:
    started, cleaned_up = anyio.Event(), []

    async def serve(context: JobContext) -> None:
        try:
            started.set()
            await anyio.sleep_forever()
        finally:
            cleaned_up.append(True)

    async with at_work(make_daemon({"test": make_plugin(services=[Service(name="s", run=serve)])}, until_idle=False)):
        with anyio.fail_after(HANGS):
            await started.wait()
    assert cleaned_up == [True]


@pytest.mark.parametrize("leader", [True, False])
async def test_a_leading_service_runs_in_one_process_and_another_takes_over(
    make_daemon: MakeDaemon, tmp_path: Path, leader: bool, logged: Logged
) -> None:
    active: set[str] = set()

    def daemon(name: str) -> Daemon:
        async def serve(context: JobContext) -> None:
            active.add(name)
            try:
                await anyio.sleep_forever()
            finally:
                active.discard(name)

        service = Service(name="s", run=serve, leader=leader)
        plugins = {"test": make_plugin(services=[service])}
        return make_daemon(plugins, until_idle=False, timings=QUICK, state_dir=str(tmp_path / name))

    async with anyio.create_task_group() as everything:
        async with anyio.create_task_group() as first:
            first.start_soon(daemon("first").run)
            await until(lambda: "first" in active)
            everything.start_soon(daemon("second").run)
            if leader:
                await logged.wait_for_more(3, "another_process_leads", name="test.s")
                assert active == {"first"}
            else:
                await until(lambda: active == {"first", "second"})
            first.cancel_scope.cancel()
        await until(lambda: active == {"second"})
        everything.cancel_scope.cancel()
    assert active == set()


async def test_a_leader_whose_connection_breaks_is_followed_by_one_leader(
    make_daemon: MakeDaemon, tmp_path: Path, database: Database, logged: Logged
) -> None:
    """The lock falls with the connection; who led must not go on as if nothing had happened."""
    active: list[str] = []
    starts = 0

    def daemon(name: str) -> Daemon:
        async def serve(context: JobContext) -> None:
            nonlocal starts
            starts += 1
            active.append(name)
            try:
                await anyio.sleep_forever()
            finally:
                active.remove(name)

        plugins = {"test": make_plugin(services=[Service(name="s", run=serve, leader=True)])}
        return make_daemon(plugins, until_idle=False, timings=QUICK, state_dir=str(tmp_path / name))

    async with at_work(daemon("first"), daemon("second")):
        for turn in (1, 2, 3):
            await until(lambda turn=turn: starts == turn and len(active) == 1)  # type: ignore[misc]
            await database.fetch(
                "select pg_terminate_backend(pid) from pg_locks where locktype = 'advisory' and classid = 20261"
            )
        await until(lambda: starts == 4 and len(active) == 1)
        await logged.wait_for_more(3, "another_process_leads", name="test.s")
        assert starts == 4
        assert len(active) == 1
