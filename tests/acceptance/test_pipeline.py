"""The whole daemon, as its users start it, on real packages and the real small model.

The undisturbed run is made once; other runs of the same input, killed, stopped and started again, must end with the
same tables.
"""

from __future__ import annotations

import signal
import subprocess
import time
from collections.abc import Callable
from typing import Any

import asyncpg
import pytest

from tests.acceptance.pipeline import Pipeline, held_out_share, tables
from tests.processes import HANGS

pytestmark = [pytest.mark.anyio, pytest.mark.slow, pytest.mark.timeout(600), pytest.mark.xdist_group("pipeline")]


async def test_the_whole_pipeline_leads_from_packages_to_a_judged_model(undisturbed: tuple[Pipeline, str]) -> None:
    pipeline, output = undisturbed
    status = pipeline.ask("status")
    assert pipeline.ask("dead-letters", "list") == []
    assert all(subscription["waiting"] == subscription["running"] == 0 for subscription in status["subscriptions"])
    assert status["repositories"]["by_state"]["scored"] >= 6
    [batch] = status["batches"]
    [model] = status["models"]
    assert model["state"] in {"promoted", "rejected"}
    assert model["batch"] == batch["id"]
    assert all(1 < model["losses"][name] < 6 for name in ("train", "validation"))
    assert all(0.3 < model["metrics"][name]["plain"] < 3 for name in ("current", "candidate"))
    folder = pipeline.state / "models" / model["path"]
    for name in ("adapter_model.safetensors", "adapter_config.json", "tokenizer.json", "README.md"):
        assert (folder / name).stat().st_size > 100, name
    assert model["id"] in output
    assert str(pipeline.state / "models") in output


async def test_a_model_leads_back_to_its_batch_repositories_and_files(undisturbed: tuple[Pipeline, str]) -> None:
    pipeline, _ = undisturbed
    [model] = pipeline.ask("models", "list")
    trace = pipeline.ask("models", "trace", model["id"])
    assert trace["batch"]["id"] == model["batch"]
    assert sum(len(repository["files"]) for repository in trace["repositories"]) == trace["batch"]["files"]
    for repository in trace["repositories"]:
        [types] = [[event["type"] for event in repository["events"]]]
        assert types == ["RepoDiscovered", "RepoAccepted", "RepoCloned", "FilesExtracted", "FilesScored"]
        clone = pipeline.state / "repos" / repository["full_name"]
        for file in repository["files"]:
            assert (clone / file["path"]).is_file()


async def test_the_verdict_on_a_model_leads_back_to_the_crawl_that_found_a_repository(
    undisturbed: tuple[Pipeline, str],
) -> None:
    pipeline, _ = undisturbed
    connection = await asyncpg.connect(pipeline.url)
    try:
        position = await connection.fetchval(
            "select position from events where type in ('ModelPromoted', 'ModelRejected')"
        )
    finally:
        await connection.close()
    assert [event["type"] for event in pipeline.ask("events", "trace", str(position))][1:] == [
        "TrainingCompleted",
        "BatchReady",
        "FilesScored",
        "FilesExtracted",
        "RepoCloned",
        "RepoAccepted",
        "RepoDiscovered",
        "CrawlSlicesOpened",
        "CrawlRequested",
    ]


async def test_whole_repositories_are_held_out(undisturbed: tuple[Pipeline, str]) -> None:
    """The gate compares on repositories of which no file was in any batch."""
    pipeline, _ = undisturbed
    [model] = pipeline.ask("models", "list")
    trained_on = {one["id"] for one in pipeline.ask("models", "trace", model["id"])["repositories"]}
    connection = await asyncpg.connect(pipeline.url)
    try:
        held_out = {
            row["id"]
            for row in await connection.fetch("select id from repositories where is_held_out(id, $1)", held_out_share())
        }
    finally:
        await connection.close()
    assert len(held_out) == 3
    assert not held_out & trained_on


async def test_a_run_after_a_finished_one_is_idle_within_seconds(undisturbed: tuple[Pipeline, str]) -> None:
    pipeline, _ = undisturbed
    before = await tables(pipeline.url)
    pipeline.finish()
    assert await tables(pipeline.url) == before


KILLED_AFTER = ("RepoDiscovered", "RepoCloned", "FilesExtracted", "TrainingStarted", "TrainingCompleted")


async def test_a_daemon_killed_at_several_stages_ends_with_the_same_tables(
    undisturbed: tuple[Pipeline, str], make_pipeline: Callable[[str], Pipeline], create_database: Callable[[str], Any]
) -> None:
    expected = await tables(undisturbed[0].url)
    pipeline = make_pipeline("killed")
    await create_database(pipeline.url)
    for event in KILLED_AFTER:
        process = pipeline.start()
        await _until(pipeline.url, event, process)
        process.kill()
        process.communicate()
    pipeline.finish()
    assert await tables(pipeline.url) == expected


async def test_a_daemon_told_to_stop_in_training_goes_on_from_there(
    undisturbed: tuple[Pipeline, str], make_pipeline: Callable[[str], Pipeline], create_database: Callable[[str], Any]
) -> None:
    expected = await tables(undisturbed[0].url)
    pipeline = make_pipeline("stopped")
    await create_database(pipeline.url)
    process = pipeline.start()
    await _until(pipeline.url, "TrainingStarted", process)
    process.send_signal(signal.SIGTERM)
    output, _ = process.communicate(timeout=HANGS)
    assert process.returncode == 0, output
    assert "goes on from here" in output
    pipeline.finish()
    assert await tables(pipeline.url) == expected


async def _until(url: str, event: str, process: subprocess.Popen[str]) -> None:
    """Wait until the log has the event, while the daemon runs."""
    connection = await asyncpg.connect(url)
    deadline = time.monotonic() + 300
    try:
        while not await connection.fetchval("select exists (select from events where type = $1)", event):
            assert process.poll() is None, process.communicate()[0]
            assert time.monotonic() < deadline, f"no {event}"
            time.sleep(0.02)
    finally:
        await connection.close()
