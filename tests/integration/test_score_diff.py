"""Files are scored anew without another clone, and `codelupe scores diff` compares."""

from __future__ import annotations

import shutil
import types
from pathlib import Path
from typing import Any

import pytest

import codelupe_filters
import codelupe_scorers
from codelupe import Database, Score, Scorer, SourceFile, hookimpl
from codelupe_events import RepoCloned, RepoDiscovered
from tests.conftest import RunUntilIdle
from tests.git_server import make_repository
from tests.integration.stored_files import SCORES, add_file, add_repository
from tests.integration.test_cli import Shell
from tests.unit.codelupe_scorers.samples import SAMPLES

pytestmark = pytest.mark.anyio

BOTH: dict[str, object] = {"filters": codelupe_filters, "scorers": codelupe_scorers}
SETTINGS = {"filters": {"min_stars": 0, "min_forks": 0, "min_score": 0}}


@pytest.fixture
def shell(tmp_path: Path, database_url: str) -> Shell:
    return Shell(tmp_path, CODELUPE_DATABASE_URL=database_url)


class Fixed:
    """A scorer that gives every file the same; at home where worker processes can import it."""

    name = "fixed"
    weight = 100.0

    def __init__(self, version: int, value: float) -> None:
        self.version = version
        self._value = value

    def score(self, file: SourceFile) -> Score | None:
        return Score(value=self._value, reasons=(f"as version {self.version} has it",)) if file.content else None


def plugins(scorer: Scorer) -> dict[str, object]:
    other = types.SimpleNamespace()

    @hookimpl
    def codelupe_scorers() -> list[Scorer]:
        return [scorer]

    other.codelupe_scorers = codelupe_scorers
    return BOTH | {"other": other}


async def diff(shell: Shell, *arguments: str) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """The dimensions by name, and the largest changes."""
    found = (await shell("scores", "diff", "--json", *arguments)).json()
    return {one["dimension"]: one for one in found["dimensions"]}, found["largest"]["files"]


@pytest.mark.slow
async def test_a_new_version_scores_stored_files_again_without_their_clone(
    shell: Shell, run_until_idle: RunUntilIdle, database: Database, tmp_path: Path
) -> None:
    clone = tmp_path / "state" / "repos" / "r"
    clone.parent.mkdir(parents=True)
    files = {f"a.{suffix}": SAMPLES[name][1].encode() for suffix, name in (("py", "Python"), ("go", "Go"))}
    commit = make_repository(clone, files).head.commit.hexsha
    await run_until_idle(
        plugins(Fixed(1, 0)),
        SETTINGS,
        [
            RepoDiscovered(
                repository_id="test:r", source="test", full_name="owner/r", url="u", revision="1", licence="MIT"
            )
        ],
    )
    cloned = RepoCloned(repository_id="test:r", commit=commit, path="r", size_bytes=1, seconds=0.1)
    events = await run_until_idle(plugins(Fixed(1, 0)), SETTINGS, [cloned])
    assert (await shell("scores", "diff")).out == "No file was scored anew.\n"
    before = {row["id"]: row["quality_score"] for row in await database.fetch("select * from processed_files")}
    assert len(before) == 2
    assert max(before.values()) < 10

    shutil.rmtree(clone)
    assert (await shell("replay", "scorers", "--yes")).code == 0
    assert await run_until_idle(plugins(Fixed(2, 100)), SETTINGS) == events, "the log tells of it once"
    dimensions, largest = await diff(shell)
    fixed, total = dimensions["fixed"], dimensions["total"]
    assert (fixed["version_before"], fixed["version_after"], fixed["files_after"]) == (1, 2, 2)
    assert (fixed["mean_before"], fixed["mean_after"], fixed["up"], fixed["down"]) == (0, 100, 2, 0)
    assert total["mean_before"] == pytest.approx(sum(before.values()) / 2)
    assert (total["up"], total["down"]) == (2, 0)
    assert {file["id"]: file["before"] for file in largest} == pytest.approx(before)
    after = {row["id"]: row["quality_score"] for row in await database.fetch("select * from processed_files")}
    assert {file["id"]: file["after"] for file in largest} == pytest.approx(after)

    assert (await shell("replay", "scorers", "--yes")).code == 0
    await run_until_idle(plugins(Fixed(2, 100)), SETTINGS)
    assert (await diff(shell))[0]["fixed"]["mean_before"] == 0, "scoring that changes nothing forgets nothing"
    assert (await shell("replay", "scorers", "--yes")).code == 0
    await run_until_idle(plugins(Fixed(3, 50)), SETTINGS)
    fixed = (await diff(shell, "--dimension", "fixed"))[0]["fixed"]
    assert (fixed["version_before"], fixed["version_after"], fixed["mean_before"], fixed["mean_after"]) == (
        2,
        3,
        100,
        50,
    )


def changed(before: float, after: float) -> dict[str, Any]:
    """The columns of a file whose dimension ``structure`` has changed so."""
    old = {"structure": SCORES["structure"] | {"value": before}, "gone": SCORES["repetition"]}
    new = {"structure": SCORES["structure"] | {"value": after, "version": 2}, "new": SCORES["repetition"]}
    return {"previous_scores": old, "previous_quality": before, "scores": new, "quality_score": after}


async def test_each_dimension_tells_its_means_and_who_crossed_the_threshold(shell: Shell, database: Database) -> None:
    one, other = await add_repository(database, "owner/one"), await add_repository(database, "owner/other")
    up = await add_file(database, one, "up.py", **changed(40.0, 75.0))
    down = await add_file(database, one, "down.py", **changed(70.0, 65.0))
    await add_file(database, one, "same.py", **changed(90.0, 90.0))
    away = await add_file(database, other, "away.py", **changed(10.0, 20.0))
    await add_file(database, one, "once.py")

    dimensions, largest = await diff(shell)
    structure = dimensions["structure"]
    assert (structure["mean_before"], structure["mean_after"]) == (52.5, 62.5)
    assert (structure["up"], structure["down"], structure["files_after"]) == (1, 1, 4)
    assert (dimensions["new"]["mean_before"], dimensions["new"]["files_before"]) == (None, 0)
    assert (dimensions["gone"]["mean_after"], dimensions["gone"]["files_after"]) == (None, 0)
    assert [(file["id"], file["before"], file["after"]) for file in largest] == [
        (up, 40, 75),
        (away, 10, 20),
        (down, 70, 65),
    ]
    dimensions, largest = await diff(shell, "--repository", "owner/other", "--threshold", "15")
    assert (dimensions["total"]["up"], [file["id"] for file in largest]) == (1, [away])
    dimensions, largest = await diff(shell, "--dimension", "structure", "--largest", "1")
    assert (list(dimensions), [file["id"] for file in largest]) == (["structure"], [up])

    told = (await shell("scores", "diff")).out
    for word in ("structure", "1 to 2", "52.5", "62.5", "up to 70", "largest changes (total)", "up.py"):
        assert word in told, word
    (await shell("scores", "diff", "--dimension", "beauty")).failed(1, "no dimension 'beauty'", "structure", "total")
