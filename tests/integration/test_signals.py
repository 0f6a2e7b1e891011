"""A daemon in a process of its own, on a terminal or without one: no signal of an operator's ends it undrained."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import signal
import subprocess
import sys
import termios
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
import pytest

from codelupe import Database
from codelupe.log import EventLog
from tests.plugins import batch
from tests.processes import HANGS

pytestmark = pytest.mark.anyio

PLUGIN = """
from pathlib import Path

import anyio

from codelupe import Service, Subscription, hookimpl
from codelupe_events import BatchReady


async def handle(event, context):
    Path("begun").touch()
    while not Path("may-end").exists():
        await anyio.sleep(0.01)
    Path("ended").touch()


@hookimpl
def codelupe_subscriptions():
    return [Subscription(name="s", events=(BatchReady,), handler=handle)]


async def serve(context):
    try:
        await anyio.sleep_forever()
    finally:
        Path("stops").touch()


@hookimpl
def codelupe_services():
    return [Service(name="t", run=serve)]
"""
OTHERS = ["crawler", "dataset", "downloader", "filters", "ray", "scorers", "search", "trainer"]


@pytest.fixture
async def folder(tmp_path: Path, database: Database) -> Path:
    """Where the daemon runs, with a plugin that has something to do until it may end."""
    (tmp_path / "slow_plugin.py").write_text(PLUGIN)
    information = tmp_path / "slow_plugin-1.dist-info"
    information.mkdir()
    (information / "METADATA").write_text("Metadata-Version: 2.1\nName: slow-plugin\nVersion: 1\n")
    (information / "entry_points.txt").write_text("[codelupe]\nslow = slow_plugin\n")
    await EventLog(database).publish(batch(1))
    return tmp_path


@pytest.fixture
def start(folder: Path, database_url: str) -> Iterator[Callable[..., subprocess.Popen[bytes]]]:
    """Starts the daemon in a session of its own, and kills what is left of it in the end."""
    started = []
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(folder), os.environ.get("PYTHONPATH", "")]),
        "CODELUPE_STATE_DIR": str(folder / "state"),
        "CODELUPE_DATABASE_URL": database_url,
    }
    command = [sys.executable, "-m", "codelupe", "run", "--set", f"disabled_plugins={json.dumps(OTHERS)}"]

    def run(*options: str, **arguments: Any) -> subprocess.Popen[bytes]:
        process = subprocess.Popen(
            [*command, *options], cwd=folder, env=environment, start_new_session=True, **arguments
        )
        started.append(process)
        return process

    yield run
    for process in started:
        process.kill()
        process.wait()


async def appears(path: Path) -> None:
    with anyio.fail_after(HANGS):
        while not path.exists():
            await anyio.sleep(0.01)


async def wait_for_line(path: Path, *words: str) -> str:
    """The first line of the file with all these words in it."""
    with anyio.fail_after(HANGS):
        while True:
            for line in path.read_text().splitlines():
                if all(word in line for word in words):
                    return line
            await anyio.sleep(0.01)


async def exit_code(process: subprocess.Popen[bytes]) -> int:
    return await anyio.to_thread.run_sync(lambda: process.wait(timeout=HANGS))


def ignores(process: subprocess.Popen[bytes], number: signal.Signals) -> bool:
    status = Path(f"/proc/{process.pid}/status").read_text()
    [mask] = [line.split()[1] for line in status.splitlines() if line.startswith("SigIgn:")]
    return bool(int(mask, 16) >> (number - 1) & 1)


async def test_without_a_terminal_only_a_request_to_stop_stops_it(
    start: Callable[..., subprocess.Popen[bytes]], folder: Path
) -> None:
    """As under systemd. It says what it does not do, goes on, and ends in order when it is told to."""
    said = folder / "said"
    with said.open("wb") as stderr:
        process = start("--set", "log_format=json", stdin=subprocess.DEVNULL, stdout=stderr, stderr=stderr)
    await appears(folder / "begun")
    process.send_signal(signal.SIGHUP)
    assert "Restart" in json.loads(await wait_for_line(said, "reload_not_supported"))["hint"]
    for number in (signal.SIGUSR1, signal.SIGUSR2):
        process.send_signal(number)
        await wait_for_line(said, "signal_ignored", number.name)
    process.send_signal(signal.SIGQUIT)
    await wait_for_line(said, "Current thread", "most recent call first")
    (folder / "may-end").touch()
    await appears(folder / "ended")
    assert process.poll() is None
    process.send_signal(signal.SIGTERM)
    assert await exit_code(process) == 0


@contextmanager
def terminal() -> Iterator[tuple[int, Callable[[], None]]]:
    """The program's end of a terminal, and what hangs up the other."""
    ours, theirs = pty.openpty()
    try:
        yield theirs, lambda: os.close(ours)
    finally:
        os.close(theirs)


async def test_a_terminal_that_is_closed_lets_running_work_end(
    start: Callable[..., subprocess.Popen[bytes]], folder: Path, database: Database
) -> None:
    """Its shell says it a second time, which asks for no more haste; and what is shown can be shown no longer."""
    with terminal() as (tty, hang_up):
        take_it = lambda: fcntl.ioctl(tty, termios.TIOCSCTTY, 0)  # noqa: E731
        process = start(stdin=tty, stdout=tty, stderr=tty, preexec_fn=take_it)
        await appears(folder / "begun")
        hang_up()
        await appears(folder / "stops")
        process.send_signal(signal.SIGHUP)
        (folder / "may-end").touch()
        assert await exit_code(process) == 0
    assert (folder / "ended").exists()
    assert await database.fetchval("select count(*) from tasks") == 0


async def test_nohup_is_obeyed(start: Callable[..., subprocess.Popen[bytes]], folder: Path) -> None:
    process = start(
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN),
    )
    await appears(folder / "begun")
    assert ignores(process, signal.SIGHUP)
    assert not ignores(process, signal.SIGTERM)


async def test_a_reader_of_its_messages_that_leaves_stops_no_work(
    start: Callable[..., subprocess.Popen[bytes]], folder: Path
) -> None:
    process = start("--set", "log_format=json", stdin=subprocess.DEVNULL, stderr=subprocess.PIPE)
    await appears(folder / "begun")
    assert process.stderr is not None
    process.stderr.close()
    process.send_signal(signal.SIGTERM)
    await appears(folder / "stops")
    (folder / "may-end").touch()
    assert await exit_code(process) == 0
    assert (folder / "ended").exists()
