"""The log on a full disk, on a server that only reads, and among processes whose clocks are wrong."""

from __future__ import annotations

import json
import os
import random
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path
from urllib.parse import parse_qs, urlsplit
from uuid import UUID

import anyio
import anyio.abc
import asyncpg
import pytest

from codelupe import Database, HandlerContext, Job, JobContext, Subscription
from codelupe.daemon import Daemon
from codelupe.errors import DatabaseUnavailable
from codelupe.log import Entry, EventLog
from codelupe.log.records import derive_key
from codelupe.postgres.embedded import embedded_server
from codelupe.postgres.embedded.home import PORT
from codelupe_events import BatchReady, RepoEmpty
from tests.clock import Clock
from tests.integration.servers import (
    REPLICATES,
    clone_as_standby,
    enlarge_disk,
    fresh_database,
    move_write_ahead_log,
    own_server,
    small_disk,
)
from tests.integration.test_cli import NO_PLUGINS, Shell
from tests.integration.wrong_clock import LEASE_SECONDS, PUT_OFF
from tests.plugins import batch, make_plugin
from tests.processes import HANGS

pytestmark = [pytest.mark.anyio, pytest.mark.xdist_group("surroundings")]


@pytest.fixture
def folder(open_directory: Path) -> Path:
    """A place for a server's data that does not exist yet."""
    return open_directory / f"runtime-{next(_numbers)}"


_numbers = count(1)


# --- a full disk ---


def large(number: int, size: int = 50_000) -> RepoEmpty:
    """An event of this many bytes, which compression makes hardly smaller."""
    return RepoEmpty(repository_id=f"test:{number}", url=noise(number, size))


def noise(seed: int, size: int) -> str:
    return random.Random(seed).randbytes(size // 2).hex()


@pytest.fixture
async def cramped_database(folder: Path, postgres_url: str, open_directory: Path) -> AsyncIterator[Database]:
    """A database on a disk of its own that has little room left, mounted on ``folder``."""
    owner = (open_directory / "postgres/data").stat().st_uid
    with small_disk(folder, "24m", owner):
        administration = await asyncpg.connect(postgres_url.replace("/codelupe?", "/postgres?"))
        try:
            await administration.execute(f"create tablespace cramped location '{folder}'")
            async with fresh_database(postgres_url, tablespace="cramped") as url, Database(url) as database:
                yield database
            await administration.execute("drop tablespace cramped")
        finally:
            await administration.close()


async def test_on_a_full_disk_work_waits_and_goes_on_when_there_is_room(
    make_daemon: Callable[..., Daemon], cramped_database: Database, folder: Path
) -> None:
    log = EventLog(cramped_database)
    await cramped_database.execute("create table effects (stream text, content text)")
    may_write = anyio.Event()
    refusals: list[str] = []
    attempts: set[int] = set()

    async def handle(event: RepoEmpty, context: HandlerContext) -> None:
        attempts.add(context.attempt)
        await may_write.wait()
        try:
            async with context.transaction() as connection:
                await connection.execute("insert into effects values ($1, $2)", event.stream(), noise(0, 200_000))
        except DatabaseUnavailable as error:
            refusals.append(error.message)
            raise

    it = make_plugin(subscriptions=[Subscription(name="s", events=(RepoEmpty,), handler=handle)])
    async with anyio.create_task_group() as group:
        daemon = make_daemon({"test": it}, until_idle=False, database_url=cramped_database.url)
        group.start_soon(daemon.run)
        appended = await publish_until_refused(log)
        may_write.set()
        await until(lambda: bool(refusals))
        assert "No space left on device" in refusals[0]
        enlarge_disk(folder, "200m")
        await until_there_are(len(appended), cramped_database, "select count(*) from effects")
        os.kill(os.getpid(), signal.SIGTERM)
    assert [recorded.stream async for recorded in log.read()] == appended, "what was acknowledged, and nothing else"
    handled = await cramped_database.fetch("select stream from effects")
    assert sorted(row["stream"] for row in handled) == sorted(appended), "each once"
    assert attempts == {1}, "a full disk uses up no attempt"


async def publish_until_refused(log: EventLog) -> list[str]:
    """The streams of the events that were appended before the disk was full."""
    appended: list[str] = []
    with pytest.raises(DatabaseUnavailable, match="No space left on device"):
        for number in count(1):
            await log.publish(large(number))
            appended.append(large(number).stream())
    return appended


@pytest.mark.timeout(300)
async def test_a_server_that_dies_of_a_full_disk_loses_nothing_and_comes_back_when_there_is_room(
    make_daemon: Callable[..., Daemon], folder: Path
) -> None:
    """Without room for its write-ahead log Postgres gives up; the daemon starts it again as soon as it can."""
    postgres = folder / "state/postgres"
    appended: list[str] = []

    async def append(context: JobContext) -> None:
        for number in range(len(appended) + 1, 301):
            event = large(number, 200_000)
            async with context.transaction():
                context.emit(event, key=str(number))
            appended.append(event.stream())

    async def handle(event: RepoEmpty, context: HandlerContext) -> None:
        async with context.transaction() as connection:
            await connection.execute("insert into effects values ($1)", event.stream())

    async def make_room() -> None:
        while "PANIC" not in (postgres / "server.log").read_text():
            await anyio.sleep(0.01)
        enlarge_disk(folder / "wal", "1g")

    it = make_plugin(
        subscriptions=[Subscription(name="s", events=(RepoEmpty,), handler=handle)],
        jobs=[Job(name="append", every=timedelta(hours=1), run=append)],
    )
    async with embedded_server(postgres) as url, Database(url) as database:
        await database.execute("create table effects (stream text)")
    with small_disk(folder / "wal", "40m", (postgres / "data").stat().st_uid):
        move_write_ahead_log(postgres, folder / "wal")
        async with anyio.create_task_group() as group:
            group.start_soon(make_room)
            with anyio.fail_after(240):
                await make_daemon({"test": it}, database_url=None, state_dir=str(folder / "state")).run()
        async with embedded_server(postgres) as url, Database(url) as database:
            streams = [one.stream async for one in EventLog(database).read() if one.type == "RepoEmpty"]
            handled = [row["stream"] for row in await database.fetch("select stream from effects")]
    assert len(appended) == 300
    assert sorted(streams) == sorted(appended)
    assert sorted(handled) == sorted(appended), "each once"


# --- a server that only reads ---


@pytest.fixture(scope="module")
async def replicated(open_directory: Path, anyio_backend: str) -> AsyncIterator[tuple[str, str]]:
    """The URLs of a server and of a standby that follows it."""
    async with following(open_directory / "primary", open_directory / "standby") as urls:
        yield urls


@asynccontextmanager
async def following(primary: Path, standby: Path) -> AsyncIterator[tuple[str, str]]:
    async with own_server(primary, REPLICATES):
        pass
    clone_as_standby(primary, standby)
    async with embedded_server(primary) as primary_url, embedded_server(standby) as standby_url:
        yield primary_url, standby_url


async def catch_up(primary: Database, standby: Database) -> None:
    """Wait until the standby shows all that the primary has committed."""
    end = await primary.fetchval("select pg_current_wal_flush_lsn()")
    with anyio.fail_after(HANGS):
        while not await standby.fetchval("select pg_last_wal_replay_lsn() >= $1", end):
            await anyio.sleep(0.01)


async def test_appending_to_a_standby_says_that_it_only_reads(replicated: tuple[str, str]) -> None:
    async with Database(replicated[1]) as standby:
        log = EventLog(standby)
        with pytest.raises(DatabaseUnavailable, match="read-only"):
            await log.publish(batch(1))
        with pytest.raises(DatabaseUnavailable, match="read-only"):
            await log.publish(batch(1), key=derive_key(1))
        with pytest.raises(DatabaseUnavailable, match="during recovery"):
            await log.publish_all([Entry(event=batch(number)) for number in range(100)])


async def test_a_run_on_a_standby_ends_with_69_and_what_only_looks_works(
    replicated: tuple[str, str], tmp_path: Path
) -> None:
    shell = Shell(tmp_path, CODELUPE_DATABASE_URL=replicated[1])
    async with Database(replicated[0]) as primary, Database(replicated[1]) as standby:
        appended = await EventLog(primary).publish(batch(7))
        await catch_up(primary, standby)
    (await shell("run", "--set", NO_PLUGINS)).failed(69, "read-only", "CODELUPE_DATABASE_URL")
    assert (await shell("status", "--json")).json()["subscriptions"] == []
    assert (await shell("events", "show", str(appended.position), "--json")).json()["stream"] == "batch/7"


async def test_the_doctor_says_that_no_run_is_possible_on_a_standby(
    replicated: tuple[str, str], tmp_path: Path
) -> None:
    ended = await Shell(tmp_path, CODELUPE_DATABASE_URL=replicated[1])("doctor", "--json")
    findings = {finding["what"]: finding for finding in json.loads(ended.out)}
    assert (ended.code, findings["database"]["verdict"]) == (1, "bad")


async def test_a_standby_passes_no_position_that_may_still_commit(replicated: tuple[str, str]) -> None:
    """It sees neither the barriers on the primary nor how far the sequence really is, so it tells no horizon."""
    async with Database(replicated[0]) as primary, Database(replicated[1]) as standby:
        log = EventLog(primary)
        async with primary.transaction() as connection:
            await log.append(connection, [Entry(event=batch(1))])
            await log.publish(batch(2))
            await catch_up(primary, standby)
            with pytest.raises(DatabaseUnavailable, match="standby"):
                await EventLog(standby).high_water_mark()
            with pytest.raises(DatabaseUnavailable, match="standby"):
                [recorded async for recorded in EventLog(standby).read()]


async def test_a_daemon_goes_on_with_the_standby_that_takes_over(
    make_daemon: Callable[..., Daemon], folder: Path
) -> None:
    """Its address names both servers; what it did on the first is done, and what it had not done it does there."""
    folder.mkdir(mode=0o755)
    primary, standby = folder / "primary", folder / "standby"
    begun: list[int] = []

    async def handle(event: BatchReady, context: HandlerContext) -> None:
        begun.append(event.batch_id)
        async with context.transaction() as connection:
            await connection.execute("insert into effects values ($1)", event.batch_id)

    it = make_plugin(subscriptions=[Subscription(name="s", events=(BatchReady,), handler=handle)])
    async with AsyncExitStack() as first, AsyncExitStack() as second, anyio.create_task_group() as group:
        async with own_server(primary, REPLICATES) as url, Database(url) as database:
            await database.execute("create table effects (batch int)")
        clone_as_standby(primary, standby)
        urls = [await first.enter_async_context(embedded_server(primary))]
        urls.append(await second.enter_async_context(embedded_server(standby)))
        url = either_of(urls)
        database = await second.enter_async_context(Database(url))
        group.start_soon(make_daemon({"test": it}, until_idle=False, database_url=url).run)
        await publish_patiently(EventLog(database), range(20))
        await until(lambda: bool(begun))
        await first.aclose()
        async with Database(urls[1]) as promoted:
            await promoted.execute("select pg_promote()")
        await publish_patiently(EventLog(database), range(20, 40))
        await until_there_are(40, database, "select count(*) from effects")
        os.kill(os.getpid(), signal.SIGTERM)
        effects = await database.fetch("select batch from effects")
    assert sorted(row["batch"] for row in effects) == list(range(40))


def either_of(urls: Sequence[str]) -> str:
    """The address of whichever of these servers takes writes."""
    folders = ",".join(parse_qs(urlsplit(url).query)["host"][0] for url in urls)
    ports = ",".join(str(PORT) for _ in urls)
    return f"postgresql:///codelupe?host={folders}&port={ports}&user=codelupe&target_session_attrs=read-write"


async def publish_patiently(log: EventLog, numbers: Iterable[int]) -> None:
    """Publish each once, however long the database is away."""
    for number in numbers:
        with anyio.fail_after(HANGS):
            while True:
                try:
                    await log.publish(batch(number), key=derive_key(number))
                    break
                except DatabaseUnavailable:
                    await anyio.sleep(0.05)


# --- wrong clocks ---


@dataclass(frozen=True)
class Elsewhere:
    """A daemon on another host, whose clock is wrong."""

    host: str
    process: anyio.abc.Process

    async def stop(self) -> None:
        self.process.terminate()
        with anyio.fail_after(HANGS):
            assert await self.process.wait() == 0


@pytest.fixture
async def start_elsewhere(database: Database, tmp_path: Path) -> AsyncIterator[Callable[[int], Awaitable[Elsewhere]]]:
    """Starts daemons on hosts whose clocks are these hours ahead."""
    await database.execute("create table starts (host text, batch int, attempt int); create table gate (id int)")
    async with AsyncExitStack() as stack:

        async def start(hours: int) -> Elsewhere:
            host = f"host{hours:+}"
            command = [sys.executable, "-m", "tests.integration.wrong_clock", str(hours), host]
            process = await stack.enter_async_context(
                await anyio.open_process([*command, str(tmp_path / host), database.url], stdout=None, stderr=None)
            )
            stack.callback(kill, process)
            return Elsewhere(host, process)

        yield start


def kill(process: anyio.abc.Process) -> None:
    with suppress(ProcessLookupError):
        process.kill()


Start = Callable[[int], Awaitable[Elsewhere]]


async def starts(database: Database) -> set[tuple[str, int, int]]:
    rows = await database.fetch("select host, batch, attempt from starts")
    return {(row["host"], row["batch"], row["attempt"]) for row in rows}


async def test_workers_whose_clocks_are_days_apart_leave_each_other_s_work_alone(
    database: Database, start_elsewhere: Start
) -> None:
    log = EventLog(database)
    await log.publish(batch(1))
    ahead = await start_elsewhere(24)
    await until_there_are(1, database, "select count(*) from starts")
    await log.publish(batch(2))  # its one slot is taken, so the other gets this
    behind = await start_elsewhere(-24)
    await until_there_are(2, database, "select count(*) from starts")
    leases: dict[str, set[datetime]] = {}
    with anyio.fail_after(HANGS):
        while len(leases) < 2 or any(len(seen) < 2 for seen in leases.values()):
            for row in await database.fetch("select host, lease_until, lease_until - now() as left from workers"):
                leases.setdefault(row["host"], set()).add(row["lease_until"])
                assert timedelta(0) < row["left"] <= timedelta(seconds=LEASE_SECONDS)
            await anyio.sleep(0.05)
    await database.execute("insert into gate values (1)")
    await until_there_are(2, database, "select count(*) from events where type = 'RepoEmpty'")
    await ahead.stop()
    await behind.stop()
    assert {(host, attempt) for host, _, attempt in await starts(database)} == {(ahead.host, 1), (behind.host, 1)}
    emitted = [recorded async for recorded in log.read() if recorded.type == "RepoEmpty"]
    off = sorted(made_at(recorded.id) - recorded.recorded_at for recorded in emitted)
    assert [round(each / timedelta(hours=1)) for each in off] == [-24, 24], "so wrong the clocks were"


def made_at(identifier: UUID) -> datetime:
    """The time in an id of version 7, which is its maker's."""
    return datetime.fromtimestamp((identifier.int >> 80) / 1000, UTC)


@pytest.mark.parametrize("hours", [24, -24])
async def test_a_wait_of_an_hour_is_an_hour_of_the_database_s(
    database: Database, clock: Clock, start_elsewhere: Start, hours: int
) -> None:
    log = EventLog(database)
    await database.execute("insert into gate values (1)")
    await log.publish(batch(1, PUT_OFF))
    worker = await start_elsewhere(hours)
    await until_there_are(1, database, "select count(*) from tasks where run_at = log_time() + interval '1 hour'")
    await log.publish(batch(2))
    await until_there_are(1, database, "select count(*) from events where stream = 'repo/test:2'")
    await clock.advance(timedelta(minutes=59))
    await log.publish(batch(3))
    await until_there_are(1, database, "select count(*) from events where stream = 'repo/test:3'")
    assert await starts(database) == {(worker.host, number, 1) for number in (1, 2, 3)}, "it claims, but not that one"
    await clock.advance(timedelta(minutes=1))
    await until_there_are(1, database, "select count(*) from events where stream = 'repo/test:1'")
    assert (worker.host, 1, 2) in await starts(database)
    await worker.stop()


@pytest.mark.parametrize("hours", [24, -24])
async def test_the_work_of_a_host_that_died_is_taken_over_when_the_database_says_that_its_lease_is_over(
    database: Database, clock: Clock, start_elsewhere: Start, hours: int
) -> None:
    await EventLog(database).publish(batch(1))
    lost = await start_elsewhere(hours)
    await until_there_are(1, database, "select count(*) from starts")
    lost.process.kill()
    heir = await start_elsewhere(-hours)
    await until_there_are(2, database, "select count(*) from workers")
    await clock.advance(timedelta(seconds=LEASE_SECONDS / 2))
    renewed = f"select count(*) from workers where lease_until = log_time() + interval '{LEASE_SECONDS} seconds'"
    await until_there_are(1, database, renewed)
    assert await starts(database) == {(lost.host, 1, 1)}
    await database.execute("insert into gate values (1)")
    await clock.advance(timedelta(seconds=LEASE_SECONDS / 2 + 1))
    await until_there_are(1, database, "select count(*) from events where stream = 'repo/test:1'")
    assert await starts(database) == {(lost.host, 1, 1), (heir.host, 1, 2)}
    await heir.stop()


# --- helpers ---


async def until(condition: Callable[[], bool]) -> None:
    with anyio.fail_after(HANGS):
        while not condition():
            await anyio.sleep(0.01)


async def until_there_are(number: int, database: Database, query: str) -> None:
    """Wait until a count has come to this number."""
    with anyio.fail_after(HANGS):
        while await database.fetchval(query) < number:
            await anyio.sleep(0.05)
