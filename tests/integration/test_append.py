"""Appending on a real Postgres: by statement and by COPY, with keys and expected versions, alone and in a crowd."""

from __future__ import annotations

import uuid
from collections import Counter

import anyio
import asyncpg
import pytest

from codelupe import Database, HandlerContext, Subscription
from codelupe.log import Appended, Entry, EventLog, EventRefused, StreamConflict
from codelupe.log.entries import FEW
from codelupe.log.notifier import Notifier
from codelupe_events import BatchReady, Event, RepoEmpty
from tests.conftest import RunUntilIdle
from tests.loop_clock import LoopClock
from tests.plugins import batch, empty, make_plugin
from tests.processes import HANGS

pytestmark = pytest.mark.anyio

MANY = 3 * FEW


@pytest.fixture
def log(database: Database) -> EventLog:
    return EventLog(database)


def keyed(*numbers: int) -> list[Entry]:
    return [Entry(event=batch(number), key=uuid.uuid5(uuid.NAMESPACE_OID, str(number))) for number in numbers]


async def contents(log: EventLog) -> list[Event]:
    return [recorded.decode() async for recorded in log.read()]


@pytest.mark.parametrize("count", [1, 2, FEW, FEW + 1, MANY])
async def test_events_stand_in_the_order_in_which_they_are_given(log: EventLog, count: int) -> None:
    appended = await log.publish_all([Entry(event=batch(number)) for number in range(count)])
    assert await contents(log) == [batch(number) for number in range(count)]
    told = [one.position for one in appended]
    assert told == (list(range(1, count + 1)) if count <= FEW else [None] * count), "a COPY tells no positions"


@pytest.mark.parametrize("count", [1, FEW, MANY])
async def test_a_key_is_appended_once_and_both_are_told_where(log: EventLog, count: int) -> None:
    first = await log.publish_all(keyed(*range(count)))
    assert [one.duplicate for one in first] == [False] * count
    again = await log.publish_all(keyed(*range(count + 5)))
    assert again[:count] == [Appended(position=one.position, duplicate=True) for one in first]
    assert [one.duplicate for one in again[count:]] == [False] * 5
    assert await contents(log) == [batch(number) for number in range(count + 5)]


@pytest.mark.parametrize("rest", [[], list(range(100, 100 + MANY))])
async def test_a_key_twice_in_one_batch_is_one_event(log: EventLog, rest: list[int]) -> None:
    appended = await log.publish_all(keyed(1, 2, 1, *rest))
    assert appended[2] == Appended(position=appended[0].position, duplicate=True)
    assert await contents(log) == [batch(number) for number in (1, 2, *rest)]


@pytest.mark.parametrize("count", [3, MANY])
async def test_events_with_and_without_keys_may_come_together(log: EventLog, count: int) -> None:
    await log.publish_all(keyed(0))
    appended = await log.publish_all([*keyed(0), *[Entry(event=batch(number)) for number in range(1, count)]])
    assert [one.duplicate for one in appended] == [True] + [False] * (count - 1)
    assert None not in [one.position for one in appended]
    assert await contents(log) == [batch(number) for number in range(count)]


@pytest.mark.parametrize("count", [5, MANY])
async def test_of_many_with_the_same_keys_one_appends_and_all_are_told_where(log: EventLog, count: int) -> None:
    """In opposite orders, too: they wait for one another's keys, and must not wait in a circle."""
    told: list[dict[Event, int | None]] = []
    fresh: Counter[Event] = Counter()

    async def append(entries: list[Entry]) -> None:
        appended = await log.publish_all(entries)
        told.append({entry.event: one.position for entry, one in zip(entries, appended, strict=True)})
        fresh.update(entry.event for entry, one in zip(entries, appended, strict=True) if not one.duplicate)

    for round_ in range(10):
        told.clear()
        entries = keyed(*range(round_ * count, (round_ + 1) * count))
        async with anyio.create_task_group() as group:
            for each in (entries, entries[::-1]) * 4:
                group.start_soon(append, each)
        assert all(one == told[0] for one in told)
    assert set(fresh.values()) == {1}
    assert len(fresh) == 10 * count


async def test_single_events_that_come_together_are_appended_together(log: EventLog, database: Database) -> None:
    positions: dict[int, int | None] = {}

    async def publish(number: int) -> None:
        positions[number] = (await log.publish(batch(number))).position

    async with anyio.create_task_group() as group:
        for number in range(50):
            group.start_soon(publish, number)
    stored = {event.decode(): event.position async for event in log.read()}
    assert stored == {batch(number): position for number, position in positions.items()}
    transactions = await database.fetchval("select count(distinct xmin::text) from events")
    assert transactions < 25


async def test_one_that_is_refused_harms_none_of_those_that_came_with_it(log: EventLog) -> None:
    outcomes: dict[int, str] = {}

    async def publish(number: int) -> None:
        url = "\x00" if number == 7 else "https://host"
        try:
            await log.publish(RepoEmpty(repository_id=f"test:{number}", url=url))
        except EventRefused:
            outcomes[number] = "refused"
        else:
            outcomes[number] = "appended"

    async with anyio.create_task_group() as group:
        for number in range(20):
            group.start_soon(publish, number)
    assert [number for number, outcome in outcomes.items() if outcome == "refused"] == [7]
    assert len(await contents(log)) == 19


async def test_cancelling_one_leaves_none_of_the_others_in_doubt(log: EventLog) -> None:
    done: list[int] = []

    async def publish(number: int) -> None:
        await log.publish(batch(number))
        done.append(number)

    async with anyio.create_task_group() as group, anyio.create_task_group() as first:
        first.start_soon(publish, 0)
        await anyio.lowlevel.checkpoint()
        for number in range(1, 20):
            group.start_soon(publish, number)
        await anyio.lowlevel.checkpoint()
        first.cancel_scope.cancel()
    assert sorted(done)[-19:] == list(range(1, 20))
    stored = [event for event in await contents(log) if event != batch(0)]
    assert sorted(event.batch_id for event in stored if isinstance(event, BatchReady)) == list(range(1, 20))


async def test_an_expected_version_holds_or_nothing_is_appended(log: EventLog) -> None:
    stream = batch(1).stream()
    await log.publish_all([Entry(event=batch(1)), Entry(event=batch(1))], expected={stream: 0})
    await log.publish_all([Entry(event=batch(1, 3))], expected={stream: 2})
    for wrong in (0, 2, 4):
        with pytest.raises(StreamConflict, match=f"expected at version {wrong} and is at 3"):
            await log.publish_all([Entry(event=batch(1, 9))], expected={stream: wrong})
    with pytest.raises(StreamConflict, match="batch/2 was expected at version 1 and is at 0"):
        await log.publish_all([Entry(event=batch(1)), Entry(event=batch(2))], expected={stream: 3, "batch/2": 1})
    await log.publish_all([Entry(event=batch(1)), Entry(event=batch(2))], expected={stream: 3, "batch/2": 0})
    assert len(await contents(log)) == 5


async def test_of_two_that_expect_the_same_one_wins(log: EventLog) -> None:
    stream, outcomes = batch(1).stream(), list[str]()

    async def append(number: int) -> None:
        try:
            await log.publish_all([Entry(event=batch(1, number))], expected={stream: 0})
        except StreamConflict:
            outcomes.append("conflict")
        else:
            outcomes.append("appended")

    async with anyio.create_task_group() as group:
        for number in range(8):
            group.start_soon(append, number)
    assert Counter(outcomes) == {"appended": 1, "conflict": 7}
    assert len(await contents(log)) == 1


@pytest.mark.parametrize("count", [1, FEW, MANY])
async def test_what_a_handler_emits_is_appended_once_with_its_effect_or_not_at_all(
    run_until_idle: RunUntilIdle, database: Database, count: int
) -> None:
    await database.execute("create table effects (attempt int)")

    async def handle(event: BatchReady, context: HandlerContext) -> None:
        async with context.transaction() as connection:
            await connection.execute("insert into effects values ($1)", context.attempt)
            for number in range(count):
                context.emit(empty(number))
            if context.attempt == 1:
                raise RuntimeError("after all of it, before the commit")

    it = make_plugin(subscriptions=[Subscription(name="s", events=(BatchReady,), handler=handle)])
    events = await run_until_idle({"test": it}, events=[batch(1)])
    assert [event for event in events if isinstance(event, RepoEmpty)] == [empty(number) for number in range(count)]
    assert await database.fetchval("select array_agg(attempt) from effects") == [2]


async def until_heard(times: int, heard: list[str]) -> None:
    with anyio.fail_after(HANGS):
        while len(heard) < times:
            await anyio.sleep(0.005)


async def test_notifications_come_after_the_commit_and_few_for_many(
    log: EventLog, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An append that is not announced notifies no process: NOTIFY has no part in its transaction."""
    heard: list[str] = []
    listener = await asyncpg.connect(database_url)
    try:
        await listener.add_listener("codelupe_log", lambda *_: heard.append("once"))
        async with log.database.transaction() as connection:
            await log.append(connection, [Entry(event=batch(1))])
        await listener.execute("select 1")
        assert heard == []
        log.notifier = Notifier(log.database, pause=3600)
        async with anyio.create_task_group() as group:
            group.start_soon(log.notifier.run)
            await log.publish(batch(1))
            await until_heard(1, heard)
            for number in range(300):
                await log.publish(batch(number))
            await listener.execute("select 1")
            assert len(heard) == 1, "the pause is not over"
            await LoopClock(monkeypatch).stand_still(3600)
            await until_heard(2, heard)
            group.cancel_scope.cancel()
    finally:
        await listener.close()


async def test_of_many_that_expect_the_same_of_many_streams_one_appends_all(log: EventLog) -> None:
    """In opposite orders, too: they must not wait in a circle, and who loses leaves nothing behind."""
    numbers, winners = range(MANY), list[int]()

    async def append(writer: int, order: list[int]) -> None:
        entries = [Entry(event=batch(number, writer)) for number in order]
        try:
            await log.publish_all(entries, expected={batch(number).stream(): 0 for number in order})
        except StreamConflict:
            return
        winners.append(writer)

    async with anyio.create_task_group() as group:
        for writer in range(8):
            group.start_soon(append, writer, sorted(numbers, reverse=writer % 2 == 1))
    [winner] = winners
    assert Counter(await contents(log)) == Counter(batch(number, winner) for number in numbers)


@pytest.mark.parametrize("count", [1, MANY])
async def test_what_a_known_key_keeps_out_does_not_count_as_a_version(log: EventLog, count: int) -> None:
    stream = batch(1).stream()
    entries = [Entry(event=batch(1), key=one.key) for one in keyed(*range(count))]
    await log.publish_all(entries, expected={stream: 0})
    await log.publish_all(entries, expected={stream: count})
    await log.publish_all([Entry(event=batch(1))], expected={stream: count})
    assert len(await contents(log)) == count + 1


async def test_the_append_barrier_is_raised_once_a_transaction_by_whatever_appends_first(
    log: EventLog, database: Database
) -> None:
    await log.publish_all(keyed(*range(5)))
    barriers = "select objid from pg_locks where locktype = 'advisory' and classid = 20260"
    async with database.transaction() as connection:
        await connection.execute(
            "insert into events (stream, type, version, id, data, metadata)"
            " values ('by hand', 'BatchReady', 1, gen_random_uuid(), '{}', '{}')"
        )
        for entries in (keyed(5), keyed(*range(6, 10)), keyed(*range(10, 10 + MANY))):
            await log.append(connection, entries)
            await log.append(connection, [Entry(event=entry.event) for entry in entries])
        assert [row["objid"] for row in await database.fetch(barriers)] == [5], "it stands before all of it"
    assert await database.fetch(barriers) == []
