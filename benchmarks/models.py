"""Small models, trained and measured by the product's own child process; what is there already is not made again."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.progress import Progress

import codelupe_trainer
from benchmarks.training_files import write_job_files
from codelupe import Evaluator
from codelupe_trainer.exports import read_files
from codelupe_trainer.gate.measurements import Key, Measurement, measurement_path, read_measurements
from codelupe_trainer.jobs import ADAPTER, FILES, Activity, MeasureJob, OnReport, Step, TrainJob, pack
from codelupe_trainer.process import run_child
from codelupe_trainer.samples.files import CodeFile
from codelupe_trainer.settings import TrainerSettings

BASES = Path(".codelupe/benchmark-bases").absolute()


class ModelFolder:
    """Trains into a folder, and measures what was trained there."""

    def __init__(self, folder: Path, progress: Progress) -> None:
        self._folder = folder.absolute()
        self._progress = progress

    async def train(
        self,
        name: str,
        settings: Mapping[str, Any],
        training: Sequence[CodeFile],
        validation: Sequence[CodeFile],
        parent: Path | None = None,
    ) -> Path:
        """The adapter's folder; trained only if it was not by an earlier call with the same arguments."""
        folder = self._folder / name
        known = {"settings": settings, "parent": str(parent), "files": _hash((*training, *validation))}
        note = folder / "made-of.json"
        if not (folder / ADAPTER).exists() or json.loads(note.read_text()) != known:
            shutil.rmtree(folder, ignore_errors=True)
            write_job_files(folder, training, validation)
            note.write_text(json.dumps(known))
            job = TrainJob(
                settings=TrainerSettings.model_validate(settings),
                folder=folder,
                bases=BASES,
                draw=f"1/{settings.get('seed', 42)}",
                formats=pack(codelupe_trainer.codelupe_sample_formats()),
                parent=parent,
            )
            await run_child(job, self._shown(f"train {name}"))
        return folder / ADAPTER

    async def measure(
        self,
        models: Mapping[str, Path | None],
        settings: Mapping[str, Any],
        held_out: Sequence[CodeFile],
        evaluators: Iterable[Evaluator],
    ) -> dict[str, dict[Key, Measurement]]:
        """What is known of each model, by its name."""
        folder = self._folder / "measured"
        if not folder.exists() or list(read_files(folder / FILES)) != list(held_out):
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(parents=True)
            (folder / FILES).write_text("".join(f"{one.model_dump_json()}\n" for one in held_out), encoding="utf-8")
        for name, adapter in models.items():
            job = MeasureJob(
                settings=TrainerSettings.model_validate(settings),
                folder=folder,
                bases=BASES,
                models={name: adapter},
                evaluators=pack(evaluators),
            )
            await run_child(job, self._shown(f"measure {name}"))
        return {name: read_measurements(measurement_path(folder, name)) for name in models}

    def _shown(self, what: str) -> OnReport:
        task = self._progress.add_task(what, total=None)

        def show(report: Activity | Step) -> None:
            if isinstance(report, Step):
                self._progress.update(task, completed=report.done, total=report.total)

        return show


def _hash(files: Iterable[CodeFile]) -> str:
    return hashlib.sha256("".join(file.model_dump_json() for file in files).encode()).hexdigest()
