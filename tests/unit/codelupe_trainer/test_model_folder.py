from __future__ import annotations

import json
from pathlib import Path

import pytest

from codelupe_events import Reason
from codelupe_trainer import model_folder
from codelupe_trainer.gate.rule import Decision
from codelupe_trainer.records import Comparison, EvaluationSet, ModelRecord, RepositoryShare
from codelupe_trainer.samples.files import CodeFile
from codelupe_trainer.settings import TrainerSettings
from tests.training import BASE, TOTALS


def record(**changes: object) -> ModelRecord:
    values = {
        "model_id": "base-0001",
        "key": "b5b1d1e6-2a5c-5a53-9d5c-6c1d2f6a7e11",
        "batch_id": 1,
        "settings": TrainerSettings(base="org/base"),
        "base": BASE,
        "totals": TOTALS,
        "rows_per_step": 3,
        "steps": 3,
        "samples": 12,
        "validation_samples": 1,
        "unused_files": 2,
        "train_loss": 2.25,
        "validation_loss": 2.0,
        "stopped_early": False,
        "seconds": 61.0,
    }
    return ModelRecord.model_validate(values | changes)


def code_file(path: str, *, repository: str = "local/one", licence: str | None = "MIT") -> CodeFile:
    return CodeFile(
        repository_id=repository.replace("/", ":"),
        repository=repository,
        commit="c0ffee",
        licence=licence,
        path=path,
        language="Python",
        content_hash="0a",
        split="train",
        content="secret = 1",
    )


FILES = [code_file("a\nb.py"), code_file("c.py"), code_file("d.py", repository="local/t|w_o", licence=None)]


@pytest.fixture
def adapter(tmp_path: Path) -> Path:
    folder = tmp_path / "adapter"
    folder.mkdir()
    (folder / "adapter_model.safetensors").write_bytes(b"weights")
    (folder / "README.md").write_text("somebody else's")
    return folder


@pytest.fixture
def folder(tmp_path: Path, adapter: Path) -> Path:
    folder = tmp_path / "base-0001"
    model_folder.publish(folder, adapter, record(), FILES)
    return folder


def test_a_folder_holds_weights_card_record_and_provenance(folder: Path) -> None:
    assert {path.name for path in folder.iterdir()} == {
        "README.md",
        "adapter_model.safetensors",
        "provenance.jsonl",
        "training.json",
    }
    rows = [json.loads(line) for line in (folder / "provenance.jsonl").read_text().splitlines()]
    assert rows[0] == {
        "repository_id": "local:one",
        "repository": "local/one",
        "commit": "c0ffee",
        "licence": "MIT",
        "path": "a\nb.py",
        "content_hash": "0a",
        "split": "train",
    }
    assert len(rows) == 3


def test_the_record_counts_what_was_used_and_can_be_read_back(folder: Path) -> None:
    read = model_folder.read_record(folder)
    assert read is not None
    assert read.licences == {"MIT": 2, "unknown": 1}
    assert read.languages == {"Python": 3}
    assert read.repositories == [
        RepositoryShare(id="local:one", name="local/one", commit="c0ffee", files=2),
        RepositoryShare(id="local:t|w_o", name="local/t|w_o", commit="c0ffee", files=1),
    ]


def test_no_folder_no_record(tmp_path: Path) -> None:
    assert model_folder.read_record(tmp_path / "nowhere") is None


def test_a_broken_attempt_leaves_no_folder_and_does_not_hinder_the_next(tmp_path: Path, adapter: Path) -> None:
    folder = tmp_path / "base-0002"

    def breaking() -> object:
        yield FILES[0]
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        model_folder.publish(folder, adapter, record(), breaking())  # type: ignore[arg-type]
    assert model_folder.read_record(folder) is None
    assert not folder.exists()
    model_folder.publish(folder, adapter, record(), FILES)
    assert (folder / "README.md").exists()


def test_the_comparison_goes_into_the_card_and_nothing_else_changes(folder: Path) -> None:
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    reasons = (Reason(rule="gain-plain", detail="not better"),)
    comparison = Comparison(
        current="base",
        decision=Decision(outcome="rejected", reasons=reasons, table=(), anchors={}),
        metrics={},
        evaluation_set=EvaluationSet(version=1, hash="e" * 64, groups=20, windows=200),
    )
    model_folder.add_comparison(folder, comparison, ["{}"])
    after = {path.name: path.read_bytes() for path in folder.iterdir()}
    assert {name for name in after if after[name] != before.get(name)} == {"README.md", "evaluation.jsonl"}
    assert after["evaluation.jsonl"] == b"{}\n"
    assert "gain-plain: not better" in after["README.md"].decode()


def test_the_link_moves_to_the_newer_model(tmp_path: Path) -> None:
    link = tmp_path / "current"
    for name in ("one", "two", "two"):
        (tmp_path / name).mkdir(exist_ok=True)
        model_folder.point_to(link, tmp_path / name)
        assert link.resolve() == (tmp_path / name).resolve()
        assert not link.readlink().is_absolute()
