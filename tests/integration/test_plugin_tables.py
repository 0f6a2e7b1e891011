"""A plugin's code finds its own tables first, and the host's part of the same transaction finds the host's."""

from __future__ import annotations

import types
from collections.abc import Callable, Sequence
from datetime import timedelta
from pathlib import Path

import pytest

from codelupe import (
    BatchContext,
    BatchSubscription,
    Database,
    HandlerContext,
    Job,
    JobContext,
    Subscription,
    hookimpl,
)
from codelupe.daemon import Daemon
from codelupe.log import EventLog
from codelupe.work.projections import begin_rebuild
from codelupe_events import BatchReady, RepoEmpty
from tests.plugins import batch, empty, named

pytestmark = pytest.mark.anyio

# Named as the host names its own: what the host writes must not land here.
TABLES = "create table events (n bigint); create table tasks (n bigint); create table counts (n bigint)"
MANY = 20
"""So many emitted events are copied into the log's table, not appended by a function."""


async def handle(event: BatchReady, context: HandlerContext) -> None:
    await context.database.execute("insert into events values ($1)", event.batch_id)
    async with context.transaction() as connection:
        await connection.execute("insert into tasks values ($1)", event.batch_id)
        for number in range(MANY):
            context.emit(empty(number))


async def handle_many(events: Sequence[RepoEmpty], context: BatchContext) -> None:
    assert [one.type for one in await context.recorded()] == ["RepoEmpty"] * len(events)
    await context.connection.executemany("insert into counts values ($1)", [(1,)] * len(events))


async def run(context: JobContext) -> None:
    async with context.transaction() as connection:
        await connection.execute("insert into events values (0)")
        context.emit(batch(1), key="once")


COUNT = BatchSubscription(name="count", events=(RepoEmpty,), handler=handle_many, projects_to=("counts",))


@pytest.fixture
def plugin(tmp_path: Path) -> object:
    (tmp_path / "0001_tables.sql").write_text(TABLES)

    @hookimpl
    def codelupe_migrations() -> Path:
        return tmp_path

    @hookimpl
    def codelupe_subscriptions() -> list[Subscription | BatchSubscription]:
        return [Subscription(name="each", events=(BatchReady,), handler=handle), COUNT]

    @hookimpl
    def codelupe_jobs() -> list[Job]:
        return [Job(name="job", every=timedelta(hours=1), run=run)]

    return types.SimpleNamespace(
        codelupe_migrations=codelupe_migrations,
        codelupe_subscriptions=codelupe_subscriptions,
        codelupe_jobs=codelupe_jobs,
    )


async def counts(database: Database) -> dict[str, int]:
    """What its own tables hold; the job also runs while nothing is new."""
    return {
        table: await database.fetchval(f"select count(distinct n) from plugin_own.{table}")
        for table in ("events", "tasks", "counts")
    }


async def test_each_finds_its_own_tables(
    plugin: object, make_daemon: Callable[..., Daemon], database: Database
) -> None:
    await make_daemon({"own": plugin}).run()
    assert await counts(database) == {"events": 2, "tasks": 1, "counts": 1}
    assert await database.fetchval("select count(*) from plugin_own.counts") == MANY
    assert [one.type async for one in EventLog(database).read()] == ["BatchReady"] + ["RepoEmpty"] * MANY
    assert await database.fetchval("select count(*) from tasks") == 0


async def test_tables_of_a_plugin_are_rebuilt_where_they_are(
    plugin: object, make_daemon: Callable[..., Daemon], database: Database
) -> None:
    await make_daemon({"own": plugin}).run()
    await database.execute("delete from plugin_own.counts")
    await begin_rebuild(database, named("own", COUNT), "plugin_own")
    await make_daemon({"own": plugin}).run()
    assert await database.fetchval("select count(*) from plugin_own.counts") == MANY
    assert await database.fetchval("select to_regnamespace('rebuild_own_count')") is None


@pytest.mark.parametrize(
    "statement",
    [
        ("set search_path to elsewhere, public",),
        ("set schema 'elsewhere'",),
        ("select set_config($1, $2, true)", "search_path", "elsewhere, public"),
    ],
)
async def test_a_path_that_a_handler_sets_is_its_own_affair(
    make_daemon: Callable[..., Daemon], database: Database, statement: tuple[str, ...]
) -> None:
    await database.execute("create schema elsewhere; create table elsewhere.events (like events including all)")

    async def lost(event: BatchReady, context: HandlerContext) -> None:
        async with context.transaction() as connection:
            await connection.execute(*statement)
            for number in range(MANY):
                context.emit(empty(number))

    @hookimpl
    def codelupe_subscriptions() -> list[Subscription]:
        return [Subscription(name="lost", events=(BatchReady,), handler=lost)]

    await EventLog(database).publish(batch(1))
    await make_daemon({"it": types.SimpleNamespace(codelupe_subscriptions=codelupe_subscriptions)}).run()
    assert len([one async for one in EventLog(database).read()]) == 1 + MANY
