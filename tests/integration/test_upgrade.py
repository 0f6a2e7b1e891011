"""A database that an earlier CodeLupe wrote is migrated and read, and its work goes on.

``upgrade/NNNN.sql`` fills a database whose last migration is number NNNN. When a released schema is left behind,
another such file joins it, and the expectations here hold for both.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path

import pytest

from codelupe import BatchContext, BatchSubscription, Database, HandlerContext, Subscription
from codelupe.daemon import Daemon
from codelupe.log import EventLog
from codelupe.postgres.migrate import migrate, own_migrations, pending_migrations
from codelupe.views.pipeline import read_subscriptions
from codelupe.work.dead_letters import Selection, list_dead_letters, retry_dead_letters
from codelupe_events import BatchReady, RepoDiscovered, RepoEmpty, TaskDeadLettered
from tests.integration.servers import empty_database
from tests.integration.test_cli import Shell
from tests.plugins import batch, empty, make_plugin

pytestmark = pytest.mark.anyio

WRITTEN = sorted(Path(__file__).with_name("upgrade").glob("*.sql"))


@pytest.fixture(params=WRITTEN, ids=lambda path: path.stem)
async def old_url(request: pytest.FixtureRequest, postgres_url: str) -> AsyncIterator[str]:
    """The URL of a database as the earlier CodeLupe left it."""
    number = int(request.param.stem)
    async with empty_database(postgres_url) as url:
        async with Database(url) as database:
            await migrate(database, [one for one in own_migrations() if one.number <= number])
            await database.execute(request.param.read_text())
        yield url


@pytest.fixture
async def upgraded(old_url: str) -> AsyncIterator[Database]:
    async with Database(old_url) as database:
        expected = await pending_migrations(database, own_migrations())
        assert await migrate(database, own_migrations()) == expected != []
        yield database


async def test_every_event_is_read_as_it_was_written(upgraded: Database) -> None:
    recorded = [one async for one in EventLog(upgraded).read()]
    assert [one.position for one in recorded] == list(range(1, 8))
    assert [str(one.id)[-2:] for one in recorded] == [f"0{number}" for number in range(1, 8)]
    assert {str(one.metadata) for one in recorded} == {"{'by': 'old.job'}"}
    events = [one.decode() for one in recorded]
    assert events[0] == RepoDiscovered(
        repository_id="local:/a", source="local", full_name="a", url="file:///a", revision="1"
    )
    assert [type(event) for event in events[1:]] == [
        RepoEmpty,
        RepoEmpty,
        BatchReady,
        TaskDeadLettered,
        BatchReady,
        BatchReady,
    ]


async def test_a_key_that_was_used_stays_used(upgraded: Database) -> None:
    key = await upgraded.fetchval("select key from event_keys")
    appended = await EventLog(upgraded).publish(batch(9), key=key)
    assert (appended.position, appended.duplicate) == (1, True)


async def test_tasks_are_counted_as_before(upgraded: Database) -> None:
    counted = {one.pop("name"): one for one in await read_subscriptions(upgraded)}
    assert counted == {
        "old.each": {"waiting": 1, "running": 1, "done": 0, "dead_lettered": 1},
        "old.many": {"waiting": 0, "running": 0, "done": 0, "dead_lettered": 0},
    }


async def test_dead_letters_keep_all_that_is_known_of_them(upgraded: Database) -> None:
    [letter] = await list_dead_letters(upgraded)
    assert (letter.subscription, letter.stream, letter.position, letter.type) == (
        "old.each",
        "batch/1",
        4,
        "BatchReady",
    )
    assert (letter.attempts, letter.crashes) == (5, 1)
    assert letter.dead_lettered_at.isoformat() == "2026-11-01T12:00:00+00:00"
    assert (letter.error, letter.traceback) == ("OSError: No space left on device", "Traceback")


async def test_what_was_decided_about_a_repository_stands(upgraded: Database) -> None:
    row = await upgraded.fetchrow("select state, verdict, judged_revision, judged_position from repositories")
    assert row is not None
    assert tuple(row) == ("scored", "accepted", "1", 0)


async def test_what_was_under_way_is_finished_from_where_it_stood(
    upgraded: Database, old_url: str, make_daemon: Callable[..., Daemon]
) -> None:
    """Ready, running on a machine that is gone, or retried by an operator: each is handled once, and nothing again."""
    begun: dict[int, tuple[int, object]] = {}
    read: list[str] = []

    async def each(event: BatchReady, context: HandlerContext) -> None:
        begun[event.batch_id] = (context.attempt, context.checkpoint)

    async def many(events: Sequence[RepoEmpty], context: BatchContext) -> None:
        read.extend(event.repository_id for event in events)

    subscriptions: list[Subscription | BatchSubscription] = [
        Subscription(name="each", events=(BatchReady,), handler=each),
        BatchSubscription(name="many", events=(RepoEmpty,), handler=many),
    ]
    await retry_dead_letters(upgraded, Selection(subscription="old.each"))
    await EventLog(upgraded).publish(empty(1))
    await make_daemon({"old": make_plugin(subscriptions=subscriptions)}, database_url=old_url).run()
    assert begun == {1: (1, None), 2: (2, None), 3: (4, {"step": 12})}, "its worker is the third to have died of it"
    assert read == ["test:1"]
    assert {one["dead_lettered"] + one["waiting"] for one in await read_subscriptions(upgraded)} == {0}


async def test_the_command_line_migrates_and_shows_it(old_url: str, tmp_path: Path) -> None:
    shell = Shell(tmp_path, CODELUPE_DATABASE_URL=old_url)
    assert (await shell("db", "migrate")).code == 0
    status = (await shell("status", "--json")).json()
    assert [model["id"] for model in status["models"]] == ["2026-11-01-1"]
    assert status["batches"][0]["files"] == 1
    [letter] = (await shell("dead-letters", "list", "--json")).json()
    assert letter["stream"] == "batch/1"
    assert status["files"]["stored"] == 1
