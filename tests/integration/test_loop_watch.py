"""Code that blocks the event loop is named, with seconds and stack, and no other is."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
import types
import urllib.request
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

import anyio
import anyio.to_thread
import pytest
from prometheus_client import CollectorRegistry

from codelupe import BatchContext, BatchSubscription, Database, HandlerContext, Job, JobContext, Service, Subscription
from codelupe.daemon import Daemon
from codelupe.log import EventLog
from codelupe.observability.attribution import attributed_to
from codelupe.observability.loop_watch import LoopWatch
from codelupe.views.incidents import read_incidents
from codelupe.work.timings import Timings
from codelupe_events import BatchReady
from tests.logged import Logged
from tests.plugins import batch, make_plugin
from tests.processes import HANGS

pytestmark = pytest.mark.anyio

THRESHOLD = 0.2
BLOCK = 0.7
TIMINGS = Timings(blocked=THRESHOLD)
SLACK = 0.3
"""What a busy machine may take to give a thread its turn."""


def block() -> None:
    time.sleep(BLOCK)


def compute(seconds: float = BLOCK) -> None:
    """Without letting another thread have the interpreter: one match that goes back and forth."""
    began, letters = time.monotonic(), 18
    while time.monotonic() - began < seconds:
        began = time.monotonic()
        re.match(r"(a+)+$", "a" * letters + "b")
        letters += 1


def package(name: str, source: str) -> Any:
    """A plugin's module in a package of its own."""
    module = types.ModuleType(name)
    module.__package__ = name
    exec(source, module.__dict__)
    return module


def culprits(logged: Logged) -> set[tuple[Any, ...]]:
    """Plugin, stage and stream of all that was said to block."""
    return {(one["plugin"], one.get("stage"), one.get("stream")) for one in logged.records("event_loop_blocked")}


# --- the watch by itself ---


@asynccontextmanager
async def watched(packages: dict[str, str] | None = None, threshold: float = THRESHOLD) -> AsyncIterator[LoopWatch]:
    with LoopWatch(packages or {}, threshold) as watch:
        await anyio.sleep(0)
        yield watch


def sample(watch: LoopWatch) -> dict[str, float]:
    registry = CollectorRegistry()
    registry.register(watch)
    return {
        f"{one.name.removeprefix('codelupe_event_loop_blocked_seconds_')} {one.labels['plugin']}": one.value
        for family in registry.collect()
        for one in family.samples
    }


async def test_a_block_is_told_with_its_seconds_while_it_lasts_and_at_its_end(logged: Logged) -> None:
    async with watched() as watch:
        began = time.monotonic()
        with attributed_to("plugin.work", "stream/1"):
            block()
        took = time.monotonic() - began
        await logged.wait_for("event_loop_free")
        [taken] = watch.take()
        assert watch.take() == []
    told = logged.records("event_loop_blocked")
    assert [round(one["seconds"] / THRESHOLD) for one in told][:2] == [1, 2], "each time it has doubled"
    assert all("time.sleep(BLOCK)" in one["stack"] for one in told)
    [end] = logged.records("event_loop_free")
    who = {"plugin": "plugin", "stage": "plugin.work", "stream": "stream/1"}
    assert who.items() <= end.items()
    assert all(who.items() <= one.items() for one in told)
    assert took - THRESHOLD / 10 - SLACK < taken.seconds < took + SLACK
    assert sample(watch) == {"count plugin": 1, "sum plugin": pytest.approx(taken.seconds)}


async def test_what_takes_less_than_the_threshold_is_not_told(logged: Logged) -> None:
    async with watched(threshold=30) as watch:
        with attributed_to("plugin.work"):
            block()
        await anyio.sleep(0)
        assert watch.take() == []
    assert logged.records("event_loop_blocked") == logged.records("event_loop_free") == []
    assert sample(watch) == {}


async def test_a_handler_that_waits_beside_it_is_not_named(logged: Logged) -> None:
    async def wait() -> None:
        with attributed_to("innocent.work"):
            while not logged.count("event_loop_free"):
                await asyncio.sleep(0)

    async def block_once() -> None:
        with attributed_to("guilty.work", "s"):
            await asyncio.sleep(0.01)
            block()

    async with watched(), anyio.create_task_group() as group:
        for start in (wait, wait, block_once, wait, wait):
            group.start_soon(start)
    assert culprits(logged) == {("guilty", "guilty.work", "s")}


async def test_one_that_lets_no_thread_have_the_interpreter_is_named(logged: Logged) -> None:
    """The thread that watches is kept out, too, and sees only the end."""
    async with watched() as watch:
        await anyio.sleep(2 * THRESHOLD)
        with attributed_to("guilty.regex"):
            compute()
        await logged.wait_for("event_loop_free")
        [taken] = watch.take()
    assert culprits(logged) == {("guilty", "guilty.regex", None)}
    assert taken.seconds > BLOCK / 3
    assert "compute" in taken.running.stack


async def test_what_a_handler_started_is_its_own(logged: Logged) -> None:
    """A task of its own, and a callback for later: neither is below the handler in the stack."""
    loop = asyncio.get_running_loop()

    async def child() -> None:
        block()

    async with watched():
        with attributed_to("guilty.tasks"):
            task = loop.create_task(child())
        await task
        await logged.wait_for("event_loop_free", stage="guilty.tasks")
        with attributed_to("guilty.callbacks"):
            loop.call_later(0.01, time.sleep, BLOCK)
        await logged.wait_for("event_loop_free", stage="guilty.callbacks")
    assert culprits(logged) == {("guilty", f"guilty.{what}", None) for what in ("tasks", "callbacks")}


async def test_what_a_plugin_contributed_is_named_where_another_calls_it(logged: Logged) -> None:
    rules = package("acme_rules", "import time\ndef judge(seconds):\n    time.sleep(seconds)\n")
    async with watched({"acme_rules": "acme"}):
        with attributed_to("filters.files", "repo/1"):
            rules.judge(BLOCK)
        await logged.wait_for("event_loop_free")
    assert culprits(logged) == {("acme", "filters.files", "repo/1")}


async def test_a_callback_of_a_connection_is_not_its_opener_s(logged: Logged) -> None:
    """A connection lives on with the context of the handler that opened it, and serves others."""
    received = anyio.Event()

    class Protocol(asyncio.Protocol):
        def data_received(self, data: bytes) -> None:
            block()
            received.set()

    ours, theirs = socket.socketpair()
    with theirs:
        async with watched():
            with attributed_to("innocent.opener"):
                connection, _ = await asyncio.get_running_loop().create_connection(Protocol, sock=ours)
            theirs.send(b"x")
            await received.wait()
            await logged.wait_for("event_loop_free")
            connection.close()
    assert culprits(logged) == {("codelupe", None, None)}


async def test_several_that_block_in_turn_are_told_apart(logged: Logged) -> None:
    """The loop answers only after all of them. Those that are brief are not told, and both that are long are."""

    async def block_for(seconds: float, stage: str) -> None:
        with attributed_to(stage):
            await asyncio.sleep(0)
            time.sleep(seconds)

    async with watched(threshold=0.5) as watch:
        async with anyio.create_task_group() as group:
            for number in range(3):
                group.start_soon(block_for, 0.2, f"brief.{number}")
            group.start_soon(block_for, 0.9, "long.a")
            group.start_soon(block_for, 0.9, "long.b")
        ended = {one.running.stage: one.seconds for one in watch.take()}
    assert culprits(logged) == {("long", "long.a", None), ("long", "long.b", None)}
    assert {*ended} == {"long.a", "long.b"}
    assert all(0.9 - SLACK < seconds < 0.9 + SLACK for seconds in ended.values())
    assert sample(watch) == {"count long": 2, "sum long": pytest.approx(sum(ended.values()))}


STOPPED = f"""
import anyio, time
from codelupe.observability.loop_watch import LoopWatch
from codelupe.observability.attribution import attributed_to

async def main():
    with LoopWatch({{}}, {THRESHOLD}), attributed_to("innocent.work"):
        print("here", flush=True)
        end = time.monotonic() + {BLOCK}
        while time.monotonic() < end:
            await anyio.sleep(0)
        print("ended", flush=True)

anyio.run(main)
"""


async def test_a_process_that_was_stopped_blames_no_code() -> None:
    """It was at work all the time, and would look as if its code had gone on for long."""
    with subprocess.Popen([sys.executable, "-c", STOPPED], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "here\n"
        os.kill(process.pid, signal.SIGSTOP)
        await anyio.sleep(4 * THRESHOLD)
        os.kill(process.pid, signal.SIGCONT)
        said, _ = process.communicate(timeout=HANGS)
    assert "process_stood_still" in said
    assert "event_loop_blocked" not in said


async def test_a_block_that_lasts_is_in_the_metrics_already() -> None:
    seen: list[dict[str, float]] = []
    async with watched() as watch:

        def look() -> None:
            while not seen:
                if found := sample(watch):
                    seen.append(found)
                time.sleep(0.01)

        thread = threading.Thread(target=look)
        thread.start()
        with attributed_to("plugin.work"):
            thread.join()
    assert seen[0]["count plugin"] == 1
    assert seen[0]["sum plugin"] >= THRESHOLD


# --- in a daemon ---


Daemons = Callable[..., Daemon]


async def test_a_handler_of_a_third_party_is_named_and_the_one_beside_it_is_not(
    make_daemon: Daemons, database: Database, logged: Logged
) -> None:
    """With plugin, subscription, stream, seconds and stack: in the log, in the database, and in nothing else's name."""
    await EventLog(database).publish(batch(1))
    waits, blocked = anyio.Event(), anyio.Event()

    async def wait(event: BatchReady, context: HandlerContext) -> None:
        waits.set()
        await blocked.wait()

    async def handle(event: BatchReady, context: HandlerContext) -> None:
        await waits.wait()
        block()
        blocked.set()

    plugins = {
        "ours": make_plugin(subscriptions=[Subscription(name="wait", events=(BatchReady,), handler=wait)]),
        "blocker": make_plugin(subscriptions=[Subscription(name="h", events=(BatchReady,), handler=handle)]),
    }
    with anyio.fail_after(HANGS):
        await make_daemon(plugins, timings=TIMINGS).run()
    assert culprits(logged) == {("blocker", "blocker.h", "batch/1")}
    assert "in handle" in logged.records("event_loop_blocked")[0]["stack"]
    [incident] = await read_incidents(database)
    assert (incident.plugin, incident.kind, incident.stage) == ("blocker", "blocked_loop", "blocker.h")
    assert (incident.stream, incident.count) == ("batch/1", 1)
    assert BLOCK - THRESHOLD / 10 - SLACK < incident.seconds < BLOCK + SLACK
    assert "in handle" in incident.stack


async def test_a_daemon_serves_it_with_its_metrics(make_daemon: Daemons, database: Database, logged: Logged) -> None:
    await EventLog(database).publish(batch(1))
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    served = []

    def scrape() -> str:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=HANGS) as response:
            return str(response.read().decode())

    async def handle(event: BatchReady, context: HandlerContext) -> None:
        block()
        await logged.wait_for("event_loop_free", stage="blocker.h")
        served.append(await anyio.to_thread.run_sync(scrape))

    it = make_plugin(subscriptions=[Subscription(name="h", events=(BatchReady,), handler=handle)])
    with anyio.fail_after(HANGS):
        await make_daemon({"blocker": it}, timings=TIMINGS, metrics_port=port).run()
    assert 'codelupe_event_loop_blocked_seconds_count{plugin="blocker"} 1.0' in served[0]


async def test_batch_handlers_jobs_and_services_are_named_as_well(
    make_daemon: Daemons, database: Database, logged: Logged
) -> None:
    await EventLog(database).publish(batch(1))

    async def handle_batch(events: object, context: BatchContext) -> None:
        block()

    async def run(context: JobContext) -> None:
        block()

    async def serve(context: JobContext) -> None:
        block()
        await anyio.sleep_forever()

    plugins = {
        "a": make_plugin(subscriptions=[BatchSubscription(name="b", events=(BatchReady,), handler=handle_batch)]),
        "c": make_plugin(jobs=[Job(name="j", every=timedelta(hours=1), run=run)]),
        "d": make_plugin(services=[Service(name="s", run=serve)]),
    }
    async with anyio.create_task_group() as group:
        group.start_soon(make_daemon(plugins, until_idle=False, timings=TIMINGS).run)
        with anyio.fail_after(HANGS):
            for stage in ("a.b", "c.j", "d.s"):
                await logged.wait_for("event_loop_free", stage=stage)
            while len(await read_incidents(database)) < 3:
                await anyio.sleep(0.01)
        group.cancel_scope.cancel()
    assert {(who, stage) for who, stage, _ in culprits(logged)} == {("a", "a.b"), ("c", "c.j"), ("d", "d.s")}


async def test_the_table_keeps_the_last_time_and_counts_the_others(
    make_daemon: Daemons, database: Database, logged: Logged
) -> None:
    for number in (1, 2, 3):
        await EventLog(database).publish(batch(number))

    async def handle(event: BatchReady, context: HandlerContext) -> None:
        while logged.count("event_loop_free") < event.batch_id - 1:
            await anyio.sleep(0.01)
        block()

    it = make_plugin(subscriptions=[Subscription(name="h", events=(BatchReady,), handler=handle)])
    with anyio.fail_after(HANGS):
        await make_daemon({"blocker": it}, timings=TIMINGS).run()
    [incident] = await read_incidents(database)
    assert (incident.count, incident.stream) == (3, "batch/3")


async def test_a_block_goes_on_without_its_table(make_daemon: Daemons, database: Database, logged: Logged) -> None:
    """The log has it; what cannot be recorded ends no daemon."""
    await EventLog(database).publish(batch(1))
    handled = []

    async def handle(event: BatchReady, context: HandlerContext) -> None:
        await database.execute("drop table plugin_incidents")
        block()
        handled.append(event.batch_id)

    it = make_plugin(subscriptions=[Subscription(name="h", events=(BatchReady,), handler=handle)])
    with anyio.fail_after(HANGS):
        await make_daemon({"blocker": it}, timings=TIMINGS).run()
    assert handled == [1]
    assert logged.count("event_loop_free", stage="blocker.h") == 1
