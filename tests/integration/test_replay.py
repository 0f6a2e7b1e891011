"""Handing events out again: all or some, without doubling what waits or what was emitted."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from codelupe import Database, HandlerContext, Reject, Subscription
from codelupe.errors import CodelupeError
from codelupe.log import EventLog
from codelupe.views.pipeline import read_subscriptions
from codelupe.work.replay import Replay, count_replay, position_before, start_replay
from codelupe.work.task_queue import FeedRequest, TaskQueue
from codelupe_events import BatchReady, RepoEmpty
from tests.conftest import RunUntilIdle
from tests.plugins import batch, empty, make_plugin, named

pytestmark = pytest.mark.anyio


class Recorder:
    """A subscription that notes what it is handed and emits an event for each."""

    def __init__(self, *, version: int = 1, replayable: bool = True) -> None:
        self.seen: list[tuple[int, int]] = []
        self.subscription = Subscription(
            name="s", events=(BatchReady,), handler=self.handle, version=version, replayable=replayable
        )
        self.named = named("test", self.subscription)
        self.plugins = {"test": make_plugin(subscriptions=[self.subscription])}

    async def handle(self, event: BatchReady, context: HandlerContext) -> None:
        self.seen.append((event.batch_id, event.files))
        async with context.transaction():
            context.emit(empty(event.batch_id))

    def replay(self, after: int = 0, stream: str | None = None) -> Replay:
        return Replay(subscription=self.named, after=after, stream=stream)


EVENTS = [batch(1, 1), batch(2, 2), batch(1, 3), batch(2, 4)]
ALL = [(1, 1), (2, 2), (1, 3), (2, 4)]


async def test_a_replay_hands_everything_out_again_and_emits_nothing_twice(
    run_until_idle: RunUntilIdle, database: Database
) -> None:
    recorder = Recorder()
    before = await run_until_idle(recorder.plugins, events=EVENTS)
    assert await count_replay(database, recorder.replay()) == 4
    await start_replay(database, recorder.replay())
    after = await run_until_idle(recorder.plugins)
    assert sorted(recorder.seen) == sorted(ALL * 2)
    assert after == before
    assert len([event for event in after if isinstance(event, RepoEmpty)]) == 4


async def test_a_raised_version_makes_what_is_emitted_new(run_until_idle: RunUntilIdle, database: Database) -> None:
    await run_until_idle(Recorder().plugins, events=EVENTS)
    newer = Recorder(version=2)
    await start_replay(database, newer.replay())
    events = await run_until_idle(newer.plugins)
    assert len([event for event in events if isinstance(event, RepoEmpty)]) == 8


async def test_a_replay_may_begin_later_or_be_of_one_stream(run_until_idle: RunUntilIdle, database: Database) -> None:
    recorder = Recorder()
    await run_until_idle(recorder.plugins, events=EVENTS)
    plans: list[tuple[int, str | None, list[tuple[int, int]]]] = [
        (2, None, [(1, 3), (2, 4)]),
        (0, "batch/1", [(1, 1), (1, 3)]),
        (1, "batch/1", [(1, 3)]),
    ]
    for after, stream, again in plans:
        recorder.seen.clear()
        plan = recorder.replay(after, stream)
        assert await count_replay(database, plan) == len(again), "as many as it says beforehand"
        await start_replay(database, plan)
        await run_until_idle(recorder.plugins)
        assert sorted(recorder.seen) == sorted(again)
        for number in (1, 2):
            handed = [files for one, files in recorder.seen if one == number]
            assert handed == sorted(handed), "each stream in order"


async def test_a_replay_of_nothing_hands_nothing_out(run_until_idle: RunUntilIdle, database: Database) -> None:
    recorder = Recorder()
    await run_until_idle(recorder.plugins, events=EVENTS)
    head = await database.fetchval("select position from subscriptions")
    for plan in (recorder.replay(head), recorder.replay(10**6), recorder.replay(0, "batch/9")):
        assert await count_replay(database, plan) == 0
        await start_replay(database, plan)
        assert await database.fetchval("select count(*) from tasks") == 0
        assert await database.fetchval("select position from subscriptions") == head


async def test_other_stages_are_left_alone(run_until_idle: RunUntilIdle, database: Database) -> None:
    recorder, other = Recorder(), Recorder()
    plugins = {**recorder.plugins, "other": other.plugins["test"]}
    await run_until_idle(plugins, events=EVENTS)
    await start_replay(database, recorder.replay())
    await run_until_idle(plugins)
    assert len(recorder.seen) == 8
    assert len(other.seen) == 4


async def test_what_waits_is_neither_counted_nor_doubled(run_until_idle: RunUntilIdle, database: Database) -> None:
    """Events behind a dead letter wait; those that no cursor has reached yet come anyway."""
    seen: list[int] = []
    is_mended = False

    async def handle(event: BatchReady, context: HandlerContext) -> None:
        if event.files == 1 and not is_mended:
            raise Reject("not yet")
        seen.append(event.files)

    subscription = Subscription(name="s", events=(BatchReady,), handler=handle)
    plugins = {"test": make_plugin(subscriptions=[subscription])}
    await run_until_idle(plugins, events=EVENTS)
    assert seen == [2, 4]
    await EventLog(database).publish(batch(3, 5))
    plan = Replay(subscription=named("test", subscription), after=0)
    for stream in (None, "batch/1"):
        await start_replay(database, Replay(subscription=plan.subscription, after=0, stream=stream))
    await TaskQueue(database).feed([FeedRequest(subscription=plan.subscription)])
    is_mended = True
    await database.execute("update tasks set state = 'ready' where state = 'dead_lettered'")
    await run_until_idle(plugins)
    assert sorted(seen) == [1, 2, 2, 3, 4, 4, 5]
    [counts] = await read_subscriptions(database)
    assert (counts["waiting"], counts["running"], counts["dead_lettered"]) == (0, 0, 0)


async def test_a_stage_whose_effects_cannot_be_repeated_refuses(
    run_until_idle: RunUntilIdle, database: Database
) -> None:
    recorder = Recorder(replayable=False)
    await run_until_idle(recorder.plugins, events=EVENTS)
    for stream in (None, "batch/1"):
        with pytest.raises(CodelupeError, match=r"test\.s must not be replayed"):
            await start_replay(database, recorder.replay(stream=stream))
    await run_until_idle(recorder.plugins)
    assert sorted(recorder.seen) == sorted(ALL)


async def test_a_stage_that_never_ran_has_nothing_to_replay(database: Database) -> None:
    await EventLog(database).publish(batch(1))
    recorder = Recorder()
    assert await count_replay(database, recorder.replay()) == 0
    await start_replay(database, recorder.replay())
    assert await database.fetchval("select count(*) from tasks") == 0


async def test_a_replay_may_begin_at_a_time(database: Database) -> None:
    log = EventLog(database)
    first = await log.publish(batch(1))
    second = await log.publish(batch(2))
    moment = await database.fetchval("select recorded_at from events where position = $1", second.position)
    assert await position_before(database, moment) == first.position
    assert await position_before(database, moment + timedelta(microseconds=1)) == second.position
    assert await position_before(database, datetime(2020, 1, 1, tzinfo=UTC)) == 0
