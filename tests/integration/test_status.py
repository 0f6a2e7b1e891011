"""What has been done and what is yet to do, as data."""

from __future__ import annotations

import msgspec
import pytest

from codelupe import Database, HandlerContext, Reject, Subscription
from codelupe.host.extensions import Extensions
from codelupe.views.pipeline import read_status, read_subscriptions
from codelupe_crawler import codelupe_status_sections as of_repositories
from codelupe_events import BatchReady, RepoEmpty
from codelupe_filters import codelupe_status_sections as of_files
from codelupe_trainer import codelupe_status_sections as of_models
from codelupe_trainer.views import read_models
from tests.conftest import RunUntilIdle
from tests.integration.test_trace import add_batch, add_model, add_repository
from tests.plugins import batch, empty, make_plugin

pytestmark = pytest.mark.anyio

EXTENSIONS = Extensions(status_sections=[*of_repositories(), *of_files(), *of_models()])


async def test_the_status_of_nothing_is_complete(database: Database) -> None:
    assert await read_status(database, EXTENSIONS) == {
        "subscriptions": [],
        "jobs": [],
        "repositories": {"total": 0, "by_state": {}, "rejected_by": {}},
        "files": {
            "seen": 0,
            "stored": 0,
            "rejected": 0,
            "scored": 0,
            "good": 0,
            "mean_score": None,
            "rejected_by": {},
        },
        "batches": [],
        "models": [],
        "paused": [],
    }


async def test_stages_count_what_waits_runs_is_done_and_is_dead_lettered(
    run_until_idle: RunUntilIdle, database: Database
) -> None:
    async def handle(event: BatchReady, context: HandlerContext) -> None:
        if event.files == 9:
            raise Reject("no use")

    subscriptions = [
        Subscription(name="picky", events=(BatchReady,), handler=handle),
        Subscription(name="idle", events=(RepoEmpty,), handler=handle),
    ]
    events = [batch(1), batch(2, 9), batch(2), batch(3)]
    await run_until_idle({"test": make_plugin(subscriptions=subscriptions)}, events=events)
    assert await read_subscriptions(database, ["test.picky", "test.idle"]) == [
        {"name": "test.picky", "waiting": 1, "running": 0, "done": 2, "dead_lettered": 1},
        {"name": "test.idle", "waiting": 0, "running": 0, "done": 0, "dead_lettered": 0},
    ]


async def test_a_handler_sees_itself_running(run_until_idle: RunUntilIdle, database: Database) -> None:
    seen = []

    async def handle(event: RepoEmpty, context: HandlerContext) -> None:
        seen.extend(await read_subscriptions(database))

    it = make_plugin(subscriptions=[Subscription(name="s", events=(RepoEmpty,), handler=handle)])
    await run_until_idle({"test": it}, events=[empty(1)])
    assert seen == [{"name": "test.s", "waiting": 0, "running": 1, "done": 0, "dead_lettered": 0}]


async def test_stages_come_in_the_order_given_and_unknown_ones_after_them(database: Database) -> None:
    for name in ("a.one", "b.two", "c.three", "d.four"):
        await database.execute("insert into subscriptions (name, position) values ($1, 0)", name)
    stages = await read_subscriptions(database, ["d.four", "b.two", "gone.subscription"])
    assert [subscription["name"] for subscription in stages] == ["d.four", "b.two", "a.one", "c.three"]


async def test_repositories_and_files_are_counted_with_the_reasons_against_them(database: Database) -> None:
    await add_repository(database, "good", 2, batch_id=None)
    reasons = [{"rule": "too-few-stars", "detail": "3"}, {"rule": "fork", "detail": ""}]
    for name, rules in (("a", reasons), ("b", reasons[:1])):
        await database.execute(
            "insert into repositories (id, source, full_name, url, revision, state, reasons)"
            " values ($1, 'local', $1, '', '', 'rejected', $2)",
            name,
            rules,
        )
    await database.execute(
        "insert into processed_files (repository_id, commit, file_path, size_bytes, rejected_by)"
        " values ('local:good', 'c1', 'x', 1, 'generated'), ('local:good', 'c1', 'y', 1, 'generated'),"
        " ('local:good', 'c1', 'z', 1, 'too-long')"
    )
    await database.execute("update processed_files set quality_score = 40 where file_path = 'src/0.py'")
    status = await read_status(database, EXTENSIONS)
    assert status["repositories"] == {
        "total": 3,
        "by_state": {"rejected": 2, "scored": 1},
        "rejected_by": {"too-few-stars": 2, "fork": 1},
    }
    assert list(status["repositories"]["rejected_by"]) == ["too-few-stars", "fork"], "the most frequent first"
    assert status["files"] == {
        "seen": 5,
        "stored": 2,
        "rejected": 3,
        "scored": 2,
        "good": 1,
        "mean_score": 60.0,
        "rejected_by": {"generated": 2, "too-long": 1},
    }


async def test_batches_and_models_know_each_other(database: Database) -> None:
    first, second = await add_batch(database), await add_batch(database)
    await add_model(database, "m", first)
    status = await read_status(database, EXTENSIONS)
    assert [(one["id"], one["model"], one["files"]) for one in status["batches"]] == [
        (first, "m", 3),
        (second, None, 3),
    ]
    [model] = status["models"]
    assert (model["id"], model["state"], model["base"], model["batch"]) == ("m", "rejected", "SmolLM2-135M", first)
    assert model["losses"] == {"train": 1.5, "validation": 1.25}
    assert await read_models(database) == status["models"]
    assert msgspec.json.encode(status), "fit for JSON"
