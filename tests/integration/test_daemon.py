"""The daemon with a server of its own."""

from __future__ import annotations

import os
import signal
import types
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import anyio
import pytest

from codelupe import (
    Database,
    EventLog,
    HandlerContext,
    Job,
    JobContext,
    RetryPolicy,
    Service,
    Subscription,
    hookimpl,
)
from codelupe.config.sources import Layer, RawSettings, validate
from codelupe.daemon import Daemon
from codelupe.host.discovery import Plugin
from codelupe.host.extensions import Extensions
from codelupe.host.host import Host
from codelupe.work.runtime import Runtime
from codelupe.work.timings import Timings
from codelupe_events import BatchReady, RepoEmpty
from tests.logged import Logged
from tests.plugins import batch, make_plugin
from tests.processes import HANGS

pytestmark = pytest.mark.anyio


async def test_a_killed_embedded_server_comes_back_and_the_work_goes_on(open_directory: Path) -> None:
    state = open_directory / "killed-server"
    attempts: list[int] = []
    handled: list[str] = []

    async def begin(context: JobContext) -> None:
        async with context.transaction():
            context.emit(BatchReady(batch_id=1, files=1, characters=1, repositories=1, min_score=1), key="1")

    async def kill_server_first(event: BatchReady, context: HandlerContext) -> None:
        attempts.append(context.attempt)
        if len(attempts) == 1:
            pid = (state / "postgres" / "data" / "postmaster.pid").read_text().split("\n")[0]
            os.kill(int(pid), signal.SIGKILL)
        async with context.transaction():
            context.emit(RepoEmpty(repository_id="a", url="file:///nowhere"))

    async def note(event: RepoEmpty, context: HandlerContext) -> None:
        handled.append(event.repository_id)

    @hookimpl
    def codelupe_jobs() -> list[Job]:
        return [Job(name="begin", every=timedelta(hours=1), run=begin)]

    @hookimpl
    def codelupe_subscriptions() -> list[Subscription]:
        return [
            Subscription(name="kill", events=(BatchReady,), handler=kill_server_first),
            Subscription(name="note", events=(RepoEmpty,), handler=note),
        ]

    plugin = types.SimpleNamespace(codelupe_jobs=codelupe_jobs, codelupe_subscriptions=codelupe_subscriptions)
    host = Host([Plugin(name="test", distribution="test", version="0", target=plugin)])
    raw = RawSettings([Layer("command line", {"state_dir": str(state), "drain_seconds": 1})])
    settings = validate(raw, host.settings_models(), environment={}).settings
    with anyio.fail_after(HANGS):
        outcome = await Daemon(settings, host, until_idle=True).run()
    assert not outcome.failed_jobs
    assert set(attempts) == {1}, "the server's death uses up no attempt"
    assert handled == ["a"]


async def test_a_killed_embedded_server_is_no_failure_of_a_service(open_directory: Path, logged: Logged) -> None:
    state = open_directory / "killed-under-a-service"
    starts, goes_on = list[int](), anyio.Event()

    async def serve(context: JobContext) -> None:
        starts.append(len(starts))
        if len(starts) == 1:
            pid = (state / "postgres" / "data" / "postmaster.pid").read_text().split("\n")[0]
            os.kill(int(pid), signal.SIGKILL)
        else:
            goes_on.set()
        await anyio.sleep_forever()

    plugin = make_plugin(services=[Service(name="s", run=serve, leader=True)])
    host = Host([Plugin(name="test", distribution="test", version="0", target=plugin)])
    raw = RawSettings([Layer("command line", {"state_dir": str(state), "drain_seconds": 1})])
    settings = validate(raw, host.settings_models(), environment={}).settings
    timings = Timings(restarts=RetryPolicy(base=timedelta(hours=2), cap=timedelta(hours=2)))
    async with anyio.create_task_group() as group:
        group.start_soon(Daemon(settings, host, timings=timings).run)
        with anyio.fail_after(60):
            await goes_on.wait()
        await logged.wait_for("database_available")
        group.cancel_scope.cancel()
    assert logged.count("service_failed") == 0
    warnings = [one for one in logged.records("database_unavailable") if one["log_level"] == "warning"]
    assert len(warnings) == 1, "whichever loop met it first has said so for all"


class Observer:
    """A watcher that keeps what it is told."""

    def __init__(self) -> None:
        self.answers: list[str] = []
        self.told = anyio.Event()

    def stopping(self, *, at_once: bool) -> None:
        self.answers.append("at once" if at_once else "soon")
        self.told.set()
        self.told = anyio.Event()

    async def watch(self, runtime: Runtime, extensions: Extensions) -> None:
        await anyio.sleep_forever()

    async def conclude(self, runtime: Runtime, extensions: Extensions) -> None:
        self.answers.append("concluded")


async def test_a_signal_is_answered_while_work_still_runs_and_a_second_one_ends_it(
    make_daemon: Callable[..., Daemon], database: Database
) -> None:
    await EventLog(database).publish(batch(1))
    started, ended = anyio.Event(), []
    observer = Observer()

    async def handle(event: BatchReady, context: HandlerContext) -> None:
        started.set()
        try:
            await anyio.sleep_forever()
        finally:
            ended.append(list(observer.answers))

    it = make_plugin(subscriptions=[Subscription(name="s", events=(BatchReady,), handler=handle)])
    daemon = make_daemon({"test": it}, until_idle=False, drain_seconds=600)
    async with anyio.create_task_group() as group:
        group.start_soon(daemon.run, observer)
        with anyio.fail_after(HANGS):
            await started.wait()
            for _ in range(2):
                told = observer.told
                os.kill(os.getpid(), signal.SIGINT)
                await told.wait()
    assert observer.answers == ["soon", "at once"]
    assert ended == [["soon", "at once"]], "the first answer came before the work ended"
    assert await database.fetchval("select state from tasks") == "ready"
