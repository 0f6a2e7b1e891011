"""``codelupe plugins retire``: what no code runs any more ends, and nothing that is in use."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import anyio
import pytest

from codelupe import BatchContext, BatchSubscription, Database, HandlerContext, Reject, Subscription
from codelupe.daemon import Daemon
from codelupe.log import Entry, EventLog
from codelupe.log.event_log import SQL
from codelupe_events import BatchReady, Event, RepoEmpty
from tests.integration.test_cli import Shell
from tests.logged import Logged
from tests.plugins import FAST, batch, empty, import_path, install_plugin, make_plugin

pytestmark = pytest.mark.anyio


def old_plugin(*wanted: type[Event]) -> dict[str, Any]:
    """Its subscription of tasks rejects everything."""

    async def refuse(event: Event, context: HandlerContext) -> None:
        raise Reject("cannot")

    async def accept(events: Sequence[Event], context: BatchContext) -> None:
        pass

    return {
        "old": make_plugin(
            subscriptions=[
                Subscription(name="s", events=wanted, handler=refuse, retry=FAST),
                BatchSubscription(name="b", events=wanted, handler=accept),
            ]
        )
    }


@pytest.fixture
def shell(tmp_path: Path, database_url: str) -> Shell:
    return Shell(tmp_path, CODELUPE_DATABASE_URL=database_url)


async def subscriptions(database: Database) -> list[str]:
    return [row["name"] for row in await database.fetch(SQL.subscriptions)]


@pytest.fixture
async def left_behind(make_daemon: Callable[..., Daemon], database: Database) -> None:
    """By a plugin that is gone: two subscriptions, 150 dead letters, an event behind one of them."""
    await EventLog(database).publish_all([Entry(event=batch(number)) for number in range(1, 151)])
    await EventLog(database).publish(batch(1, 1))
    await make_daemon(old_plugin(BatchReady)).run()


@pytest.mark.usefixtures("left_behind")
async def test_what_a_plugin_left_behind_ends_after_its_dead_letters_were_listed(
    shell: Shell, database: Database
) -> None:
    refused = await shell.tell("n\n", "plugins", "retire", "old")
    assert refused.out.count("cannot") == 150
    assert "old.s" in refused.out
    assert "old.b" in refused.out
    assert await subscriptions(database) == ["old.b", "old.s"]
    agreed = await shell.tell("y\n", "plugins", "retire", "old")
    assert (agreed.code, agreed.out.split("\n")[-2].strip()) == (0, "2 retired.")
    assert await subscriptions(database) == []
    assert await database.fetchval("select count(*) from tasks") == 0
    assert await EventLog(database).head_position() >= 151, "the events stay"


@pytest.mark.usefixtures("left_behind")
async def test_one_subscription_may_be_retired_and_data_be_had_as_json(shell: Shell, database: Database) -> None:
    ended = await shell("plugins", "retire", "old.s", "--json")
    assert json.loads(ended.out) == {
        "retired": [{"subscription": "old.s", "type": None, "tasks": 1, "dead_letters": 150}]
    }
    assert await subscriptions(database) == ["old.b"]


async def test_what_is_in_use_or_unknown_is_refused(shell: Shell, database: Database) -> None:
    await database.execute(SQL.begin_subscription, "filters.repository-rules", False, ["RepoDiscovered"], True, "0")
    for name in ("filters", "filters.repository-rules"):
        ended = await shell("plugins", "retire", name, "--yes")
        assert ended.code != 0
        assert f"{name} takes part" in ended.err
    unknown = await shell("plugins", "retire", "stranger", "--yes")
    assert "there is no subscription of stranger" in unknown.err
    wanted = await shell("plugins", "retire", "filters", "--type", "RepoDiscovered", "--yes")
    assert "wants RepoDiscovered" in wanted.err
    assert await subscriptions(database) == ["filters.repository-rules"]


async def test_an_event_type_may_be_given_up(
    shell: Shell, make_daemon: Callable[..., Daemon], database: Database, logged: Logged
) -> None:
    events = [one for number in range(1, 4) for one in (batch(number), empty(number))]
    await EventLog(database).publish_all([Entry(event=one) for one in events])
    await make_daemon(old_plugin(BatchReady, RepoEmpty)).run()
    await EventLog(database).publish_all([Entry(event=empty(1)), Entry(event=empty(9))])
    await make_daemon(old_plugin(BatchReady)).run()
    assert logged.records("events_wait_for_other_code")[0]["types"] == ["RepoEmpty"]
    ended = await shell("plugins", "retire", "old", "--type", "RepoEmpty", "--json")
    assert json.loads(ended.out)["retired"] == [
        {"subscription": "old.b", "type": "RepoEmpty", "tasks": 2, "dead_letters": 0},
        {"subscription": "old.s", "type": "RepoEmpty", "tasks": 2, "dead_letters": 3},
    ]
    assert {row["type"] for row in await database.fetch("select type from tasks")} == {"BatchReady"}
    before = logged.count("events_wait_for_other_code")
    await make_daemon(old_plugin(BatchReady)).run()
    assert logged.count("events_wait_for_other_code") == before
    again = await shell("plugins", "retire", "old", "--type", "RepoEmpty", "--yes")
    assert "there is no subscription of old that wants RepoEmpty" in again.err


@pytest.mark.usefixtures("left_behind")
async def test_the_doctor_proposes_it(shell: Shell) -> None:
    findings = {one["what"]: one for one in json.loads((await shell("doctor", "--json")).out)}
    for name in ("old.s", "old.b"):
        found = findings[f"subscription {name}"]
        assert found["verdict"] == "warning"
        assert "no active plugin has it" in found["detail"]
        assert f"`codelupe plugins retire {name}`" in found["hint"]


@pytest.mark.usefixtures("left_behind")
async def test_the_doctor_does_not_propose_it_where_a_broken_plugin_has_only_to_be_mended(
    shell: Shell, tmp_path: Path
) -> None:
    install_plugin(tmp_path / "site", "old", "raise ValueError('broken')")
    examined = await shell("doctor", "--json", PYTHONPATH=import_path(tmp_path / "site"))
    findings = {one["what"]: one for one in json.loads(examined.out)}
    assert findings["subscription old.s"]["hint"] == "Mend old, and it goes on from there."


async def test_a_daemon_that_still_runs_what_was_retired_goes_on_with_the_rest(
    make_daemon: Callable[..., Daemon], database: Database, logged: Logged
) -> None:
    handled: list[str] = []

    async def handle(event: BatchReady, context: HandlerContext) -> None:
        handled.append(context.name)

    async def handle_all(events: Sequence[BatchReady], context: BatchContext) -> None:
        handled.append(context.name)

    plugin = make_plugin(
        subscriptions=[
            *(Subscription(name=name, events=(BatchReady,), handler=handle) for name in ("one", "two")),
            *(BatchSubscription(name=name, events=(BatchReady,), handler=handle_all) for name in ("many", "more")),
        ]
    )
    async with anyio.create_task_group() as group:
        group.start_soon(make_daemon({"test": plugin}, until_idle=False, lease_seconds=4).run)
        await logged.wait_for("started")
        for name in ("test.one", "test.many"):
            await database.execute(SQL.end_subscription, name)
        await EventLog(database).publish(batch(1))
        with anyio.fail_after(60):
            while sorted(handled) != ["test.more", "test.two"]:
                await anyio.sleep(0.01)
        for name in ("test.one", "test.many"):
            await logged.wait_for("subscription_has_ended", stage=name)
        group.cancel_scope.cancel()
