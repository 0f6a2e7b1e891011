"""What waits in a stream costs its own stream, and nothing that waits is forgotten."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from datetime import timedelta
from pathlib import Path

import anyio
import pytest

from codelupe import BatchContext, BatchSubscription, Connection, Database, HandlerContext, Reject, Subscription
from codelupe.daemon import Daemon
from codelupe.log import Entry, EventLog
from codelupe.log.event_log import SQL
from codelupe.log.records import uuid7
from codelupe.work.dead_letters import EVERYTHING, retry_dead_letters
from codelupe.work.registration import register_subscriptions
from codelupe.work.replay import Replay, start_replay
from codelupe.work.task import Task
from codelupe.work.task_queue import FEED_LIMIT, FeedRequest, TaskQueue
from codelupe_events import BatchReady, Event
from tests.logged import Logged
from tests.plugins import FAST, batch, make_plugin
from tests.processes import HANGS

pytestmark = pytest.mark.anyio

FORGOTTEN = """
select subscription, stream, min(position) as position from tasks as first
where state = 'queued'
  and not exists (
      select from tasks as active where active.subscription = first.subscription and active.stream = first.stream
        and active.state in ('ready', 'running'))
  and not exists (
      select from tasks as dead where dead.subscription = first.subscription and dead.stream = first.stream
        and dead.state = 'dead_lettered' and dead.position < first.position)
  and not exists (
      select from catch_ups where catch_ups.subscription = first.subscription and catch_ups.stream = first.stream)
group by 1, 2
"""
"""Streams whose queued tasks nothing will ever make ready."""

DRAIN = """
create procedure drain(worker uuid, at_once integer) language plpgsql as $$
declare
    fed record;
    claimed record;
    found boolean;
begin
    loop
        select * into fed from feed_tasks(array['test.s'], 1000);
        commit;
        loop
            found := false;
            for claimed in
                select * from claim_tasks('test.s', worker, at_once, array['BatchReady'], array[1]) order by position
            loop
                insert into handled (stream, position) values (claimed.stream, claimed.position);
                perform finish_task('test.s', claimed.stream, claimed.position, claimed.task_token);
                found := true;
            end loop;
            commit;
            exit when not found;
        end loop;
        exit when fed.caught_up and not exists (select from tasks where state in ('queued', 'ready'))
            and not exists (select from catch_ups);
    end loop;
end $$
"""
"""Handles all there is, on the server: thousands of events one after another take seconds so."""


WAITS_FOR = "select exists (select from pg_stat_activity where $1 = any(pg_blocking_pids(pid)))"
"""Whether some session waits for this one."""


async def never_called(event: Event, context: HandlerContext) -> None:
    raise AssertionError("the test handles events itself")


SUBSCRIPTION = Subscription(name="test.s", events=(BatchReady,), handler=never_called)


class Queue:
    """The queue of one subscription, driven by the test."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.tasks = TaskQueue(database)
        self.worker = uuid7()

    async def begin(self) -> None:
        await register_subscriptions(self.database, [SUBSCRIPTION], {})
        await self.database.execute(SQL.register_worker, self.worker, timedelta(hours=1), "elsewhere", "", 1, "")
        await self.database.execute("create table handled (id bigint generated always as identity, stream text,"
                                    " position bigint)")  # fmt: skip
        await self.database.execute(DRAIN)

    async def feed(self) -> bool:
        fed = await self.tasks.feed([FeedRequest(subscription=SUBSCRIPTION)], self.worker)
        return fed["test.s"].caught_up

    async def feed_all(self) -> None:
        while not await self.feed():
            pass

    async def claim(self, at_most: int = 1) -> list[Task]:
        return await self.tasks.claim(SUBSCRIPTION, self.worker, at_most)

    async def drain(self) -> None:
        async with self.database.connection() as connection:
            await connection.execute("call drain($1, 100)", self.worker, timeout=300)

    async def handled(self, stream: str) -> list[int]:
        rows = await self.database.fetch("select position from handled where stream = $1 order by id", stream)
        return [row["position"] for row in rows]

    async def number_of_tasks(self, stream: str) -> int:
        return int(await self.database.fetchval("select count(*) from tasks where stream = $1", stream))


@pytest.fixture
async def queue(database: Database) -> Queue:
    it = Queue(database)
    await it.begin()
    return it


async def publish(database: Database, events: Sequence[Event]) -> None:
    await EventLog(database).publish_all([Entry(event=one) for one in events])


# --- one stream has more than may become tasks ---


async def test_behind_a_dead_letter_no_more_becomes_tasks_than_the_limit_and_after_a_retry_all_come_in_order(
    queue: Queue, database: Database
) -> None:
    await publish(database, [batch(1, 0), batch(2, 0)])
    await queue.feed_all()
    for task in await queue.claim(2):
        if task.recorded.stream == "batch/1":
            async with database.transaction() as connection:
                assert await queue.tasks.dead_letter(connection, task, error="no", traceback="")
        else:
            await database.execute(SQL.finish, *task.key)
    await publish(database, [batch(1, number) for number in range(1, 20_001)])
    await publish(database, [batch(number) for number in range(3, 203)])
    await queue.feed_all()
    assert await queue.number_of_tasks("batch/1") <= FEED_LIMIT + 1
    assert len(await queue.claim(1000)) == 200, "the other streams are there at once"
    assert await database.fetchval("select waiting from catch_ups") >= 20_000 - FEED_LIMIT
    await database.execute("delete from tasks where state = 'running'")
    await retry_dead_letters(database, EVERYTHING)
    await queue.drain()
    assert await queue.handled("batch/1") == [1, *range(3, 20_003)]
    assert await database.fetch(FORGOTTEN) == []


async def test_a_stream_that_is_handed_out_again_does_not_flood_the_table_and_comes_in_order(
    queue: Queue, database: Database
) -> None:
    await publish(database, [batch(1, number) for number in range(5000)])
    await queue.drain()
    await publish(database, [batch(1, 5000), batch(2)])
    await start_replay(database, Replay(subscription=SUBSCRIPTION, after=0, stream="batch/1"))
    await queue.feed_all()
    assert await queue.number_of_tasks("batch/1") <= FEED_LIMIT + 1
    await queue.drain()
    assert await queue.handled("batch/1") == [*range(1, 5001), *range(1, 5002)]
    assert await queue.handled("batch/2") == [5002]


async def test_many_streams_that_have_more_are_fed_a_few_at_once(queue: Queue, database: Database) -> None:
    """The one transaction that feeds ends soon, and each stream has its turn."""
    at_most, streams, events = 10, 60, 25
    await publish(database, [batch(stream, number) for number in range(events) for stream in range(streams)])
    handled: list[int] = []

    async def feed() -> bool:
        before = await database.fetchval("select count(*) from tasks")
        caught_up = await database.fetchval("select caught_up from feed_tasks(array['test.s'], $1)", at_most)
        assert await database.fetchval("select count(*) from tasks") - before <= 3 * at_most
        return bool(caught_up)

    async def handle_all() -> None:
        while claimed := await queue.claim(1000):
            handled.extend(task.recorded.position for task in claimed)
            async with database.statement() as connection:
                await connection.executemany(SQL.finish, [task.key for task in claimed])

    while not await feed():
        pass
    assert await database.fetchval("select count(*) from catch_ups") == streams
    while len(handled) < streams * events:
        await handle_all()
        await feed()
    assert sorted(handled) == list(range(1, streams * events + 1))


async def test_several_hot_streams_leave_room_for_each_other_and_for_others(queue: Queue, database: Database) -> None:
    hot = [batch(stream, number) for number in range(3000) for stream in range(4)]
    await publish(database, [*hot, *(batch(stream) for stream in range(10, 30))])
    await queue.feed_all()
    for stream in range(4):
        assert await queue.number_of_tasks(f"batch/{stream}") <= FEED_LIMIT + 1
    assert await database.fetchval("select count(*) from tasks where state = 'ready'") == 24
    await queue.drain()
    for stream in range(4):
        assert await queue.handled(f"batch/{stream}") == list(range(stream + 1, 12_001, 4))
    assert await database.fetchval("select count(*) from handled") == 12_020


async def test_a_failing_event_of_a_hot_stream_holds_back_that_stream_of_a_batch_subscription_and_no_other(
    make_daemon: Callable[..., Daemon], database: Database
) -> None:
    events = FEED_LIMIT + 300
    handled: dict[int, list[int]] = {1: [], 2: []}
    fails = True

    async def handle(several: Sequence[BatchReady], context: BatchContext) -> None:
        if fails and any((one.batch_id, one.files) == (1, 10) for one in several):
            raise Reject("not this one")
        for one in several:
            handled[one.batch_id].append(one.files)

    plugin = make_plugin(
        subscriptions=[BatchSubscription(name="s", events=(BatchReady,), handler=handle, retry=FAST, size=100)]
    )
    await publish(database, [batch(stream, number) for number in range(events) for stream in (1, 2)])
    await make_daemon({"test": plugin}).run()
    assert handled == {1: list(range(10)), 2: list(range(events))}
    assert await database.fetchval("select count(*) from tasks") <= FEED_LIMIT + 1
    fails = False
    await retry_dead_letters(database, EVERYTHING)
    await make_daemon({"test": plugin}).run()
    assert handled[1] == list(range(events))
    assert await database.fetchval("select count(*) from tasks") == 0


# --- what is queued while the task before it ends ---

Ending = Callable[[Queue, Task], Awaitable[object]]


async def finish(queue: Queue, task: Task) -> None:
    await queue.database.execute(SQL.finish, *task.key)


async def retry(queue: Queue, task: Task) -> None:
    assert await queue.tasks.retry(task, after=timedelta(), counts=True, error="no", traceback="")


async def dead_letter(queue: Queue, task: Task) -> None:
    async with queue.database.transaction() as connection:
        assert await queue.tasks.dead_letter(connection, task, error="no", traceback="")


async def give_back(queue: Queue, task: Task) -> None:
    await queue.database.execute(SQL.release, queue.worker, [])


ENDINGS = pytest.mark.parametrize("end", [finish, retry, dead_letter, give_back])


@ENDINGS
@pytest.mark.parametrize("again", [False, True], ids=["appended", "handed out again"])
async def test_what_is_queued_while_the_task_before_it_ends_becomes_ready(
    end: Ending, again: bool, queue: Queue, database: Database
) -> None:
    """The feeder has queued and not committed; the task's end waits for it, or comes before it."""
    await publish(database, [batch(1, 0), batch(1, 1)])
    await queue.feed_all()
    if again:
        [first] = await queue.claim()
        await finish(queue, first)
    [task] = await queue.claim()
    await (
        start_replay(database, Replay(subscription=SUBSCRIPTION, after=0, stream="batch/1"))
        if again
        else publish(database, [batch(1, 2)])
    )
    async with anyio.create_task_group() as group:
        ended = anyio.Event()

        async def end_it() -> None:
            await end(queue, task)
            ended.set()

        async with database.transaction() as feeder:
            await feeder.fetch("select * from feed_tasks(array['test.s'], 1000)")
            group.start_soon(end_it)
            await until_it_waits_or_is_over(database, feeder, ended)
    assert await database.fetch(FORGOTTEN) == []


@ENDINGS
async def test_what_is_fed_while_the_task_before_it_is_being_ended_becomes_ready(
    end: Ending, queue: Queue, database: Database
) -> None:
    """The other way round: the task's end is not committed when the feeder comes, which does not wait for it."""
    await publish(database, [batch(1, 0)])
    await queue.feed_all()
    [task] = await queue.claim()
    await publish(database, [batch(1, number) for number in range(1, 4)])
    async with database.transaction() as connection:
        await in_transaction(connection, end, queue, task)
        with anyio.fail_after(HANGS):
            await queue.feed()
    await queue.feed_all()
    assert await database.fetch(FORGOTTEN) == []
    assert await database.fetchval("select count(*) from tasks where state <> 'dead_lettered'") >= 3


async def in_transaction(connection: Connection, end: Ending, queue: Queue, task: Task) -> None:
    statements: dict[Ending, tuple[str, tuple[object, ...]]] = {
        finish: (SQL.finish, task.key),
        retry: (SQL.retry, (*task.key, 1, timedelta(), "no", "")),
        dead_letter: (SQL.dead_letter, (*task.key, "no", "")),
        give_back: (SQL.release, (queue.worker, [])),
    }
    statement, arguments = statements[end]
    await connection.execute(statement, *arguments)


async def until_it_waits_or_is_over(database: Database, blocker: Connection, ended: anyio.Event) -> None:
    pid = await blocker.fetchval("select pg_backend_pid()")
    with anyio.fail_after(HANGS):
        while not ended.is_set():
            if await database.fetchval(WAITS_FOR, pid):
                return
            await anyio.sleep(0.01)


async def test_a_retry_does_not_wait_for_a_handler_of_the_same_stream_that_holds_its_transaction(
    database: Database,
) -> None:
    """Nor does it keep other events from being fed meanwhile."""
    lenient = Subscription(name="test.s", events=(BatchReady,), handler=never_called, dead_letter_blocks_stream=False)
    queue = Queue(database)
    await queue.begin()
    await register_subscriptions(database, [lenient], {})
    await publish(database, [batch(1, 0), batch(1, 1)])
    await queue.feed_all()
    [task] = await queue.claim()
    await dead_letter(queue, task)
    [task] = await queue.claim()
    async with database.transaction() as handler:
        await handler.execute(SQL.hold, *task.key)
        with anyio.fail_after(HANGS / 6):
            assert len(await retry_dead_letters(database, EVERYTHING)) == 1
            await publish(database, [batch(2)])
            await queue.feed()
            [other] = await queue.claim()
        assert other.recorded.stream == "batch/2"
        await handler.execute(SQL.finish, *task.key)
    await queue.feed_all()
    [again] = await queue.claim()
    assert again.recorded.position == 1


async def test_events_that_many_complete_at_once_are_handled_once_each_and_in_order(
    make_daemon: Callable[..., Daemon], database: Database, tmp_path: Path, logged: Logged
) -> None:
    """Two daemons that feed and complete tasks of a few streams, while others append to these."""
    streams, each = 5, 400
    handled: dict[int, list[int]] = {stream: [] for stream in range(streams)}
    busy: set[int] = set()

    async def handle(event: BatchReady, context: HandlerContext) -> None:
        assert event.batch_id not in busy
        busy.add(event.batch_id)
        await anyio.lowlevel.checkpoint()
        handled[event.batch_id].append(event.files)
        busy.discard(event.batch_id)

    plugin = make_plugin(subscriptions=[Subscription(name="s", events=(BatchReady,), handler=handle, concurrency=8)])
    daemons = [make_daemon({"test": plugin}, until_idle=False, state_dir=str(tmp_path / str(n))) for n in range(2)]
    async with anyio.create_task_group() as group:
        for daemon in daemons:
            group.start_soon(daemon.run)
        for number in range(0, each, 4):
            await publish(database, [batch(stream, number + n) for n in range(4) for stream in range(streams)])
            if number % 40 == 0:
                assert await database.fetch(FORGOTTEN) == []
        with anyio.fail_after(HANGS):
            while sum(map(len, handled.values())) < streams * each:
                assert await database.fetch(FORGOTTEN) == []
                await anyio.sleep(0.05)
            while await database.fetchval("select count(*) from tasks"):
                await anyio.sleep(0.01)
        group.cancel_scope.cancel()
    assert handled == {stream: list(range(each)) for stream in range(streams)}
