"""Batch subscriptions on a real Postgres: many events a call, in order, to effect exactly once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import timedelta
from pathlib import Path

import anyio
import anyio.to_thread
import pytest

from codelupe import BatchContext, BatchSubscription, Database, Reject, RetryLater, RetryPolicy, Subscription
from codelupe.daemon import Daemon
from codelupe.log import Entry, EventLog
from codelupe.views.pipeline import read_subscriptions
from codelupe.work.dead_letters import Selection, retry_dead_letters
from codelupe.work.replay import Replay, count_replay, start_replay
from codelupe_events import BatchReady, Event, RepoEmpty, TaskDeadLettered
from tests.conftest import RunUntilIdle
from tests.integration.deadly import DEADLY, run_deadly
from tests.plugins import batch, empty, make_plugin, named
from tests.processes import HANGS

pytestmark = pytest.mark.anyio


class Shy(RetryLater):
    """One that does not say after what time."""

    def __init__(self) -> None:
        Exception.__init__(self, "later")


NO_TIMES: list[Exception] = [
    RetryLater("later", after=30, counts=False),  # type: ignore[arg-type]
    Shy(),
    ExceptionGroup("both", [RetryLater("later", after=5), RetryLater("later", after=timedelta(1))]),  # type: ignore[arg-type]
]
"""What cannot be obeyed is a failure like any other."""

FAST = RetryPolicy(attempts=2, base=timedelta(milliseconds=1), cap=timedelta(milliseconds=5))


class Ledger:
    """A batch handler that writes down what it is handed and refuses some events."""

    def __init__(self, *, refuse: set[int] | None = None, emits: bool = False, **settings: object) -> None:
        self.refuse = refuse or set()
        self.sizes: list[int] = []
        self._emits = emits
        self.subscription = BatchSubscription(
            name="s",
            events=(BatchReady,),
            handler=self.handle,
            retry=FAST,
            **settings,  # type: ignore[arg-type]
        )
        self.plugins = {"test": make_plugin(subscriptions=[self.subscription])}
        self.named = named("test", self.subscription)

    async def handle(self, events: Sequence[BatchReady], context: BatchContext) -> None:
        self.sizes.append(len(events))
        for event in events:
            await context.connection.execute(
                "insert into ledger (stream, files) values ($1, $2)", event.batch_id, event.files
            )
            if event.files in self.refuse:
                raise ValueError(f"I do not like {event.files}")
            if self._emits:
                context.emit(empty(event.files), because=event)


@pytest.fixture(autouse=True)
async def ledger_table(database: Database) -> None:
    await database.execute("create table ledger (id bigserial, stream bigint, files int)")


async def written(database: Database) -> list[tuple[int, int]]:
    rows = await database.fetch("select stream, files from ledger order by id")
    return [(row["stream"], row["files"]) for row in rows]


async def test_events_come_many_a_call_in_the_log_s_order(run_until_idle: RunUntilIdle, database: Database) -> None:
    ledger = Ledger(size=10)
    await EventLog(database).publish_all([Entry(event=batch(number % 3, number)) for number in range(25)])
    await run_until_idle(ledger.plugins)
    assert ledger.sizes == [10, 10, 5]
    assert await written(database) == [(number % 3, number) for number in range(25)]
    [subscription] = await read_subscriptions(database)
    assert (subscription["done"], subscription["waiting"], subscription["dead_lettered"]) == (25, 0, 0)


async def test_effect_emitted_events_and_cursor_commit_together(
    run_until_idle: RunUntilIdle, database: Database
) -> None:
    """The refused event's batch leaves nothing, not even of the events before it, until it is tried in pieces."""
    ledger = Ledger(refuse={2}, emits=True, size=8)
    events = await run_until_idle(ledger.plugins, events=[batch(number, number) for number in range(5)])
    assert await written(database) == [(0, 0), (1, 1), (3, 3), (4, 4)]
    assert [event for event in events if isinstance(event, RepoEmpty)] == [empty(number) for number in (0, 1, 3, 4)]
    [dead_letter] = [event for event in events if isinstance(event, TaskDeadLettered)]
    assert (dead_letter.attempts, dead_letter.error) == (2, "ValueError: I do not like 2")


async def test_a_stream_queues_behind_its_dead_lettered_event_and_goes_on_in_order(
    run_until_idle: RunUntilIdle, database: Database
) -> None:
    ledger = Ledger(refuse={1})
    await run_until_idle(ledger.plugins, events=[batch(number % 2, number) for number in range(6)])
    assert await written(database) == [(0, 0), (0, 2), (0, 4)]
    ledger.refuse.clear()
    await retry_dead_letters(database, Selection(subscription="test.s"))
    await run_until_idle(ledger.plugins, events=[batch(1, 7)])
    assert [files for stream, files in await written(database) if stream == 1] == [1, 3, 5, 7]
    assert await database.fetchval("select count(*) from tasks") == 0


async def test_a_dead_lettered_event_lets_its_stream_pass_when_the_subscription_says_so(
    run_until_idle: RunUntilIdle, database: Database
) -> None:
    ledger = Ledger(refuse={1}, dead_letter_blocks_stream=False)
    await run_until_idle(ledger.plugins, events=[batch(1, number) for number in range(4)])
    assert await written(database) == [(1, 0), (1, 2), (1, 3)]


async def test_an_event_of_newer_code_waits_alone(make_daemon: Callable[..., Daemon], database: Database) -> None:
    ledger = Ledger()
    await EventLog(database).publish(batch(1, 1))
    await database.execute("update events set version = 99")
    await EventLog(database).publish(batch(2, 2))
    await make_daemon(ledger.plugins).run()
    assert await written(database) == [(2, 2)]
    assert await database.fetchval("select version from tasks where state = 'ready'") == 99


async def test_retry_later_is_obeyed(run_until_idle: RunUntilIdle, database: Database) -> None:
    calls = []

    async def handle(events: Sequence[BatchReady], context: BatchContext) -> None:
        calls.append(len(events))
        if len(calls) < 5:
            raise RetryLater("not yet", after=timedelta(milliseconds=1), counts=False)

    it = make_plugin(subscriptions=[BatchSubscription(name="s", events=(BatchReady,), handler=handle, retry=FAST)])
    await run_until_idle({"test": it}, events=[batch(1)])
    assert len(calls) == 5


async def test_several_processes_share_the_work(
    make_daemon: Callable[..., Daemon], database: Database, tmp_path: Path
) -> None:
    ledgers = [Ledger(size=7) for _ in range(3)]
    await EventLog(database).publish_all([Entry(event=batch(number % 5, number)) for number in range(500)])
    async with anyio.create_task_group() as group:
        for number, ledger in enumerate(ledgers):
            group.start_soon(make_daemon(ledger.plugins, state_dir=str(tmp_path / str(number))).run)
    assert sorted(files for _, files in await written(database)) == list(range(500))


async def test_a_replay_hands_events_out_again_and_appends_nothing_twice(
    run_until_idle: RunUntilIdle, database: Database
) -> None:
    ledger = Ledger(emits=True)
    await run_until_idle(ledger.plugins, events=[batch(number % 2, number) for number in range(4)])
    everything = Replay(subscription=ledger.named, after=0)
    one_stream = Replay(subscription=ledger.named, after=0, stream="batch/1")
    assert (await count_replay(database, everything), await count_replay(database, one_stream)) == (4, 2)
    await start_replay(database, everything)
    await run_until_idle(ledger.plugins)
    await start_replay(database, one_stream)
    events = await run_until_idle(ledger.plugins)
    assert [files for _, files in await written(database)] == [0, 1, 2, 3, 0, 1, 2, 3, 1, 3]
    assert len([event for event in events if isinstance(event, RepoEmpty)]) == 4, "also where it came as a task"


async def test_a_batch_of_another_s_events_moves_on(run_until_idle: RunUntilIdle, database: Database) -> None:
    ledger = Ledger(size=3)
    others: list[Event] = [empty(number) for number in range(400)]
    await run_until_idle(ledger.plugins, events=[*others, batch(1, 1)])
    assert await written(database) == [(1, 1)]


async def test_what_the_handler_rejects_is_dead_lettered_at_once(
    run_until_idle: RunUntilIdle, database: Database
) -> None:
    calls = []

    async def handle(events: Sequence[BatchReady], context: BatchContext) -> None:
        calls.append(len(events))
        raise Reject("no use")

    it = make_plugin(
        subscriptions=[BatchSubscription(name="s", events=(BatchReady,), handler=handle, size=1, retry=FAST)]
    )
    await run_until_idle({"test": it}, events=[batch(1)])
    assert calls == [1, 1], "once in the batch, once as a task"
    assert await database.fetchval("select error from tasks where state = 'dead_lettered'") == "no use"


@pytest.mark.parametrize("error", NO_TIMES, ids=["a number", "nothing", "several"])
@pytest.mark.parametrize("kind", [BatchSubscription, Subscription])
async def test_a_handler_that_asks_for_no_time_has_failed(
    run_until_idle: RunUntilIdle, error: Exception, kind: type[BatchSubscription | Subscription]
) -> None:
    async def handle(*_: object) -> None:
        raise error

    it = kind(name="s", events=(BatchReady,), handler=handle, retry=FAST)
    events = await run_until_idle({"test": make_plugin(subscriptions=[it])}, events=[batch(1)])
    [dead_letter] = [event for event in events if isinstance(event, TaskDeadLettered)]
    assert "later" in dead_letter.error
    assert dead_letter.attempts == 2


# --- calls that do not end ---


async def test_an_event_over_which_a_batch_handler_ends_the_process_becomes_a_task_which_counts_it(
    database: Database, database_url: str, tmp_path: Path
) -> None:
    """Once with others, once alone, and twice as a task; then the others have been handled and nothing dies.

    One that is called for alone while the task ends the process becomes a task, too, so their order is not the log's.
    """
    await EventLog(database).publish_all([Entry(event=batch(number)) for number in range(40)])

    codes = [await run_deadly(database_url, tmp_path, "25") for _ in range(5)]
    assert codes == [DEADLY] * 4 + [0]
    assert sorted(stream for stream, _ in await written(database)) == [it for it in range(40) if it != 25]
    dead = await database.fetch("select stream, crashes, error from tasks where state = 'dead_lettered'")
    assert [tuple(row) for row in dead] == [("batch/25", 2, "2 workers died while they handled it")]
    assert await database.fetchval("select count(*) from batch_calls") == 0


async def test_a_batch_handler_that_is_cancelled_in_order_is_not_suspected(
    make_daemon: Callable[..., Daemon], database: Database
) -> None:
    """The next start hands the same events out together."""
    await EventLog(database).publish_all([Entry(event=batch(number)) for number in range(10)])
    called = anyio.Event()

    async def wait(events: Sequence[BatchReady], context: BatchContext) -> None:
        called.set()
        await anyio.sleep_forever()

    subscription = BatchSubscription(name="s", events=(BatchReady,), handler=wait)
    async with anyio.create_task_group() as group:
        group.start_soon(make_daemon({"test": make_plugin(subscriptions=[subscription])}).run)
        with anyio.fail_after(HANGS):
            await called.wait()
        assert await database.fetchval("select count(*) from batch_calls") == 1
        group.cancel_scope.cancel()
    ledger = Ledger()
    await make_daemon(ledger.plugins).run()
    assert ledger.sizes == [10]
