"""What ``codelupe doctor`` finds in the database, each with what to do about it."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from datetime import timedelta
from pathlib import Path

import anyio
import pytest

from codelupe import Database, HandlerContext, Reject, Subscription
from codelupe.log import Entry, EventLog
from codelupe.log.event_log import SQL
from codelupe_events import BatchReady
from tests.clock import Clock
from tests.conftest import RunUntilIdle
from tests.integration.test_cli import Shell
from tests.plugins import batch, make_plugin

pytestmark = pytest.mark.anyio

Findings = dict[str, dict[str, str]]
Examine = Callable[[], Awaitable[Findings]]
OF_THE_DATABASE = ("database", "schema", "event log", "partitions", "events", "subscriptions", "dead letters")


@pytest.fixture
def examine(tmp_path: Path, database_url: str) -> Examine:
    """What a real ``codelupe doctor`` finds, by what it looked at; it ends with 1 if something is bad."""
    shell = Shell(tmp_path, CODELUPE_DATABASE_URL=database_url)

    async def run() -> Findings:
        ended = await shell("doctor", "--json")
        findings = json.loads(ended.out)
        assert ended.code == any(finding["verdict"] == "bad" for finding in findings)
        return {finding["what"]: finding for finding in findings}

    return run


async def add_worker(database: Database) -> None:
    """A process elsewhere, whose lease is valid."""
    await database.execute(
        "insert into workers (id, lease_until, host, boot_id, pid, pid_started)"
        " values (gen_random_uuid(), log_time() + interval '1 day', '', '', 1, '')"
    )


async def test_of_a_sound_log_all_is_good(examine: Examine, database: Database) -> None:
    await EventLog(database).publish(batch(1))
    findings = await examine()
    assert {what: findings[what]["verdict"] for what in OF_THE_DATABASE} == dict.fromkeys(OF_THE_DATABASE, "good")


async def test_an_open_transaction_is_named_with_what_waits_for_it(
    examine: Examine, database: Database, clock: Clock
) -> None:
    log = EventLog(database)
    await database.execute(SQL.begin_subscription, "scorers.score", False, ["BatchReady"], True, "0")
    await add_worker(database)
    async with database.transaction() as connection:
        await log.append(connection, [Entry(event=batch(1))])
        for number in (2, 3):
            await log.publish(batch(number))
        assert (await examine())["event log"]["verdict"] == "good", "it is young"
        await clock.advance(timedelta(minutes=11, seconds=30))
        findings = await examine()
        pid = await connection.fetchval("select pg_backend_pid()")
    held = findings["event log"]
    assert held["verdict"] == "warning"
    assert f"pid {pid} (codelupe, idle in transaction) has appended" in held["detail"]
    assert ", 0:11:" in held["detail"]
    assert "after position 0, up to 3 events" in held["detail"]
    assert f"pg_terminate_backend({pid})" in held["hint"]
    subscription = findings["subscription scorers.score"]
    assert subscription["verdict"] == "warning"
    assert "up to 3 events wait, the oldest for 0:11:" in subscription["detail"]
    assert "open transaction" in subscription["hint"]
    assert (await examine())["event log"]["verdict"] == "good", "it has ended"


async def test_a_stage_that_lags_while_nothing_runs_is_named_with_the_likely_reason(
    examine: Examine, run_until_idle: RunUntilIdle, database: Database, clock: Clock
) -> None:
    async def fail(event: BatchReady, context: HandlerContext) -> None:
        raise Reject("no use")

    for plugin in ("trainer", "gone"):
        it = make_plugin(subscriptions=[Subscription(name="train", events=(BatchReady,), handler=fail)])
        await run_until_idle({plugin: it}, events=[batch(1)])
    findings = await examine()
    assert findings["dead letters"]["detail"] == "1 of gone.train, 1 of trainer.train"
    assert findings["subscriptions"]["verdict"] == "good", "nothing has waited for long"
    await clock.advance(timedelta(minutes=11, seconds=30))
    findings = await examine()
    assert "plugins list" in findings["subscription gone.train"]["hint"], "no active plugin has it"
    assert "codelupe run" in findings["subscription trainer.train"]["hint"], "no daemon is at work"
    await add_worker(database)
    findings = await examine()
    assert "dead-letters list --subscription trainer.train" in findings["subscription trainer.train"]["hint"]


async def test_a_stage_at_work_on_old_events_is_not_late(examine: Examine, database: Database, clock: Clock) -> None:
    """It runs a task, holds its cursor for a batch, or gets on between one look and the next."""
    await EventLog(database).publish(batch(1))
    for name in ("a.tasks", "b.batches", "c.quick"):
        await database.execute(SQL.begin_subscription, name, False, ["BatchReady"], True, "0")
    await add_worker(database)
    await database.execute(
        "insert into tasks (subscription, stream, position, type, version)"
        " values ('a.tasks', 'batch/1', 1, 'BatchReady', 1)"
    )
    await database.execute("update subscriptions set position = 1, delivered = 1 where name = 'a.tasks'")
    await database.execute(
        "update tasks set state = 'running', token = gen_random_uuid(), worker = (select id from workers)"
    )
    await clock.advance(timedelta(minutes=11))

    async def get_on() -> None:
        while True:
            await database.execute("update subscriptions set delivered = delivered + 1 where name = 'c.quick'")
            await anyio.sleep(0.05)

    async with anyio.create_task_group() as group, database.transaction() as connection:
        await connection.fetch(SQL.open_batch, "b.batches", 1, 1)
        group.start_soon(get_on)
        assert (await examine())["subscriptions"]["verdict"] == "good"
        group.cancel_scope.cancel()
    await database.execute("delete from workers")
    assert {"subscription a.tasks", "subscription b.batches", "subscription c.quick"} <= set(await examine())


async def test_events_that_this_code_cannot_read_are_named(examine: Examine, database: Database) -> None:
    for type_name, version in (("BatchReady", 99), ("Unheard", 1), ("Unheard", 1)):
        await database.execute(
            "insert into events (stream, type, version, id, data, metadata)"
            " values ('s', $1, $2, gen_random_uuid(), '{}', '{}')",
            type_name,
            version,
        )
    await EventLog(database).publish(batch(1))
    found = (await examine())["events"]
    assert found["verdict"] == "warning"
    assert "cannot read 1 BatchReady version 99, 2 Unheard version 1" in found["detail"]


async def test_partitions_that_run_out_are_said_in_time(examine: Examine, database: Database) -> None:
    first, *later = await database.fetch("select name, last from event_partitions order by first")
    await database.execute(f"drop table {', '.join(row['name'] for row in later)}")
    await EventLog(database).publish(batch(1))
    found = (await examine())["partitions"]
    assert (found["verdict"], f"room for {first['last'] - 2:,} " in found["detail"]) == ("warning", True)
    await database.execute("select setval('events_position', $1)", first["last"] - 1)
    assert (await examine())["partitions"]["verdict"] == "bad"


async def test_a_server_that_takes_no_writes_is_bad(examine: Examine, database: Database) -> None:
    name = await database.fetchval("select current_database()")
    await database.execute(f"alter database {name} set default_transaction_read_only = on")
    found = (await examine())["database"]
    assert found["verdict"] == "bad"
    assert "takes no writes" in found["detail"]
    assert "primary" in found["hint"]
