"""The whole daemon, as its users start it, on real packages and the real small model.

The undisturbed run is made once; other runs of the same input, killed, stopped and started again, must end with the
same tables.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from hashlib import md5
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from tests.processes import HANGS

pytestmark = [pytest.mark.anyio, pytest.mark.slow, pytest.mark.timeout(600), pytest.mark.xdist_group("pipeline")]

PACKAGES = ("rich", "pluggy", "structlog", "anyio", "packaging", "typer", "pydantic_settings", "git", "mypy_extensions")
SETTINGS = """
lease_seconds = 4
drain_seconds = 1

[plugins.crawler]
installed_packages = false

[plugins.trainer]
min_files = 20
max_steps = 4
batch_size = 2
max_length = 128
held_out_share = {held_out_share}
eval_every = 2
max_validation_files = 2
threads = 1

[plugins.trainer.gate]
max_files = 4
generations = 2
generated_tokens = 8
"""


@dataclass(frozen=True)
class Pipeline:
    """A daemon's settings, state and database."""

    state: Path
    config: Path
    url: str

    def command(self, *arguments: str) -> list[str]:
        return [sys.executable, "-m", "codelupe", *arguments, "--profile", "demo", "--config", str(self.config)]

    @property
    def environment(self) -> dict[str, str]:
        return {**os.environ, "CODELUPE_STATE_DIR": str(self.state), "CODELUPE_DATABASE_URL": self.url}

    def start(self) -> subprocess.Popen[str]:
        sources = [argument for path in source_folders() for argument in ("--source", str(path))]
        return subprocess.Popen(
            self.command("run", "--until-idle", *sources),
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def finish(self) -> str:
        """Run until idle; returns what it printed."""
        process = self.start()
        output, _ = process.communicate(timeout=400)
        assert process.returncode == 0, output
        return output

    def ask(self, *arguments: str) -> Any:
        """The JSON that a reading command prints."""
        output = subprocess.check_output(self.command(*arguments, "--json"), env=self.environment, text=True)
        return json.loads(output)


def held_out_share() -> float:
    """What holds out three of the packages. Their ids are paths, so any fixed share may hold out none somewhere."""
    hashes = sorted(int(md5(f"local:{folder}".encode()).hexdigest()[:8], 16) for folder in source_folders())
    return (hashes[2] + hashes[3]) / 2 / 2**32


def source_folders() -> list[Path]:
    """Real packages, as folders that are no git repositories."""
    folders = []
    for name in PACKAGES:
        spec = find_spec(name)
        if spec is not None and spec.submodule_search_locations:
            folders.append(Path(spec.submodule_search_locations[0]))
    assert len(folders) >= 7
    return folders


async def tables(url: str) -> dict[str, Any]:
    """What a run leaves but for what may rightly differ: numbers, times, and which copy of a duplicate came first."""
    connection = await asyncpg.connect(url)
    try:
        rows = await connection.fetch("select type, stream, data from events order by position")
        files = await connection.fetch(
            "select encode(content_hash, 'hex') as hash, quality_score::float as score from processed_files"
            " where content is not null"
        )
        looked_at = await connection.fetch("select repository_id, commit, file_path from processed_files")
        batch = await connection.fetch(
            "select batch_id, split, encode(content_hash, 'hex') as hash from batch_files"
            " join processed_files on processed_files.id = file_id"
        )
        models = await connection.fetch("select id, state, batch_id, base, path, steps, samples from models")
        repositories = await connection.fetch("select id, state, commit, path, score::float from repositories")
        left = await connection.fetchval("select count(*) from tasks")
    finally:
        await connection.close()
    return {
        "events": Counter((row["type"], row["stream"]) for row in rows),
        "files": {(row["hash"], row["score"]) for row in files},
        "looked_at": {tuple(row) for row in looked_at},
        "batch": {tuple(row) for row in batch},
        "models": {tuple(row) for row in models},
        "repositories": {tuple(row) for row in repositories},
        "tasks": left,
    }


@pytest.fixture(scope="module")
def make_pipeline(
    postgres_url: str, base_models: Path, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str], Pipeline]:
    """Builds a pipeline with a database of its own; they share the converted base model, which is the same for all."""

    def make(name: str) -> Pipeline:
        folder = tmp_path_factory.mktemp(name)
        (folder / "state" / "models").mkdir(parents=True)
        (folder / "state" / "models" / "base").symlink_to(base_models, target_is_directory=True)
        config = folder / "codelupe.toml"
        config.write_text(SETTINGS.format(held_out_share=held_out_share()))
        return Pipeline(folder / "state", config, postgres_url.replace("/codelupe?", f"/{name}?"))

    return make


@pytest.fixture(scope="module")
async def create_database(postgres_url: str, anyio_backend: str) -> Callable[[str], Any]:
    async def create(url: str) -> None:
        administration = await asyncpg.connect(postgres_url.replace("/codelupe?", "/postgres?"))
        try:
            name = url.partition("?")[0].rpartition("/")[2]
            await administration.execute(f"create database {name} template codelupe")
        finally:
            await administration.close()

    return create


@pytest.fixture(scope="module")
async def undisturbed(
    make_pipeline: Callable[[str], Pipeline], create_database: Callable[[str], Any]
) -> tuple[Pipeline, str]:
    """A pipeline that ran once from beginning to end, and what it printed."""
    pipeline = make_pipeline("undisturbed")
    await create_database(pipeline.url)
    return pipeline, pipeline.finish()


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
    assert all(1 < model["losses"][name] < 6 for name in ("train", "validation", "current", "candidate"))
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


async def test_the_verdict_on_a_model_leads_back_to_the_discovery_of_a_repository(
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
