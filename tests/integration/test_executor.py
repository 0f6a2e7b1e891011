"""The executors behind a real daemon: limits from its settings, and no process left whatever its end is."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import anyio
import pytest

import codelupe_ray
from codelupe import HandlerContext, Subscription, WorkerLost
from codelupe.daemon import Daemon, Outcome
from codelupe.log import EventLog
from codelupe.postgres import Database
from codelupe_events import BatchReady, RepoEmpty
from tests.conftest import RunUntilIdle
from tests.integration.test_ray import TOOK_TOO_LONG, ray_folder
from tests.plugins import batch, empty, make_plugin
from tests.processes import children, read_pid, wait_until_gone
from tests.unit.codelupe.executor import functions

__all__ = ["ray_folder"]
pytestmark = [
    pytest.mark.anyio,
    pytest.mark.usefixtures("ray_folder"),
    pytest.mark.xdist_group("ray"),
    pytest.mark.timeout(600),
]
BAD = functions.BAD

EXECUTORS: dict[str, dict[str, Any]] = {
    "processes": {"executor_workers": 2, "executor_file_seconds": 1, "executor_worker_mib": 512},
    "ray": {"workers": 2, "file_seconds": 1, "worker_mib": 512},
}
executors = pytest.mark.parametrize("executor", ["processes", pytest.param("ray", marks=pytest.mark.slow)])
RAY_HANGS = 240
"""Seconds: Ray first starts half a dozen processes, which takes ten seconds on two cores with nothing else to do."""


def settings_of(executor: str) -> dict[str, Any]:
    """The arguments after the plugins."""
    if executor == "ray":
        return {"settings": {"ray": EXECUTORS["ray"]}, "executor": "ray"}
    return EXECUTORS[executor]


def spinner(path: Path) -> object:
    """A plugin whose handler gives the executor work without an end."""

    async def handle(event: BatchReady, context: HandlerContext) -> None:
        await context.executor.run(functions.write_pid_and_spin, str(path))

    return make_plugin(subscriptions=[Subscription(name="spin", events=(BatchReady,), handler=handle)])


@executors
async def test_a_file_that_ruins_its_process_is_known_by_its_reason_and_the_others_are_done(
    run_until_idle: RunUntilIdle, tmp_path: Path, executor: str
) -> None:
    outcomes: list[int | WorkerLost] = []

    async def handle(event: BatchReady, context: HandlerContext) -> None:
        seen = str(tmp_path / "seen")
        for how in (functions.spin, functions.segfault, functions.eat_memory):
            outcomes.extend(await context.executor.map(functions.die_on_bad, range(12), how, (BAD,), seen))
        context.emit(empty(event.batch_id))

    it = make_plugin(subscriptions=[Subscription(name="map", events=(BatchReady,), handler=handle)])
    events = await run_until_idle({"it": it, "ray": codelupe_ray}, events=[batch(1)], **settings_of(executor))
    assert [event for event in events if isinstance(event, RepoEmpty)] == [empty(1)]
    slow, *others = [outcome.reason for outcome in outcomes if isinstance(outcome, WorkerLost)]
    assert slow in TOOK_TOO_LONG
    assert others == ["its process died of SIGSEGV", "it needed more than 512 MiB of memory"]
    squares = [item * item for item in range(12) if item != BAD]
    assert [outcome for outcome in outcomes if not isinstance(outcome, WorkerLost)] == squares * 3


@pytest.fixture
async def cluster(ray_folder: Path) -> AsyncIterator[str]:
    """The address of a Ray of two CPUs that an administrator has started."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    options = f"--block --num-cpus=2 --include-dashboard=false --disable-usage-stats --temp-dir={ray_folder}"
    command = [str(Path(sys.executable).parent / "ray"), "start", "--head", f"--port={port}", *options.split()]
    async with await anyio.open_process(command, stderr=subprocess.STDOUT) as ray:
        assert ray.stdout is not None
        output = ""
        while "To terminate the Ray runtime" not in output:
            output += (await ray.stdout.receive()).decode()
        yield output.split("--address='")[1].split("'")[0]
        ray.terminate()


@pytest.mark.slow
async def test_the_daemon_works_on_a_cluster_that_runs_already(run_until_idle: RunUntilIdle, cluster: str) -> None:
    outcomes: list[int | WorkerLost] = []

    async def handle(event: BatchReady, context: HandlerContext) -> None:
        outcomes.extend(await context.executor.map(functions.square, range(200)))

    it = make_plugin(subscriptions=[Subscription(name="map", events=(BatchReady,), handler=handle)])
    settings = {"ray": {"address": cluster}}
    await run_until_idle({"it": it, "ray": codelupe_ray}, settings, [batch(1)], executor="ray")
    assert outcomes == [item * item for item in range(200)]


@executors
async def test_a_daemon_told_to_stop_leaves_no_process(
    make_daemon: Callable[..., Daemon], database: Database, tmp_path: Path, executor: str
) -> None:
    before = children()
    await EventLog(database).publish(batch(1))
    plugins = {"spinner": spinner(tmp_path / "pid"), "ray": codelupe_ray}
    daemon = make_daemon(plugins, until_idle=False, drain_seconds=0.1, **settings_of(executor))
    outcomes: list[Outcome] = []

    async def run() -> None:
        outcomes.append(await daemon.run())

    async with anyio.create_task_group() as group:
        group.start_soon(run)
        pid = await read_pid(tmp_path / "pid", RAY_HANGS)
        os.kill(os.getpid(), signal.SIGTERM)
    assert [outcome.interrupted for outcome in outcomes] == [True]
    await wait_until_gone(pid)
    assert children() == before
    alarm_in = signal.getitimer(signal.ITIMER_REAL)[0]
    assert alarm_in > 60 or not alarm_in, "pytest's own, and not Ray's at a SIGTERM, which aborts a daemon that drains"


@executors
async def test_a_daemon_that_is_killed_leaves_no_worker(
    database_url: str, database: Database, tmp_path: Path, executor: str
) -> None:
    await EventLog(database).publish(batch(1))
    program = f"""
import anyio
import codelupe_ray
from pathlib import Path
from codelupe.config.sources import Layer, RawSettings, validate
from codelupe.daemon import Daemon
from codelupe.host.host import Host
from codelupe.host.discovery import Plugin
from tests.integration.test_executor import settings_of, spinner

plugins = {{"spinner": spinner(Path({str(tmp_path / "pid")!r})), "ray": codelupe_ray}}
host = Host([Plugin(name=name, distribution="test", version="0", target=it) for name, it in plugins.items()])
core = settings_of({executor!r})
values = {{"state_dir": {str(tmp_path / "state")!r}, "database_url": {database_url!r}}}
values["plugins"] = core.pop("settings", {{}})
raw = RawSettings([Layer("command line", values | core)])
anyio.run(Daemon(validate(raw, host.settings_models(), environment={{}}).settings, host).run)
"""
    with subprocess.Popen([sys.executable, "-c", program], cwd=Path(__file__).parents[2]) as daemon:
        try:
            pid = await read_pid(tmp_path / "pid", RAY_HANGS)
        finally:
            daemon.kill()
    await wait_until_gone(pid)
