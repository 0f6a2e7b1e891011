"""Databases that were dumped, restored or replicated in part."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import asyncpg
import pytest

from codelupe import BatchContext, BatchSubscription, CodelupeError, Database, HandlerContext, Reject, Subscription
from codelupe.daemon import Daemon
from codelupe.log import Entry, EventLog
from codelupe.log.event_log import SequenceBehind
from codelupe.postgres.embedded.binaries import find_binaries
from codelupe.postgres.embedded.home import Account
from codelupe.work.dead_letters import EVERYTHING, list_dead_letters, retry_dead_letters
from codelupe_events import BatchReady
from tests.integration.servers import fresh_database
from tests.integration.test_cli import Shell
from tests.plugins import FAST, batch, make_plugin

pytestmark = pytest.mark.anyio


class Noted:
    """A plugin with a subscription of each kind, that fails on what it is told to."""

    def __init__(self, fails_on: int | None = None) -> None:
        self.handled: list[tuple[int, int]] = []
        self.in_batches: list[tuple[int, int]] = []
        self._fails_on = fails_on
        subscriptions: list[Subscription | BatchSubscription] = [
            Subscription(name="s", events=(BatchReady,), handler=self._handle, retry=FAST),
            BatchSubscription(name="b", events=(BatchReady,), handler=self._handle_all, retry=FAST),
        ]
        self.plugins = {"test": make_plugin(subscriptions=subscriptions)}

    async def _handle(self, event: BatchReady, context: HandlerContext) -> None:
        if event.batch_id == self._fails_on:
            raise Reject("not this one")
        self.handled.append((event.batch_id, event.files))

    async def _handle_all(self, events: Sequence[BatchReady], context: BatchContext) -> None:
        self.in_batches += [(event.batch_id, event.files) for event in events]


@pytest.fixture
def programs(tmp_path: Path) -> Path:
    """Where the server's ``pg_dump`` and ``psql`` lie."""
    folder = find_binaries(Account(os.geteuid(), os.getegid()), tmp_path / "copies", None).folder
    if not ((folder / "pg_dump").exists() and (folder / "psql").exists()):
        pytest.skip(f"the PostgreSQL in {folder} has no pg_dump and psql")
    return folder


def call(program: Path, url: str, *options: str, given: str = "") -> str:
    """Run a program of Postgres's on a database; what it prints."""
    parts = urlsplit(url)
    host, user = parse_qs(parts.query)["host"][0], parse_qs(parts.query).get("user", [parts.username])[0]
    port = parse_qs(parts.query).get("port", ["5432"])[0]
    where = ["--host", host, "--port", port, "--username", str(user), "--dbname", parts.path.lstrip("/")]
    done = subprocess.run([program, *where, *options], input=given, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


async def test_a_dump_of_the_data_alone_restores_and_the_work_goes_on(
    make_daemon: Callable[..., Daemon], database: Database, postgres_url: str, programs: Path
) -> None:
    for number in (1, 2, 1, 3):
        await EventLog(database).publish(batch(number), key=None)
    await EventLog(database).publish_all([Entry(event=batch(4))] * 50)
    await make_daemon(Noted(fails_on=1).plugins).run()
    await EventLog(database).publish(batch(5))
    dump = call(programs / "pg_dump", database.url, "--data-only")
    async with fresh_database(postgres_url) as url, Database(url) as restored:
        await restored.execute("truncate schema_migrations, redaction_key, log_clock")  # migrations have filled these
        call(programs / "psql", url, "--quiet", "--set", "ON_ERROR_STOP=1", given=dump)
        log = EventLog(restored)
        assert await log.head_position() == await log.high_water_mark() == await EventLog(database).head_position()
        await log.publish(batch(6))
        after = Noted()
        assert len(await list_dead_letters(restored)) == 1
        await retry_dead_letters(restored, EVERYTHING)
        await make_daemon(after.plugins, database_url=url).run()
        assert sorted(after.handled) == [(1, 0), (1, 0), (5, 0), (6, 0)]
        assert sorted(after.in_batches)[-2:] == [(5, 0), (6, 0)]


async def test_under_any_search_path_events_can_be_inserted_and_hold_readers_back(database: Database) -> None:
    insert = (
        "insert into public.events (stream, type, version, id, data, metadata)"
        " values ('by/hand', 'BatchReady', 1, gen_random_uuid(), '{}', '{}')"
    )
    stranger = await asyncpg.connect(database.url)
    await stranger.execute("create schema mine; create table mine.events (a int); create table mine.tasks (a int)")
    try:
        for number, path in enumerate(("''", "mine, public", "pg_catalog")):
            await stranger.execute(f"set search_path = {path}")
            async with stranger.transaction():
                await stranger.execute(insert)
                await EventLog(database).publish(batch(1))
                assert await EventLog(database).high_water_mark() == 2 * number
            assert await stranger.fetchval("select public.high_water_mark()") == 2 * number + 2
        await stranger.execute("select * from public.feed_tasks(array['test.s'], 10)")
    finally:
        await stranger.close()


# --- a sequence that is behind ---


@pytest.mark.parametrize("behind", ["an event", "a cursor"])
async def test_a_daemon_refuses_positions_that_are_taken_and_says_what_mends_them(
    behind: str, make_daemon: Callable[..., Daemon], database: Database, tmp_path: Path
) -> None:
    log = EventLog(database)
    for number in range(1, 11):
        await log.publish(batch(number))
    noted = Noted()
    await make_daemon(noted.plugins).run()
    if behind == "a cursor":
        await database.execute("delete from events")
    await database.execute("select setval('events_position', 3)")
    refused = await refusal(make_daemon(noted.plugins))
    assert "events_position stands at 3, but 10 is taken" in refused.message
    shell = Shell(tmp_path, CODELUPE_DATABASE_URL=database.url)
    ended = await shell("doctor", "--json")
    [finding] = [one for one in json.loads(ended.out) if one["what"] == "event log"]
    assert ended.code == 1
    assert (finding["verdict"], finding["detail"], finding["hint"]) == (
        "bad",
        refused.message,
        refused.hint,
    )
    await mend(database, refused)
    await log.publish(batch(11))
    await make_daemon(noted.plugins).run()
    assert noted.handled[-1] == (11, 0)
    assert noted.in_batches[-1] == (11, 0)
    [finding] = [one for one in json.loads((await shell("doctor", "--json")).out) if one["what"] == "event log"]
    assert finding["verdict"] == "good"


async def refusal(daemon: Daemon) -> SequenceBehind:
    with pytest.raises(ExceptionGroup) as raised:
        await daemon.run()
    [error] = raised.value.exceptions
    assert isinstance(error, SequenceBehind)
    return error


async def mend(database: Database, error: CodelupeError) -> None:
    """As the hint says."""
    assert error.hint is not None
    await database.execute(error.hint.partition("mend it: ")[2])


@pytest.mark.parametrize("table", ["tasks", "catch_ups"])
async def test_a_daemon_refuses_numbers_that_are_taken(
    table: str, make_daemon: Callable[..., Daemon], database: Database
) -> None:
    """Dead letters could be confused by them, and catch-ups not be made."""
    await EventLog(database).publish_all([Entry(event=batch(1, number)) for number in range(1100)])
    await make_daemon(Noted(fails_on=1).plugins).run()
    taken = await database.fetchval(f"select max(id) from {table}")
    assert taken
    await database.execute(f"select setval(pg_get_serial_sequence('{table}', 'id'), 1, false)")
    refused = await refusal(make_daemon(Noted().plugins))
    assert f"{table}_id_seq stands at 0, but {taken:,} is taken" in refused.message
    await mend(database, refused)
    await EventLog(database).require_sequences()
