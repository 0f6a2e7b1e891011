"""The daemon with a server of its own."""

from __future__ import annotations

import os
import signal
import types
from datetime import timedelta
from pathlib import Path

import anyio
import pytest

from codelupe import HandlerContext, Job, JobContext, Subscription, hookimpl
from codelupe.config.sources import Layer, RawSettings, validate
from codelupe.daemon import Daemon
from codelupe.host.discovery import Plugin
from codelupe.host.host import Host
from codelupe_events import BatchReady, RepoEmpty

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
    with anyio.fail_after(60):
        outcome = await Daemon(settings, host, until_idle=True).run()
    assert not outcome.failed_jobs
    assert set(attempts) == {1}, "the server's death uses up no attempt"
    assert handled == ["a"]
