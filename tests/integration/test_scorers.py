"""The scorers in a real daemon on a real Postgres, behind the real filters."""

from __future__ import annotations

import types
from collections.abc import Iterable
from pathlib import Path
from typing import Any, TypeVar

import pytest

import codelupe_filters
import codelupe_scorers
from codelupe import Database, Score, Scorer, SourceFile, hookimpl
from codelupe_events import Event, FilesExtracted, FilesScored, RepoCloned, RepoDiscovered, TaskDeadLettered
from codelupe_scorers.settings import ScorersSettings
from tests.conftest import RunUntilIdle
from tests.git_server import make_repository
from tests.unit.codelupe_scorers.samples import SAMPLES

pytestmark = pytest.mark.anyio

E = TypeVar("E", bound=Event)

FILTERS: dict[str, object] = {"filters": codelupe_filters}
BOTH: dict[str, object] = FILTERS | {"scorers": codelupe_scorers}
OPEN: dict[str, dict[str, Any]] = {
    "filters": {"min_stars": 0, "min_forks": 0, "min_score": 0, "unknown_licence": "accept"}
}
NAMES = {scorer.name for scorer in codelupe_scorers.codelupe_scorers(ScorersSettings())}


def of_type(events: Iterable[Event], kind: type[E]) -> list[E]:
    return [event for event in events if isinstance(event, kind)]


@pytest.fixture
def clones(tmp_path: Path) -> Path:
    """The folder in which the daemon expects clones."""
    folder = tmp_path / "state" / "repos"
    folder.mkdir(parents=True)
    return folder


async def run(
    run_until_idle: RunUntilIdle, clones: Path, files: dict[str, bytes], plugins: dict[str, object] = BOTH
) -> list[Event]:
    """Discovers and clones a repository of these files, and returns the log."""
    discovered = RepoDiscovered(repository_id="test:r", source="test", full_name="owner/r", url="u", revision="1")
    await run_until_idle(plugins, OPEN, [discovered])
    commit = make_repository(clones / "r", files).head.commit.hexsha
    cloned = RepoCloned(repository_id="test:r", commit=commit, path="r", size_bytes=1, seconds=0.1)
    return await run_until_idle(plugins, OPEN, [cloned])


async def scores(database: Database) -> dict[str, Any]:
    rows = await database.fetch("select * from processed_files where content is not null")
    return {row["file_path"]: row for row in rows}


async def test_every_stored_file_has_a_score_with_its_reasons(
    run_until_idle: RunUntilIdle, database: Database, clones: Path
) -> None:
    files = {path: content.encode() for path, content in SAMPLES.values()}
    table = b"ROWS = [\n" + b"    (1, 2, 'three words here'),\n" * 60 + b"]\n"
    events = await run(run_until_idle, clones, files | {"table.py": table, "notes.txt": b"not scored\n"})
    rows = await scores(database)
    assert set(rows) == {*files, "table.py"}
    for row in rows.values():
        dimensions = row["scores"]
        assert set(dimensions) == NAMES
        applied = [one for one in dimensions.values() if one["value"] is not None]
        mean = sum(one["value"] * one["weight"] for one in applied) / sum(one["weight"] for one in applied)
        assert row["quality_score"] == pytest.approx(mean, abs=0.01)
        assert all(one["version"] >= 1 and one["reasons"] for one in applied)
        assert row["scored_at"] is not None
    assert all(row["quality_score"] >= 70 for path, row in rows.items() if path != "table.py")
    assert rows["table.py"]["quality_score"] < 40

    [scored] = of_type(events, FilesScored)
    assert scored.scored == len(rows)
    assert scored.mean_score == pytest.approx(sum(row["quality_score"] for row in rows.values()) / len(rows), abs=0.01)
    refused = await database.fetchrow("select * from processed_files where content is null")
    assert refused is not None
    assert (refused["scores"], refused["quality_score"], refused["scored_at"]) == (None, None, None)
    assert await database.fetchval("select state from repositories") == "scored"


async def test_many_files_are_scored_in_chunks(run_until_idle: RunUntilIdle, database: Database, clones: Path) -> None:
    files = {f"m{n}.py": f"def f{n}(value):\n    return value + {n}\n".encode() for n in range(230)}
    [scored] = of_type(await run(run_until_idle, clones, files), FilesScored)
    assert scored.scored == 230
    assert all(row["quality_score"] is not None for row in (await scores(database)).values())


async def test_a_repository_without_stored_files_is_scored_too(
    run_until_idle: RunUntilIdle, database: Database, clones: Path
) -> None:
    [scored] = of_type(await run(run_until_idle, clones, {"notes.txt": b"words\n"}), FilesScored)
    assert (scored.scored, scored.mean_score) == (0, 0)
    assert await database.fetchval("select state from repositories") == "scored"


class Shortness:
    """A scorer of another plugin, at home where worker processes can import it."""

    name = "shortness"

    def __init__(self, version: int, value: float) -> None:
        self.version = version
        self.weight = 10.0
        self._value = value

    def score(self, file: SourceFile) -> Score | None:
        return Score(value=self._value, reasons=(f"{len(file.content)} characters",)) if file.language else None


def offering(scorer: Scorer) -> object:
    plugin = types.SimpleNamespace()

    @hookimpl
    def codelupe_scorers() -> list[Scorer]:
        return [scorer]

    plugin.codelupe_scorers = codelupe_scorers
    return plugin


async def test_scorers_of_other_plugins_count_too_and_a_new_version_scores_again(
    run_until_idle: RunUntilIdle, database: Database, clones: Path
) -> None:
    files = {"a.py": SAMPLES["Python"][1].encode(), "b.go": SAMPLES["Go"][1].encode()}
    events = await run(run_until_idle, clones, files, BOTH | {"other": offering(Shortness(1, 0))})
    [extracted] = of_type(events, FilesExtracted)
    before = await scores(database)
    assert all(set(row["scores"]) == NAMES | {"shortness"} for row in before.values())
    assert all(row["quality_score"] <= 50 for row in before.values())

    await run_until_idle(BOTH | {"other": offering(Shortness(1, 99))}, OPEN, [extracted])
    assert await scores(database) == before
    events = await run_until_idle(BOTH | {"other": offering(Shortness(2, 100))}, OPEN, [extracted])
    after = await scores(database)
    assert all(after[path]["quality_score"] > before[path]["quality_score"] + 40 for path in files)
    assert all(row["scores"]["shortness"]["version"] == 2 for row in after.values())
    assert [event.scored for event in of_type(events, FilesScored)] == [2, 2, 2]


async def test_hostile_contents_are_scored_within_bounds(
    run_until_idle: RunUntilIdle, database: Database, clones: Path
) -> None:
    files = {
        "brackets.py": b"x = " + b"((((((((\n" * 9000,
        "blocks.js": b"if(a){ word();\n" * 20_000,
        "members.dart": b"word.\n" * 40_000,
        "words.rs": b"fn word() {}\n" * 15_000,
        "control.go": "package a // \x01\x02\x7f\u2028\u202e\n".encode() * 10,
    }
    events = await run(run_until_idle, clones, files)
    assert not of_type(events, TaskDeadLettered)
    rows = await scores(database)
    assert set(rows) == set(files) - {"brackets.py"}  # hardly a letter in it
    assert all(0 <= row["quality_score"] < 70 for row in rows.values())
