"""A batch names the event that it comes of, so that a model can be traced to the first event."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest

import codelupe_trainer
from codelupe import Database
from codelupe.log import EventLog
from codelupe.views.trace import trace_event
from codelupe.work.projections import begin_rebuild
from codelupe_events import (
    BatchReady,
    Event,
    FilesExtracted,
    FilesScored,
    RepoAccepted,
    RepoCloned,
    RepoDiscovered,
    TrainingFailed,
)
from codelupe_trainer.settings import TrainerSettings
from tests.conftest import RunUntilIdle
from tests.integration.stored_files import add_file, add_repository

pytestmark = pytest.mark.anyio

COMMIT = "c" * 40
TRAINER = {"trainer": codelupe_trainer}


def settings(**values: Any) -> dict[str, Any]:
    """No package holds this base, so that training fails at once, for good."""
    known = {"base": "package:no_such_model", "min_files": 2, "min_characters": 1, "held_out_share": 0}
    return {"trainer": known | values}


def scored(repository: str, commit: str = COMMIT) -> FilesScored:
    return FilesScored(repository_id=repository, commit=commit, scored=2, mean_score=80, seconds=1)


async def add_scored(database: Database, name: str, files: int = 2, commit: str = COMMIT) -> str:
    """A repository with stored files that are good."""
    repository = await add_repository(database, name)
    for number in range(files):
        await add_file(database, repository, f"{number}.py", commit=commit)
    return repository


async def cause_of_batches(database: Database) -> dict[int, str | None]:
    """The stream of the event that each batch comes of."""
    log = EventLog(database)
    found = dict[int, str | None]()
    for recorded in await log.latest(type_name="BatchReady"):
        cause = await log.find(recorded.metadata.get("caused_by", ""))
        event = recorded.decode()
        assert isinstance(event, BatchReady)
        found[event.batch_id] = cause.stream if cause else None
    return found


async def test_what_comes_of_a_batch_is_traced_to_the_discovery_of_a_repository(
    run_until_idle: RunUntilIdle, database: Database
) -> None:
    repository = await add_scored(database, "a/b")
    way: list[Event] = [
        RepoDiscovered(repository_id=repository, source="test", full_name="a/b", url="u", revision="1"),
        RepoAccepted(repository_id=repository, url="u", full_name="a/b", revision="1", score=50),
        RepoCloned(repository_id=repository, commit=COMMIT, path="b", size_bytes=1, seconds=1),
        FilesExtracted(repository_id=repository, commit=COMMIT, stored=2, rejected={}, seconds=1),
        scored(repository),
    ]
    log = EventLog(database)
    await log.publish(way[0])
    for cause, event in pairwise(way):
        [before] = await log.latest(type_name=type(cause).__name__)
        await log.publish(event, metadata={"caused_by": str(before.id)})
    events = await run_until_idle(TRAINER, settings())
    assert [event for event in events if isinstance(event, TrainingFailed)]
    [last] = await log.latest(type_name="TrainingFailed")
    chain = [event["type"] for event in await trace_event(log, last)]
    assert chain == ["TrainingFailed", "BatchReady", *(type(event).__name__ for event in reversed(way))]


async def test_the_cause_is_the_last_event_that_scored_files_of_the_batch(
    run_until_idle: RunUntilIdle, database: Database
) -> None:
    first, second = await add_scored(database, "a"), await add_scored(database, "b")
    without_files = await add_repository(database, "empty")
    await run_until_idle(TRAINER, settings(), [scored(first), scored(second), scored(without_files)])
    assert await cause_of_batches(database) == {1: f"repo/{second}"}
    assert [row["files"] for row in await database.fetch("select files from batches")] == [4]


async def test_files_that_no_event_is_known_to_have_scored_make_a_batch_all_the_same(
    run_until_idle: RunUntilIdle, database: Database
) -> None:
    repository = await add_scored(database, "a")
    await run_until_idle(TRAINER, settings(), [scored(repository, commit="of another commit")])
    assert await cause_of_batches(database) == {1: None}


async def test_no_file_of_a_repository_that_is_out_by_now_is_in_a_batch(
    run_until_idle: RunUntilIdle, database: Database
) -> None:
    for name, state in {"a/b": "scored", "a/r": "rejected", "a/g": "gone", "a/d": "discovered"}.items():
        repository = await add_scored(database, name)
        await database.execute("update repositories set state = $2 where id = $1", repository, state)
    await run_until_idle(TRAINER, settings())
    found = await database.fetch("select distinct repository_id from batch_files join processed_files on id = file_id")
    assert {row["repository_id"] for row in found} == {"test:a/b", "test:a/d"}


async def test_no_batch_comes_before_its_time(run_until_idle: RunUntilIdle, database: Database) -> None:
    repository = await add_scored(database, "a", files=9)
    events = await run_until_idle(TRAINER, settings(min_files=10), [scored(repository)])
    assert not [event for event in events if isinstance(event, BatchReady)]


async def test_the_newest_event_of_a_commit_counts_also_after_a_rebuild(
    run_until_idle: RunUntilIdle, database: Database
) -> None:
    """Of the same commit twice in one batch of events, of another, and again."""
    await run_until_idle(TRAINER, settings(), [scored("test:a"), scored("test:a"), scored("test:b"), scored("test:a")])
    await run_until_idle(TRAINER, settings(), [scored("test:b")])
    rows = await database.fetch("select * from scored_commits order by repository_id")
    newest = {event.stream: event for event in await EventLog(database).latest(type_name="FilesScored")}
    assert [(row["repository_id"], row["event_id"], row["position"]) for row in rows] == [
        (name, newest[f"repo/{name}"].id, newest[f"repo/{name}"].position) for name in ("test:a", "test:b")
    ]
    subscriptions = codelupe_trainer.codelupe_subscriptions(TrainerSettings())
    [own] = [each for each in subscriptions if each.events == (FilesScored,)]
    subscription = replace(own, name=f"trainer.{own.name}")
    await database.execute("delete from scored_commits")
    await begin_rebuild(database, subscription)
    await run_until_idle(TRAINER, settings())
    assert await database.fetch("select * from scored_commits order by repository_id") == rows
