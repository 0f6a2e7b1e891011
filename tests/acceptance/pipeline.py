"""The whole daemon, as its users start it, on real packages and the real small model."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass
from hashlib import md5
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import asyncpg

PACKAGES = ("rich", "pluggy", "structlog", "anyio", "packaging", "typer", "pydantic_settings", "git", "mypy_extensions")
LEASE_SECONDS = 4
SETTINGS = """
lease_seconds = {lease_seconds}
drain_seconds = 1

[plugins.crawler]
installed_packages = false

[plugins.trainer]
min_files = 20
max_steps = 4
samples_per_step = 2
max_length = 128
held_out_share = {held_out_share}
eval_every = 2
max_validation_files = 2
threads = 1

[plugins.trainer.gate]
min_groups = 1
min_windows = 2
max_files = 4
window_bytes = 512
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

    def run_command(self, *options: str) -> list[str]:
        sources = [argument for path in source_folders() for argument in ("--source", str(path))]
        return self.command("run", *options, *sources)

    def start(self) -> subprocess.Popen[str]:
        return subprocess.Popen(
            self.run_command("--until-idle"),
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


async def tables(url: str, besides: Collection[str] = ()) -> dict[str, Any]:
    """What a run leaves but for what may rightly differ: numbers, times, which copy of a duplicate came first, and how
    often it was crawled.

    Events and tasks of the plugins ``besides`` are left out.
    """
    connection = await asyncpg.connect(url)
    try:
        rows = await connection.fetch(
            "select type, stream, data from events where split_part(coalesce(metadata ->> 'by', ''), '.', 1) <> all($1)"
            " and not starts_with(stream, 'crawl/') order by position",
            besides,
        )
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
        left = await connection.fetchval(
            "select count(*) from tasks where split_part(subscription, '.', 1) <> all($1)", besides
        )
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
