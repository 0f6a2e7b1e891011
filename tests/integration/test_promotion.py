"""The link to the model in use follows the promotions in the log, whatever comes between the two."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import codelupe_trainer
from codelupe import Database, load_queries
from codelupe.log import EventLog
from codelupe.work.dead_letters import Selection, list_dead_letters, retry_dead_letters
from codelupe.work.replay import Replay, start_replay
from codelupe_events import ModelPromoted, TaskDeadLettered, TrainingCompleted
from codelupe_trainer.settings import TrainerSettings
from tests.conftest import RunUntilIdle
from tests.integration.stored_files import add_batch, add_evaluation_set, add_file, add_repository
from tests.training import write_record

pytestmark = pytest.mark.anyio

TRAINER = {"trainer": codelupe_trainer}
SQL = load_queries("codelupe_sql", "trainer")


@pytest.fixture
def models(tmp_path: Path) -> Path:
    folder = tmp_path / "state" / "models"
    folder.mkdir(parents=True)
    return folder


async def add_model(database: Database, models: Path, state: str = "promoted", *, has_folder: bool = True) -> int:
    """A model ``m<batch>`` on a batch of its own, with its folder; returns the batch."""
    known = await database.fetchval("select id from repositories")
    repository = known or await add_repository(database)
    number = await database.fetchval("select count(*) from batches") + 1
    batch = await add_batch(database, [await add_file(database, repository, f"{number}.py")], f"m{number}", state)
    assert batch == number
    await database.execute("update models set path = id, decided_at = now() where batch_id = $1", batch)
    if has_folder:
        (models / f"m{number}").mkdir()
    return batch


def promoted(batch: int) -> ModelPromoted:
    return ModelPromoted(batch_id=batch, model_id=f"m{batch}", metrics={})


def in_use(models: Path) -> str:
    return str((models / "current").readlink())


async def compared_with(database: Database) -> str:
    """Which model the gate would compare the next one with."""
    row = await database.fetchrow(SQL.model_in_use, "base", "the next")
    assert row is not None
    return str(row["id"])


async def test_the_link_leads_to_the_model_promoted_last(
    run_until_idle: RunUntilIdle, database: Database, models: Path
) -> None:
    batches = [await add_model(database, models) for _ in range(3)]
    await run_until_idle(TRAINER, events=[promoted(batch) for batch in (batches[2], batches[0], batches[1])])
    assert in_use(models) == await compared_with(database) == "m2"


async def test_to_go_back_is_to_promote_the_earlier_model_again(
    run_until_idle: RunUntilIdle, database: Database, models: Path
) -> None:
    first, second = await add_model(database, models), await add_model(database, models)
    await run_until_idle(TRAINER, events=[promoted(first), promoted(second)])
    assert in_use(models) == "m2"
    await run_until_idle(TRAINER, events=[promoted(first)])
    assert in_use(models) == await compared_with(database) == "m1"


async def test_one_that_was_rejected_can_be_promoted_by_hand(
    run_until_idle: RunUntilIdle, database: Database, models: Path
) -> None:
    await run_until_idle(TRAINER, events=[promoted(await add_model(database, models, state="rejected"))])
    assert in_use(models) == await compared_with(database) == "m1"


async def test_a_replay_of_promotions_changes_nothing(
    run_until_idle: RunUntilIdle, database: Database, models: Path
) -> None:
    first, second = await add_model(database, models), await add_model(database, models)
    before = await run_until_idle(TRAINER, events=[promoted(first), promoted(second)])
    rows = await database.fetch("select * from models order by id")
    subscriptions = codelupe_trainer.codelupe_subscriptions(TrainerSettings())
    [own] = [each for each in subscriptions if each.events == (ModelPromoted,)]
    subscription = replace(own, name=f"trainer.{own.name}")
    for stream in ("batch/1", None):
        await start_replay(database, Replay(subscription=subscription, after=0, stream=stream))
        assert await run_until_idle(TRAINER) == before
        assert in_use(models) == "m2"
        assert await database.fetch("select * from models order by id") == rows


async def test_a_promotion_that_is_handled_late_does_not_undo_a_newer_one(
    run_until_idle: RunUntilIdle, database: Database, models: Path
) -> None:
    late = await add_model(database, models, has_folder=False)
    [event] = [
        one for one in await run_until_idle(TRAINER, events=[promoted(late)]) if isinstance(one, TaskDeadLettered)
    ]
    assert "is gone" in event.error
    assert not (models / "current").exists()
    await run_until_idle(TRAINER, events=[promoted(await add_model(database, models))])
    assert in_use(models) == "m2"

    (models / "m1").mkdir()
    assert len(await retry_dead_letters(database, Selection())) == 1
    await run_until_idle(TRAINER)
    assert await list_dead_letters(database, Selection()) == []
    assert in_use(models) == await compared_with(database) == "m2"


KILLED_BEFORE_THE_LINK = """
import os, signal, sys
from codelupe.cli import main
from codelupe_trainer import model_folder
from codelupe_trainer.gate import judging
from tests.training import measure_without_model

judging.run_child = measure_without_model
model_folder.point_to = lambda link, folder: os.kill(os.getpid(), signal.SIGKILL)
main()
"""
SETTINGS = (
    "plugins.crawler.installed_packages=false",
    "lease_seconds=2",
    "plugins.trainer.gate.min_groups=1",
    "plugins.trainer.gate.min_windows=1",
)
RUN = ("run", "--until-idle", *(argument for one in SETTINGS for argument in ("--set", one)))


async def test_a_crash_between_the_fact_and_the_link_heals_at_the_next_start(
    database_url: str, database: Database, models: Path
) -> None:
    """The child that measures is stood in for; the process dies when the link is to be moved."""
    batch = await add_model(database, models, state="trained")
    held_out = [await add_file(database, await add_repository(database, name), "b.py") for name in ("b/b", "c/c")]
    await add_evaluation_set(database, held_out)
    figures: dict[str, Any] = {
        "steps": 1,
        "samples": 1,
        "train_loss": 1.0,
        "validation_loss": 1.0,
        "stopped_early": False,
        "seconds": 1.0,
    }
    write_record(models / "m1", batch)
    completed = TrainingCompleted(batch_id=batch, model_id="m1", path="m1", **figures)
    log = EventLog(database)
    await log.publish(completed)
    environment = {**os.environ, "CODELUPE_DATABASE_URL": database_url, "CODELUPE_STATE_DIR": str(models.parent)}

    def run(program: str) -> int:
        ended = subprocess.run(
            [sys.executable, "-c", program, *RUN],
            check=False,
            env=environment,
            cwd=models.parent,
            capture_output=True,
            timeout=120,
        )
        return ended.returncode

    assert run(KILLED_BEFORE_THE_LINK) == -signal.SIGKILL
    [fact] = await log.latest(type_name="ModelPromoted")
    assert not (models / "current").exists()

    assert run("from codelupe.cli import main; main()") == 0
    assert in_use(models) == await compared_with(database) == "m1"
    assert await log.latest(type_name="ModelPromoted") == [fact]
