"""The short form of ``make bench-learning``: what is learned from some packages helps with others, never seen."""

from __future__ import annotations

from pathlib import Path

import pytest
from rich.console import Console
from rich.progress import Progress

from benchmarks import models
from benchmarks.learning.__main__ import Domain, learn
from codelupe_trainer.gate.rule import Limits

pytestmark = [pytest.mark.anyio, pytest.mark.slow, pytest.mark.timeout(900), pytest.mark.xdist_group("trainer")]

DOMAINS = (
    Domain("text", ("rich",), ("pluggy", "typer")),
    Domain("network", ("aiohttp",), ("h11", "requests")),
)
FEW = Limits(min_groups=2, min_windows=4)


async def test_each_promoted_model_needs_fewer_bits_on_packages_never_seen(
    base_models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(models, "BASES", base_models)
    with Progress(console=Console(quiet=True)) as progress:
        folder = models.ModelFolder(tmp_path, progress)
        rows = await learn(folder, DOMAINS, files=24, steps=4, windows=4, limits=FEW)
    assert [row.model for row in rows] == ["base", "text", "network, with replay", "text", "network, without"]
    base, first, *_ = rows
    assert first.bits_per_byte["all"] < base.bits_per_byte["all"]
    assert first.bits_per_byte["chat"] < base.bits_per_byte["chat"]
    in_use = base
    for row in rows[1:3]:
        if row.outcome == "promoted":
            assert row.bits_per_byte["all"] < in_use.bits_per_byte["all"]
            in_use = row
    assert rows[3].bits_per_byte == first.bits_per_byte, "the same model, not trained twice"
