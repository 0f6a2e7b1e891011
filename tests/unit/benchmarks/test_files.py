"""The benchmark of files counts what went in and what came out, whole and step by step."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from benchmarks.files.__main__ import report
from benchmarks.files.pipeline import find_clones, measure
from benchmarks.files.steps import measure_steps

GOOD = 'def double(number: int) -> int:\n    """Twice the number."""\n    return 2 * number\n'
LICENCE = Path(__file__).parents[3] / "LICENSE"


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    for name in ("one", "deep/two"):
        root = tmp_path / "tree" / name
        root.mkdir(parents=True)
        (root / "LICENSE").write_text(LICENCE.read_text())
        (root / "good.py").write_text(f"# {name}\n{GOOD}")
        (root / "data.bin").write_bytes(b"\0" * 100)
        run = ["git", "-c", "user.name=x", "-c", "user.email=x@example.org", "-C", str(root)]
        for arguments in (["init", "--quiet"], ["add", "."], ["commit", "--quiet", "--message", "x"]):
            subprocess.run([*run, *arguments], check=True)
    return tmp_path / "tree"


@pytest.mark.anyio
async def test_what_went_in_comes_out_and_is_counted(tree: Path, open_directory: Path) -> None:
    folder = open_directory / "bench-files"
    folder.mkdir(mode=0o755)
    clones = find_clones(tree)
    passage = await measure(tree, clones, folder)
    assert (passage.repositories, passage.files) == (2, 6)
    assert passage.outcomes == {"stored": 2, "binary": 2, "language": 2}
    assert passage.scored == 2
    assert passage.bytes == sum(
        file.stat().st_size for file in tree.rglob("*") if file.is_file() and ".git" not in file.parts
    )
    assert 0 < passage.postgres_cpu_seconds < passage.cpu_seconds
    assert passage.peak_memory_bytes > 10_000_000
    steps = measure_steps(tree, clones, folder)
    seen = {step.name: step.files for step in steps}
    assert (seen["walk"], seen["decode"], seen["language"], seen["parse"], seen["score: naming"]) == (6, 6, 4, 2, 2)
    lines = report(passage, steps)
    assert any("2 scored" in line for line in lines)
    assert sum(line.startswith("| ") for line in lines) == len(steps) + 4, "a header, its rule, Postgres and the rest"


def test_of_many_clones_the_first_are_taken(tree: Path) -> None:
    assert [clone.path for clone in find_clones(tree, 1)] == ["deep/two"]


def test_a_folder_without_clones_is_named(tmp_path: Path) -> None:
    with pytest.raises(LookupError, match=str(tmp_path)):
        find_clones(tmp_path)
