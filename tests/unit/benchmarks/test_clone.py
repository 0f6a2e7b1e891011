"""The benchmark of clones makes every clone both ways, and says by how much the rates differ."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.clone.__main__ import report
from benchmarks.clone.race import Lap, race


@pytest.mark.anyio
async def test_both_ways_make_every_clone(open_directory: Path) -> None:
    folder = open_directory / "bench-clone"
    folder.mkdir(mode=0o755)
    [(bare, ours)] = await race(folder, count=3, rounds=1)
    assert (bare.clones, ours.clones) == (3, 3)
    assert report([(bare, ours)])[-1].startswith("ratio: ")


def test_the_ratio_is_the_median_of_all_rounds() -> None:
    def lap(seconds: float) -> Lap:
        return Lap(name="", clones=10, wall_seconds=seconds, cpu_seconds=1)

    assert report([(lap(1), lap(1)), (lap(1), lap(2)), (lap(1), lap(4))])[-1] == "ratio: 0.50"
