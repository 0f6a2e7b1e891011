"""What an exported model's folder says about it."""

from __future__ import annotations

from pathlib import Path

import pytest

from codelupe_trainer.jobs import Exported, ExportJob
from codelupe_trainer.models.export_folder import copy_adapter, describe
from codelupe_trainer.models.known import flat_figures
from codelupe_trainer.settings import TrainerSettings


@pytest.fixture
def job(tmp_path: Path) -> ExportJob:
    adapter = tmp_path / "m-0001"
    adapter.mkdir()
    for name in ("README.md", "training.json", "provenance.jsonl", "adapter_model.safetensors"):
        (adapter / name).write_text(f"{name} of the adapter")
    return ExportJob(
        settings=TrainerSettings(),
        folder=tmp_path,
        bases=tmp_path,
        trained_on=None,
        adapter=adapter,
        to=tmp_path / "out",
        form="gguf",
    )


def test_the_card_tells_what_was_merged_and_measured_and_the_origin_stays(job: ExportJob) -> None:
    job.to.mkdir()
    (job.to / "m.gguf").touch(mode=0o600)
    losses = {"trained": 1.25, "dequantised": 1.26, "original": 1.5}
    describe(job.to, job, Exported(merged_into="dequantised", samples=3, losses=losses))
    card = (job.to / "README.md").read_text()
    assert "as NF4 holds them" in card
    assert "as a GGUF file" in card
    assert [f"| {loss:.5f} |" in card for loss in losses.values()] == [True] * 3
    assert (job.to / "ADAPTER.md").read_text() == "README.md of the adapter"
    assert (job.to / "provenance.jsonl").read_text() == "provenance.jsonl of the adapter"
    assert {path.name for path in job.to.iterdir()} == {
        *("README.md", "ADAPTER.md", "training.json", "provenance.jsonl", "export.json", "m.gguf")
    }
    assert (job.to / "m.gguf").stat().st_mode == (job.to / "README.md").stat().st_mode


def test_the_card_says_when_nothing_was_measured(job: ExportJob) -> None:
    job.to.mkdir()
    describe(job.to, job, Exported(merged_into="original"))
    assert "not measured" in (job.to / "README.md").read_text()


def test_an_adapter_is_copied_to_a_new_folder_only(job: ExportJob) -> None:
    copy_adapter(job.adapter, job.to)
    assert {path.name for path in job.to.iterdir()} == {path.name for path in job.adapter.iterdir()}
    with pytest.raises(OSError, match="not empty"):
        copy_adapter(job.adapter, job.to)


def test_figures_within_figures_get_names_of_their_own() -> None:
    nested = {"loss": 1, "is_good": True, "by": {"Go": {"loss": 2.5}, "note": "x"}}
    assert flat_figures(nested) == {"loss": 1, "by.Go.loss": 2.5}
