"""Checkpoints of a run, which belong to what was trained on what."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterable
from pathlib import Path

from codelupe_trainer.jobs import CHECKPOINTS, BaseIdentity, TrainJob

_STATE = "trainer_state.json"
_OF_A_RUN = {
    *("seed", "system", "formats", "weigh_by_score", "max_length", "packing", "micro_batch", "samples_per_step"),
    *("epochs", "max_steps", "max_validation_files", "quantisation", "gradient_checkpointing", "optimizer"),
    *("learning_rate", "warmup_share", "eval_every", "patience", "lora"),
}
"""The settings with which a checkpoint stands and falls."""


def run_identity(job: TrainJob, base: BaseIdentity, hashes: Iterable[str]) -> str:
    """What a run is: its settings, its base, what is drawn, and the content hashes of its files in their order."""
    digest = hashlib.sha256()
    for content_hash in hashes:
        digest.update(content_hash.encode() + b"\n")
    settings = job.settings.model_dump(mode="json", include=_OF_A_RUN)
    identity = {
        "settings": settings,
        "base": base.model_dump(),
        "draw": job.draw,
        "parent": job.parent and job.parent.name,
        "files": digest.hexdigest(),
    }
    return json.dumps(identity, sort_keys=True)


def last_checkpoint(job: TrainJob, run: str) -> Path | None:
    """The newest whole checkpoint of this run. Others are removed."""
    folder = job.folder / CHECKPOINTS
    made_for = folder / "run.json"
    if not made_for.exists() or made_for.read_text() != run:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        made_for.write_text(run)
    found = sorted(folder.glob("checkpoint-*"), key=lambda path: int(path.name.rpartition("-")[2]))
    whole = [path for path in found if _is_whole(path)]
    for path in set(found) - set(whole):
        shutil.rmtree(path)
    return whole[-1] if whole else None


def _is_whole(checkpoint: Path) -> bool:
    """The trainer writes its state after everything else."""
    try:
        json.loads((checkpoint / _STATE).read_text())
    except (FileNotFoundError, ValueError):
        return False
    return True
