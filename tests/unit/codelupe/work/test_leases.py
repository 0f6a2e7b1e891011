"""Is a process alive, and does the heartbeat keep, lose and give up its lease?"""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from uuid import UUID

import anyio
import anyio.to_thread
import pytest

from codelupe import Database
from codelupe.log.records import uuid7
from codelupe.work.leases import SQL, STANDSTILL, Heartbeat, ProcessIdentity, SignsOfLife, is_alive
from tests.clock import Clock
from tests.logged import Logged
from tests.processes import HANGS

BRIEF = timedelta(milliseconds=400)


# --- processes ---


def started(pid: int) -> str:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]


def test_this_process_is_alive() -> None:
    identity = ProcessIdentity.of_this_process()
    assert identity.pid == os.getpid()
    assert identity.host
    assert identity.boot_id
    assert is_alive(identity.pid, identity.pid_started)


def test_a_process_with_the_same_number_that_started_at_another_time_is_another_one() -> None:
    identity = ProcessIdentity.of_this_process()
    assert not is_alive(identity.pid, str(int(identity.pid_started) - 1))
    assert not is_alive(identity.pid, "")


def test_a_name_with_brackets_and_spaces_confuses_nobody(tmp_path: Path) -> None:
    program = tmp_path / "a) Z (b"
    program.symlink_to("/bin/sleep")
    with subprocess.Popen([program, "60"]) as child:
        assert is_alive(child.pid, started(child.pid))
        child.kill()


def test_a_process_is_dead_once_it_is_killed_even_before_its_parent_notices() -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as child:
        since = started(child.pid)
        assert is_alive(child.pid, since)
        child.kill()
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
        assert not is_alive(child.pid, since), "a zombie"
    assert not is_alive(child.pid, since)


# --- the heartbeat ---

HOUR = timedelta(hours=1)
OFTEN = timedelta(milliseconds=20)


async def take_lease(database: Database, ttl: timedelta) -> UUID:
    worker, identity = uuid7(), ProcessIdentity.of_this_process()
    await database.execute(
        SQL.register_worker, worker, ttl, identity.host, identity.boot_id, identity.pid, identity.pid_started
    )
    return worker


@contextmanager
def beating(database: Database, worker: UUID, ttl: timedelta, reasons: list[str]) -> Iterator[Heartbeat]:
    heartbeat = Heartbeat(database, worker, ttl, reasons.append, every=OFTEN)
    heartbeat.start()
    try:
        yield heartbeat
    finally:
        heartbeat.stop()


def beats() -> bool:
    return any(thread.name == "heartbeat" for thread in threading.enumerate())


async def until_the_lease_is_whole(database: Database) -> None:
    """Until a beat has come since the clock was moved."""
    with anyio.fail_after(HANGS):
        while not await database.fetchval("select lease_until = log_time() + $1::interval from workers", HOUR):
            await anyio.sleep(0.01)


async def until_it_ends() -> None:
    with anyio.fail_after(HANGS):
        while beats():
            await anyio.sleep(0.01)


@pytest.mark.anyio
async def test_a_heartbeat_keeps_the_lease_and_stops_when_told(database: Database, clock: Clock) -> None:
    worker, reasons = await take_lease(database, HOUR), list[str]()
    with beating(database, worker, HOUR, reasons):
        for _ in range(5):
            await clock.advance(HOUR / 2)
            await until_the_lease_is_whole(database)
        assert beats()
    assert not beats()
    assert reasons == []


@pytest.mark.anyio
async def test_a_loop_that_is_blocked_does_not_cost_the_lease(database: Database, clock: Clock) -> None:
    worker, reasons = await take_lease(database, HOUR), list[str]()

    async def watch() -> None:
        async with Database(database.url) as own:
            await until_the_lease_is_whole(own)

    with beating(database, worker, HOUR, reasons):
        await clock.advance(HOUR / 2)
        watcher = threading.Thread(target=lambda: anyio.run(watch))
        watcher.start()
        watcher.join()  # and so this loop stands still
        assert await database.fetchval("select lease_until = log_time() + $1::interval from workers", HOUR)
    assert reasons == []


@pytest.mark.anyio
async def test_a_lease_that_another_took_is_lost_once(database: Database) -> None:
    worker, reasons = await take_lease(database, HOUR), list[str]()
    with beating(database, worker, HOUR, reasons):
        await database.execute(SQL.delete_workers, [worker])
        await until_it_ends()
        assert len(reasons) == 1
        assert "another process" in reasons[0]


@pytest.mark.anyio
async def test_a_database_that_is_away_for_the_whole_time_costs_the_lease() -> None:
    nowhere = Database("postgresql://nobody@127.0.0.1:1/nothing")
    reasons: list[str] = []
    began = time.monotonic()
    with beating(nowhere, uuid7(), BRIEF, reasons):
        await until_it_ends()
    assert "could not be reached" in reasons[0]
    assert time.monotonic() - began >= BRIEF.total_seconds()


@pytest.mark.anyio
async def test_a_connection_that_breaks_is_made_anew(database: Database, clock: Clock) -> None:
    worker, reasons = await take_lease(database, HOUR), list[str]()
    with beating(database, worker, HOUR, reasons):
        for _ in range(3):
            await clock.advance(HOUR / 2)
            await until_the_lease_is_whole(database)
            broken = await database.fetch(
                "select pg_terminate_backend(pid) from pg_stat_activity"
                " where datname = current_database() and query like 'update workers%'"
            )
            assert broken
        await clock.advance(HOUR / 2)
        await until_the_lease_is_whole(database)
    assert reasons == []


# --- loops that stand ---


class Standing(SignsOfLife):
    """Loops of which one has not come round for so many seconds."""

    seconds = 0.0

    @property
    def longest_silence(self) -> tuple[str, float]:
        return "feeder", self.seconds


@pytest.mark.anyio
async def test_a_loop_that_stands_for_less_than_the_lease_never_costs_it(database: Database, clock: Clock) -> None:
    worker, signs, reasons = await take_lease(database, HOUR), Standing(), list[str]()
    signs.seconds = HOUR.total_seconds() * 0.99
    heartbeat = Heartbeat(database, worker, HOUR, reasons.append, every=OFTEN, signs=signs)
    heartbeat.start()
    await clock.advance(HOUR / 4)
    with anyio.fail_after(HANGS):
        left = HOUR * STANDSTILL - timedelta(seconds=signs.seconds)  # others may come when it has stood too long
        while await database.fetchval("select lease_until - log_time() from workers") != left:
            await anyio.sleep(0.01)
    heartbeat.stop()
    assert reasons == []


@pytest.mark.anyio
async def test_a_loop_that_stands_for_too_long_costs_the_lease_and_is_named(database: Database, logged: Logged) -> None:
    worker, signs, reasons = await take_lease(database, HOUR), Standing(), list[str]()
    signs.seconds = HOUR.total_seconds() * STANDSTILL
    heartbeat = Heartbeat(database, worker, HOUR, reasons.append, every=OFTEN, signs=signs)
    heartbeat.start()
    await until_it_ends()
    assert "feeder has not come round for 5400.0 s" in reasons[0]
    assert logged.count("loop_stands", loop="feeder", seconds=5400.0) == 1
    heartbeat.stop()


@pytest.mark.anyio
async def test_what_the_loops_do_is_seen_from_another_thread() -> None:
    signs = SignsOfLife()
    signs.record("events")
    stacks: list[str] = []
    thread = threading.Thread(target=lambda: stacks.append(signs.stack))
    thread.start()
    thread.join()
    assert "test_what_the_loops_do_is_seen_from_another_thread" in stacks[0]
    assert signs.longest_silence[0] == "events"
    signs.forget("events", "never seen")
    assert signs.longest_silence[0] == ""
