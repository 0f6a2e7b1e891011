"""From a model back to its batch, repositories and files, and from an event back to its causes."""

from __future__ import annotations

import uuid

import pytest

from codelupe import Database, HandlerContext, Reject, Subscription
from codelupe.log import EventLog
from codelupe.views.trace import trace_event
from codelupe_events import (
    BatchReady,
    FilesExtracted,
    ModelPromoted,
    RepoCloned,
    RepoDiscovered,
    RepoEmpty,
    TaskDeadLettered,
)
from codelupe_trainer.views import trace_model
from tests.conftest import RunUntilIdle
from tests.plugins import batch, empty, make_plugin

pytestmark = pytest.mark.anyio

NIL = uuid.UUID(int=0)


async def add_repository(
    database: Database, name: str, files: int, *, batch_id: int | None, commit: str = "c1"
) -> None:
    identity = f"local:{name}"
    await database.execute(
        "insert into repositories (id, source, full_name, url, revision, licence, state)"
        " values ($1, 'local', $2, 'file:///' || $2, '1', 'MIT', 'scored') on conflict do nothing",
        identity,
        name,
    )
    for number in range(files):
        path = f"src/{number}.py"
        file = await database.fetchval(
            "insert into processed_files"
            " (repository_id, commit, file_path, licence, content, content_hash, size_bytes, quality_score)"
            " values ($1, $2, $3, 'MIT', 'pass', decode(md5($1 || $2 || $3), 'hex'), 4, 80) returning id",
            identity,
            commit,
            path,
        )
        if batch_id is not None:
            await database.execute(
                "insert into batch_files (file_id, batch_id, split) values ($1, $2, $3)",
                file,
                batch_id,
                "validation" if number == 0 else "train",
            )


async def add_batch(database: Database) -> int:
    return int(
        await database.fetchval(
            "insert into batches (files, characters, repositories, min_score) values (3, 12, 2, 70) returning id"
        )
    )


async def add_model(database: Database, name: str, batch_id: int) -> None:
    await database.execute(
        "insert into models (id, batch_id, base, state, losses, metrics, reasons)"
        " values ($1, $2, 'SmolLM2-135M', 'rejected', $3, '{}', $4)",
        name,
        batch_id,
        {"train": 1.5, "validation": 1.25},
        [{"rule": "not-better", "detail": "1.25 >= 1.2"}],
    )


# --- models ---


async def test_a_model_leads_to_its_batch_repositories_and_files(database: Database) -> None:
    log = EventLog(database)
    number, other = await add_batch(database), await add_batch(database)
    await add_model(database, "codelupe-1", number)
    await add_repository(database, "rich", 2, batch_id=number)
    await add_repository(database, "flask", 1, batch_id=number)
    await add_repository(database, "rich", 3, batch_id=None, commit="c2")
    await add_repository(database, "elsewhere", 1, batch_id=other)
    await log.publish(
        RepoDiscovered(repository_id="local:rich", source="local", full_name="rich", url="u", revision="1")
    )
    await log.publish(RepoCloned(repository_id="local:rich", commit="c1", path="rich", size_bytes=1, seconds=1))
    await log.publish(RepoEmpty(repository_id="local:elsewhere", url="u"))
    await log.publish(batch(number, 3))
    await log.publish(ModelPromoted(batch_id=number, model_id="codelupe-1", metrics={}))
    await log.publish(batch(other, 1))

    trace = await trace_model(database, log, "codelupe-1")
    assert trace is not None
    assert trace["model"]["id"] == "codelupe-1"
    assert trace["model"]["losses"] == {"train": 1.5, "validation": 1.25}
    assert trace["model"]["reasons"] == [{"rule": "not-better", "detail": "1.25 >= 1.2"}]
    assert (trace["batch"]["id"], trace["batch"]["files"], trace["batch"]["min_score"]) == (number, 3, 70)
    assert [event["type"] for event in trace["events"]] == ["BatchReady", "ModelPromoted"]
    rich, flask = trace["repositories"]
    assert (rich["id"], rich["full_name"], rich["url"], rich["licence"], rich["commit"]) == (
        "local:rich",
        "rich",
        "file:///rich",
        "MIT",
        "c1",
    )
    assert [event["type"] for event in rich["events"]] == ["RepoDiscovered", "RepoCloned"]
    assert [(file["path"], file["split"], file["score"]) for file in rich["files"]] == [
        ("src/0.py", "validation", 80),
        ("src/1.py", "train", 80),
    ]
    assert all(len(file["content_hash"]) == 32 and file["licence"] == "MIT" for file in rich["files"])
    assert (flask["id"], len(flask["files"]), flask["events"]) == ("local:flask", 1, [])


async def test_a_repository_with_files_of_two_commits_comes_once_for_each(database: Database) -> None:
    number = await add_batch(database)
    await add_model(database, "m", number)
    await add_repository(database, "rich", 1, batch_id=number, commit="c1")
    await add_repository(database, "rich", 2, batch_id=number, commit="c2")
    trace = await trace_model(database, EventLog(database), "m")
    assert trace is not None
    assert [(one["commit"], len(one["files"])) for one in trace["repositories"]] == [("c2", 2), ("c1", 1)]


async def test_a_batch_without_files_is_no_error(database: Database) -> None:
    await add_model(database, "m", await add_batch(database))
    trace = await trace_model(database, EventLog(database), "m")
    assert trace is not None
    assert (trace["repositories"], trace["events"]) == ([], [])


@pytest.mark.parametrize("name", ["", "codelupe-2", "1", "'; drop table models"])
async def test_an_unknown_model_is_none(database: Database, name: str) -> None:
    assert await trace_model(database, EventLog(database), name) is None


# --- events ---


async def test_an_event_leads_back_to_all_that_caused_it(run_until_idle: RunUntilIdle, database: Database) -> None:
    async def first(event: BatchReady, context: HandlerContext) -> None:
        async with context.transaction():
            context.emit(empty(event.batch_id))

    async def second(event: RepoEmpty, context: HandlerContext) -> None:
        await context.emit_now(
            FilesExtracted(repository_id=event.repository_id, commit="c", stored=0, rejected={}, seconds=0)
        )

    it = make_plugin(
        subscriptions=[
            Subscription(name="first", events=(BatchReady,), handler=first),
            Subscription(name="second", events=(RepoEmpty,), handler=second),
        ]
    )
    await run_until_idle({"test": it}, events=[batch(1), batch(2)])
    log = EventLog(database)
    [extracted] = [event for event in await log.latest(type_name="FilesExtracted") if event.stream == "repo/test:2"]
    chain = await trace_event(log, extracted)
    assert [(event["type"], event["stream"], event["metadata"].get("by")) for event in chain] == [
        ("FilesExtracted", "repo/test:2", "test.second"),
        ("RepoEmpty", "repo/test:2", "test.first"),
        ("BatchReady", "batch/2", None),
    ]


async def test_the_word_about_a_dead_lettered_task_leads_to_the_event(
    run_until_idle: RunUntilIdle, database: Database
) -> None:
    async def fail(event: BatchReady, context: HandlerContext) -> None:
        raise Reject("no")

    it = make_plugin(subscriptions=[Subscription(name="s", events=(BatchReady,), handler=fail)])
    await run_until_idle({"test": it}, events=[batch(1)])
    log = EventLog(database)
    [dead_letter] = await log.latest(type_name=TaskDeadLettered.__name__)
    assert [event["type"] for event in await trace_event(log, dead_letter)] == ["TaskDeadLettered", "BatchReady"]


async def test_a_cause_that_is_no_longer_there_ends_the_chain(database: Database) -> None:
    log = EventLog(database)
    await log.publish(batch(1), metadata={"caused_by": str(NIL)})
    [event] = await log.latest()
    assert [one["type"] for one in await trace_event(log, event)] == ["BatchReady"]


@pytest.mark.parametrize("reference", ["0", "2", "-1", "1.5", "x", "", "²", str(NIL), "9" * 30, "9" * 5000])
async def test_a_reference_to_no_event_finds_none(database: Database, reference: str) -> None:
    log = EventLog(database)
    await log.publish(batch(1))
    assert await log.find(reference) is None


async def test_an_event_is_found_by_position_and_by_id(database: Database) -> None:
    log = EventLog(database)
    appended = await log.publish(batch(1))
    by_position = await log.find(str(appended.position))
    assert by_position is not None
    assert await log.find(str(by_position.id)) == by_position
    assert await log.find(f"{{{by_position.id}}}".upper()) == by_position
