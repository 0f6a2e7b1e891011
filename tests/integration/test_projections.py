"""Rebuilding a projection beside the live one and swapping them, on a real Postgres."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import anyio
import pytest

from codelupe import BatchContext, BatchSubscription, CodelupeError, Database, RetryPolicy, Subscription
from codelupe.daemon import Daemon
from codelupe.log import EventLog
from codelupe.views.pipeline import read_subscriptions
from codelupe.work.dead_letters import Selection, drop_dead_letters
from codelupe.work.projections import begin_rebuild
from codelupe_events import BatchReady, RepoEmpty
from tests.conftest import RunUntilIdle
from tests.plugins import batch, make_plugin, named
from tests.processes import HANGS

pytestmark = pytest.mark.anyio

EVENTS = [batch(number % 2, number) for number in range(6)]


class Totals:
    """Sums up each stream's files, ``factor`` times."""

    def __init__(self, factor: int = 1, **settings: Any) -> None:
        self.factor = factor
        self.gate: anyio.Event | None = None
        self.refuse: int | None = None
        self.subscription = BatchSubscription(
            name="totals", events=(BatchReady,), handler=self.handle, projects_to=("totals",), **settings
        )
        self.named = named("test", self.subscription)
        self.plugins = {"test": make_plugin(subscriptions=[self.subscription])}

    async def handle(self, events: Sequence[BatchReady], context: BatchContext) -> None:
        if self.gate is not None and context.name.endswith("~rebuild"):
            await self.gate.wait()
        for event in events:
            if event.files == self.refuse:
                raise ValueError("no")
            await context.connection.execute(
                "insert into totals (stream, files) values ($1, $2)"
                " on conflict (stream) do update set files = totals.files + excluded.files",
                event.batch_id,
                event.files * self.factor,
            )


@pytest.fixture(autouse=True)
async def totals_table(database: Database) -> None:
    await database.execute("create table totals (id int generated always as identity, stream int unique, files int)")


async def totals(database: Database) -> dict[int, int]:
    return {row["stream"]: row["files"] for row in await database.fetch("select stream, files from totals")}


async def test_a_mended_projection_is_rebuilt_from_the_beginning(
    run_until_idle: RunUntilIdle, database: Database
) -> None:
    await run_until_idle(Totals().plugins, events=EVENTS)
    assert await totals(database) == {0: 6, 1: 9}
    mended = Totals(factor=10)
    await begin_rebuild(database, mended.named)
    await run_until_idle(mended.plugins, events=[batch(1, 100)])
    assert await totals(database) == {0: 60, 1: 1090}
    assert await database.fetchval("select count(*) from pg_namespace where nspname like 'rebuild%'") == 0
    [subscription] = await read_subscriptions(database)
    assert (subscription["name"], subscription["done"]) == ("test.totals", 7)
    await run_until_idle(mended.plugins, events=[batch(0, 1)])
    assert await totals(database) == {0: 70, 1: 1090}, "it goes on from where the rebuilt one stood"


async def test_the_live_tables_go_on_until_the_others_have_come_as_far(
    make_daemon: Callable[..., Daemon], run_until_idle: RunUntilIdle, database: Database
) -> None:
    await run_until_idle(Totals().plugins, events=EVENTS)
    mended = Totals(factor=10)
    mended.gate = anyio.Event()
    await begin_rebuild(database, mended.named)
    await EventLog(database).publish(batch(0, 100))
    async with anyio.create_task_group() as group:
        group.start_soon(make_daemon(mended.plugins).run)
        with anyio.fail_after(HANGS):
            while await totals(database) != {0: 1006, 1: 9}:
                await anyio.sleep(0.01)
        mended.gate.set()
    assert await totals(database) == {0: 1060, 1: 90}


async def test_a_rebuild_that_dead_letters_an_event_is_not_swapped_in(
    run_until_idle: RunUntilIdle, database: Database
) -> None:
    await run_until_idle(Totals().plugins, events=EVENTS)
    broken = Totals(factor=10, retry=RetryPolicy(attempts=1))
    broken.refuse = 4
    await begin_rebuild(database, broken.named)
    await run_until_idle(broken.plugins)
    assert await totals(database) == {0: 6, 1: 9}
    assert [one["name"] for one in await read_subscriptions(database)] == [
        "test.totals",
        "test.totals~rebuild",
    ]
    await drop_dead_letters(database, Selection(subscription="test.totals~rebuild"))
    await run_until_idle(broken.plugins)
    assert await totals(database) == {0: 20, 1: 90}


async def test_a_rebuild_under_way_begins_anew(run_until_idle: RunUntilIdle, database: Database) -> None:
    await run_until_idle(Totals().plugins, events=EVENTS)
    mended = Totals(factor=2)
    await begin_rebuild(database, mended.named)
    await database.execute("insert into rebuild_test_totals.totals (stream, files) values (0, 1000)")
    await begin_rebuild(database, mended.named)
    await run_until_idle(mended.plugins)
    assert await totals(database) == {0: 12, 1: 18}


async def test_what_cannot_be_swapped_is_refused(database: Database) -> None:
    async def handle(*_: Any) -> None: ...

    single = Subscription(name="s", events=(BatchReady,), handler=handle)
    with pytest.raises(CodelupeError, match="no tables that could be rebuilt"):
        await begin_rebuild(database, named("test", single))
    emitting = Totals(emits=(RepoEmpty,))
    with pytest.raises(CodelupeError, match="would emit them again"):
        await begin_rebuild(database, emitting.named)
    await database.execute("create table refers (stream int references totals (stream))")
    with pytest.raises(CodelupeError, match="other tables refer to totals"):
        await begin_rebuild(database, Totals().named)
    await database.execute("drop table refers, totals")
    with pytest.raises(CodelupeError, match="there is no table totals"):
        await begin_rebuild(database, Totals().named)
    assert await database.fetchval("select count(*) from pg_namespace where nspname like 'rebuild%'") == 0
