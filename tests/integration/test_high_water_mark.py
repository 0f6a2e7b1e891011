"""No reader passes a position that a slower transaction may still commit, and neither waits for the other."""

from __future__ import annotations

import os
import signal
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, suppress
from datetime import timedelta
from pathlib import Path
from random import Random
from typing import Any

import anyio
import anyio.abc
import asyncpg
import msgspec
import pytest

from codelupe import BatchContext, BatchSubscription, Database, HandlerContext, Subscription, load_queries
from codelupe.daemon import Daemon
from codelupe.log import Entry, EventLog
from codelupe.log.records import derive_key
from codelupe_events import BatchReady
from tests.conftest import RunUntilIdle
from tests.integration.servers import fresh_database, own_server
from tests.plugins import batch, make_plugin
from tests.processes import HANGS

pytestmark = [pytest.mark.anyio, pytest.mark.xdist_group("high-water-mark")]

SQL = load_queries("tests.integration", "high_water_mark")
POOLS = 4
APPENDERS = 200
WRAP = 2**31
"""Append barriers are advisory locks, whose keys have 31 bits."""

Label = tuple[int, int]
"""What tells the events of these tests apart: the stream, and the number in the stream."""


def entries(labels: list[Label], *, keyed: bool = False) -> list[Entry]:
    return [Entry(event=batch(*label), key=derive_key(*label) if keyed else None) for label in labels]


class Reader:
    """A reader that goes on from where it stopped, up to what ``limit`` allows."""

    def __init__(self, database: Database, limit: Callable[[], Awaitable[int]], start: int = 0) -> None:
        self._database = database
        self._limit = limit
        self.last = start
        self.seen: list[Label] = []
        self.positions: list[int] = []
        self.helpings = 0

    async def read_on(self) -> None:
        limit = await self._limit()
        rows = await self._database.fetch(SQL.read_between, self.last, limit)
        events = [msgspec.convert(row["data"], BatchReady) for row in rows]
        self.seen += [(event.batch_id, event.files) for event in events]
        self.positions += [row["position"] for row in rows]
        self.helpings += bool(rows)
        self.last = max(self.last, limit)

    async def read_for_ever(self) -> None:
        while True:
            await self.read_on()


class RolledBack(Exception):
    """An appender thought better of it."""


class Crowd:
    """Appenders on connections of their own, whose first transactions are all open at the same time."""

    def __init__(self, logs: list[EventLog], *, size: int, transactions: int, patience: float = 0.03) -> None:
        self._logs = logs
        self._size = size
        self._transactions = transactions
        self._patience = patience
        self._waiting = 0
        self._together = anyio.Event()
        self.committed: set[Label] = set()

    async def append(self) -> None:
        async with anyio.create_task_group() as group:
            for number in range(self._size):
                group.start_soon(self._append, number)

    async def _append(self, number: int) -> None:
        log, choice = self._logs[number % len(self._logs)], Random(number)
        for turn in range(self._transactions):
            [size] = choice.choices([1, 3, 150], weights=[6, 3, 1])
            labels = [(number, 1000 * turn + each) for each in range(size)]
            with suppress(RolledBack):
                async with log.database.transaction() as connection:
                    await log.append(connection, entries(labels, keyed=choice.random() < 0.5))
                    await self._meet()
                    await anyio.sleep(choice.uniform(0, self._patience))
                    if choice.random() < 0.2:
                        raise RolledBack
                self.committed.update(labels)

    async def _meet(self) -> None:
        self._waiting += 1
        if self._waiting == self._size:
            self._together.set()
        await self._together.wait()


@pytest.fixture(scope="module")
async def roomy_server(open_directory: Path, anyio_backend: str) -> AsyncIterator[str]:
    """A server that takes many connections and prepares transactions."""
    settings = {"max_connections": str(APPENDERS + 100), "max_prepared_transactions": "8"}
    async with own_server(open_directory / "roomy", settings) as url:
        yield url


@pytest.fixture
async def roomy_url(roomy_server: str) -> AsyncIterator[str]:
    async with fresh_database(roomy_server) as url:
        yield url


@pytest.fixture
async def logs(roomy_url: str) -> AsyncIterator[list[EventLog]]:
    """The log of one fresh database over several pools, together large enough for the crowd."""
    async with AsyncExitStack() as stack:
        pools = [Database(roomy_url, connections=APPENDERS // POOLS) for _ in range(POOLS)]
        yield [EventLog(await stack.enter_async_context(pool)) for pool in pools]


# --- hundreds at once ---


@pytest.mark.parametrize("start", [0, WRAP - 100, 3 * WRAP - 100], ids=["fresh", "over the wrap", "over a later wrap"])
async def test_readers_miss_nothing_of_what_hundreds_append_at_once(
    roomy_url: str, logs: list[EventLog], start: int
) -> None:
    await read_while(Crowd(logs, size=APPENDERS, transactions=5), roomy_url, start)


async def test_readers_miss_nothing_of_what_few_append_who_come_and_go(roomy_url: str, logs: list[EventLog]) -> None:
    """Often no append is open while a reader looks, and one has begun before it has looked."""
    await read_while(Crowd(logs, size=2, transactions=500, patience=0.004), roomy_url)


async def read_while(crowd: Crowd, url: str, start: int = 0) -> None:
    async with Database(url) as database:
        await go_to(database, start)
        log = EventLog(database)
        readers = [Reader(database, log.high_water_mark, start) for _ in range(3)]
        async with anyio.create_task_group() as reading:
            for reader in readers:
                reading.start_soon(reader.read_for_ever)
            await crowd.append()
            reading.cancel_scope.cancel()
        everything = [row["position"] for row in await database.fetch(SQL.read_between, start, 2**62)]
        for reader in readers:
            assert reader.helpings > 1, "it reads while they append"
            await reader.read_on()
            assert reader.positions == everything, "each once, in order"
            assert set(reader.seen) == crowd.committed
            assert len(reader.seen) == len(crowd.committed)


async def test_the_same_reader_without_the_high_water_mark_loses_what_commits_late(
    roomy_url: str, logs: list[EventLog]
) -> None:
    late = [(APPENDERS, number) for number in range(3)]
    crowd = Crowd(logs, size=APPENDERS - 10, transactions=2)
    async with Database(roomy_url) as database:
        log = EventLog(database)
        careful, careless = Reader(database, log.high_water_mark), Reader(database, log.head_position)
        async with database.transaction() as connection:
            await log.append(connection, entries(late))
            await crowd.append()
            await careful.read_on()
            await careless.read_on()
        await careful.read_on()
        await careless.read_on()
    assert set(careful.seen) == crowd.committed | set(late)
    assert set(careless.seen) == crowd.committed, "what this shows is a loss"


# --- one transaction that is open ---


STARTS = [0, 1, WRAP // 2 - 2, WRAP // 2, WRAP - 4, WRAP - 3, WRAP - 2, WRAP - 1, WRAP, 2 * WRAP - 2, 5 * WRAP - 3]


@pytest.mark.parametrize("start", STARTS)
async def test_the_high_water_mark_stands_before_the_first_open_append_wherever_the_log_has_come(
    database: Database, start: int
) -> None:
    await go_to(database, start)
    log = EventLog(database)
    assert await log.high_water_mark() == start
    async with AsyncExitStack() as second, AsyncExitStack() as first:
        await log.append(await first.enter_async_context(database.transaction()), entries([(1, 1)]))
        await log.publish(batch(2, 1))
        await log.append(await second.enter_async_context(database.transaction()), entries([(3, 1)]))
        await log.publish(batch(4, 1))
        assert await log.high_water_mark() == start
        await first.aclose()
        assert await log.high_water_mark() == start + 2
    assert await log.high_water_mark() == await log.head_position() == start + 4
    assert [recorded.stream async for recorded in log.read(after=start)] == ["batch/1", "batch/2", "batch/3", "batch/4"]


@pytest.mark.parametrize("keyed", [False, True])
@pytest.mark.parametrize("number", [1, 3, 100])
async def test_every_way_of_appending_holds_readers_back(database: Database, number: int, keyed: bool) -> None:
    log = EventLog(database)
    async with database.transaction() as connection:
        await log.append(connection, entries([(1, each) for each in range(number)], keyed=keyed))
        await log.publish(batch(2))
        assert await log.high_water_mark() == 0
        assert [recorded async for recorded in log.read()] == []
    assert len([recorded async for recorded in log.read()]) == number + 1


async def test_an_insert_by_hand_holds_readers_back_too(database: Database) -> None:
    log = EventLog(database)
    async with database.transaction() as connection:
        await connection.execute(SQL.insert_by_hand)
        await log.publish(batch(2))
        assert await log.high_water_mark() == 0
        assert [recorded async for recorded in log.read()] == []
    assert [recorded.stream async for recorded in log.read()] == ["by/hand", "batch/2"]


@pytest.mark.parametrize("how", ["insert", "copy"])
async def test_what_goes_straight_into_a_partition_holds_readers_back_too(database: Database, how: str) -> None:
    log = EventLog(database)
    row = ("by/hand", "BatchReady", 1, uuid.uuid4(), "{}", "{}")
    async with database.transaction() as connection:
        if how == "insert":
            await connection.execute(SQL.insert_into_partition_by_hand, *row)
        else:
            columns = ("stream", "type", "version", "id", "data", "metadata")
            await connection.copy_records_to_table("events_0", records=[row], columns=columns)
        await log.publish(batch(2))
        assert await log.high_water_mark() == 0
        assert [recorded async for recorded in log.read()] == []
    assert await log.high_water_mark() == 2
    assert [recorded.stream async for recorded in log.read()] == ["by/hand", "batch/2"]


async def test_a_partition_that_was_made_later_is_guarded_too(database: Database) -> None:
    made = await database.fetch(SQL.unguarded_partitions)
    await database.execute("select setval('events_position', 2000000); select create_event_partitions()")
    assert made == await database.fetch(SQL.unguarded_partitions) == []


@pytest.mark.parametrize("first", [1, 2], ids=["the older ends first", "the newer ends first"])
async def test_several_open_appends_hold_readers_back_until_the_last_of_them_ends(
    database: Database, first: int
) -> None:
    log = EventLog(database)
    async with AsyncExitStack() as older, AsyncExitStack() as newer:
        for stack, stream in ((older, 1), (newer, 2)):
            await log.append(await stack.enter_async_context(database.transaction()), entries([(stream, 1)]))
        await (older if first == 1 else newer).aclose()
        assert await log.high_water_mark() == (1 if first == 1 else 0)
    assert await log.high_water_mark() == 2


async def test_every_statement_sees_its_own_moment_whatever_the_server_would_rather(database_url: str) -> None:
    """In REPEATABLE READ the high-water mark would be newer than what its reader sees, and events between them lost."""
    async with Database(database_url) as database:
        name = await database.fetchval("select current_database()")
        await database.execute(f"alter database {name} set default_transaction_isolation = 'repeatable read'")
    async with Database(database_url) as database:
        assert await database.fetchval("select current_setting('transaction_isolation')") == "read committed"
        async with database.transaction() as connection:
            assert await connection.fetchval("select current_setting('transaction_isolation')") == "read committed"


@pytest.mark.parametrize("kind", [Subscription, BatchSubscription])
async def test_subscriptions_stay_before_an_open_append_while_appending_goes_on(
    make_daemon: Callable[..., Daemon], database: Database, kind: type[Subscription | BatchSubscription]
) -> None:
    await database.execute(SQL.count_looks)
    log = EventLog(database)
    it, handled = notebook(kind)
    for number in (1, 2):
        await log.publish(batch(number))
    async with anyio.create_task_group() as group:
        async with database.transaction() as connection:
            await log.append(connection, entries([(3, 0)]))
            group.start_soon(make_daemon({"test": it}, until_idle=False).run)
            await until(lambda: sorted(handled) == [1, 2])
            for number in (4, 5):
                assert not (await log.publish(batch(number))).duplicate
            await look_twice(database)
            assert sorted(handled) == [1, 2]
            assert await database.fetchval("select position from subscriptions") == 2
            assert [recorded.stream async for recorded in log.read()] == ["batch/1", "batch/2"]
        await until(lambda: sorted(handled) == [1, 2, 3, 4, 5])
        os.kill(os.getpid(), signal.SIGTERM)


async def test_a_transaction_that_appends_nothing_here_holds_nobody_up(
    run_until_idle: RunUntilIdle, database: Database, postgres_url: str
) -> None:
    """Whether it reads the log, writes other tables or appends in another database of the cluster."""
    await database.execute("create table other (id int)")
    log = EventLog(database)
    it, handled = notebook(Subscription)
    async with fresh_database(postgres_url) as elsewhere, Database(elsewhere) as other, AsyncExitStack() as stack:
        reader, writer = [await stack.enter_async_context(database.transaction()) for _ in range(2)]
        appender = await stack.enter_async_context(other.transaction())
        await reader.execute("set transaction isolation level repeatable read")
        await reader.fetch("select from events")
        await writer.execute("insert into other select pg_current_xact_id()::text::int")
        await EventLog(other).append(appender, entries([(9, 9)]))
        assert await EventLog(other).high_water_mark() == 0
        with anyio.fail_after(HANGS):
            await run_until_idle({"test": it}, events=[batch(1), batch(2)])
        assert await log.high_water_mark() == await log.head_position()
        assert sorted(handled) == [1, 2]


async def test_an_appender_that_freezes_is_cut_off_and_its_event_is_not_there(database: Database) -> None:
    log = EventLog(database)
    with pytest.raises(asyncpg.IdleInTransactionSessionTimeoutError):
        async with database.transaction() as connection:
            limit = await connection.fetchval("select current_setting('idle_in_transaction_session_timeout')::interval")
            assert timedelta(0) < limit <= timedelta(minutes=5)
            await log.append(connection, entries([(1, 1)]))
            await log.publish(batch(2))
            assert await log.high_water_mark() == 0
            await connection.execute("set local idle_in_transaction_session_timeout = '50ms'")
            with anyio.fail_after(HANGS):
                while await log.high_water_mark() < await log.head_position():
                    await anyio.sleep(0.01)
    assert [recorded.stream async for recorded in log.read()] == ["batch/2"]


# --- appends that are taken back, or prepared ---


async def test_an_append_that_is_taken_back_to_a_savepoint_holds_nobody_up(database: Database) -> None:
    log = EventLog(database)
    async with database.transaction() as connection:
        with suppress(RolledBack):
            async with connection.transaction():
                await log.append(connection, entries([(1, 1)]))
                assert await log.high_water_mark() == 0
                raise RolledBack
        later = await log.publish(batch(2))
        assert await log.high_water_mark() == later.position
    assert [recorded.stream async for recorded in log.read()] == ["batch/2"]


async def test_an_append_after_one_that_was_taken_back_holds_readers_back_again(database: Database) -> None:
    log = EventLog(database)
    async with database.transaction() as connection:
        with suppress(RolledBack):
            async with connection.transaction():
                await log.append(connection, entries([(1, 1)]))
                raise RolledBack
        await log.append(connection, entries([(2, 1)]))
        await log.publish(batch(3))
        assert [recorded.stream async for recorded in log.read()] == []
    assert [recorded.stream async for recorded in log.read()] == ["batch/2", "batch/3"]


async def test_what_was_appended_before_a_savepoint_holds_readers_back_after_it_too(database: Database) -> None:
    log = EventLog(database)
    async with database.transaction() as connection:
        await log.append(connection, entries([(1, 1)]))
        with suppress(RolledBack):
            async with connection.transaction():
                await log.append(connection, entries([(2, 1)]))
                raise RolledBack
        await log.publish(batch(3))
        assert [recorded.stream async for recorded in log.read()] == []
    assert [recorded.stream async for recorded in log.read()] == ["batch/1", "batch/3"]


@pytest.mark.parametrize(("end", "streams"), [("commit", ["batch/1", "batch/2"]), ("rollback", ["batch/2"])])
async def test_a_prepared_append_holds_readers_back_until_it_is_decided(
    roomy_url: str, end: str, streams: list[str]
) -> None:
    async with Database(roomy_url) as database:
        log = EventLog(database)
        async with database.connection() as connection:
            await connection.execute("begin")
            await log.append(connection, entries([(1, 1)]))
            await connection.execute("prepare transaction 'undecided'")
        await log.publish(batch(2))
        assert [recorded.stream async for recorded in log.read()] == []
        await database.execute(f"{end} prepared 'undecided'")
        assert [recorded.stream async for recorded in log.read()] == streams


# --- helpers ---


def notebook(kind: type[Subscription | BatchSubscription]) -> tuple[object, list[int]]:
    """A plugin that notes each batch which it is handed, and its notes."""
    handled: list[int] = []

    async def handle(event: BatchReady, context: HandlerContext) -> None:
        handled.append(event.batch_id)

    async def handle_all(events: Sequence[BatchReady], context: BatchContext) -> None:
        handled.extend(event.batch_id for event in events)

    handler: Any = handle if kind is Subscription else handle_all
    subscription: Any = kind(name="s", events=(BatchReady,), handler=handler)
    return make_plugin(subscriptions=[subscription]), handled


async def go_to(database: Database, position: int) -> None:
    """Let the log have come to this position; a fresh one stays fresh."""
    if position:
        await database.execute(SQL.go_to, position)


async def until(condition: Callable[[], bool]) -> None:
    with anyio.fail_after(HANGS):
        while not condition():
            await anyio.sleep(0.01)


async def look_twice(database: Database) -> None:
    """Wait until the daemon has asked for the high-water mark twice more: once after it used the answer before."""
    looks = await database.fetchval(SQL.looks)
    with anyio.fail_after(HANGS):
        while await database.fetchval(SQL.looks) < looks + 2:
            await anyio.sleep(0.01)
