"""``make bench-learning-rate``: SmolLM2 at several rates, by its loss on packages that it is not trained on.

The product's own training runs, as for a batch. With ``alpha / rank`` fixed, the best rate of a LoRA adapter hardly
depends on the size of the base (Thinking Machines, "LoRA Without Regret", 2025): so a small base tells the rate of a
large one's profile. What it cannot tell is how the best rate moves with the number of steps.
"""

from __future__ import annotations

import argparse
import json
import math
import tempfile
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

import anyio
from rich.console import Console
from rich.progress import Progress, TaskID

import codelupe_trainer
from benchmarks.machine import describe_machine, describe_packages
from benchmarks.training_files import package_files, write_job_files
from codelupe_trainer.jobs import Activity, Step, Trained, TrainJob, pack
from codelupe_trainer.process import run_child
from codelupe_trainer.settings import TrainerSettings

_TRAINING = ("rich", "structlog", "anyio", "typer", "packaging", "jinja2", "pydantic_settings", "attr")
_VALIDATION = ("pluggy", "git", "markdown_it")
_RATES = (1e-5, 3e-5, 1e-4, 3e-4, 1e-3)
_STEPS = 20
_BASES = Path(".codelupe/benchmark-bases")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.learning_rate", description=__doc__)
    parser.add_argument("--rank", type=int, default=256, help="of the adapter; alpha is twice as much (%(default)s)")
    parser.add_argument("--rates", type=float, nargs="+", default=_RATES)
    parser.add_argument("--steps", type=int, default=_STEPS, help="of four samples each (%(default)s)")
    parser.add_argument("--json", type=Path, help="write the figures there")
    arguments = parser.parse_args()
    rows = []
    with Progress(console=Console(stderr=True)) as progress:
        for rate in progress.track(arguments.rates, description="rates"):
            task = progress.add_task(f"{rate:g}", total=arguments.steps)
            trained = anyio.run(partial(_train, rate, arguments.rank, arguments.steps, progress, task))
            rows.append({"rate": rate, "training loss": trained.train_loss, "validation loss": trained.validation_loss})
    if arguments.json:
        arguments.json.write_text(json.dumps(rows, indent=2) + "\n", encoding="utf-8")
    print(describe_machine())
    print(describe_packages("torch", "transformers", "peft", "trl"))
    print(f"- rank {arguments.rank}, alpha {2 * arguments.rank}, {arguments.steps} steps of four samples\n")
    print(_table(rows))


async def _train(rate: float, rank: int, steps: int, progress: Progress, task: TaskID) -> Trained:
    settings = TrainerSettings.model_validate(
        {
            "profile": "smollm2-135m-cpu",
            "learning_rate": rate,
            "samples_per_step": 4,
            "max_steps": steps,
            "eval_every": math.ceil(steps / 4),
            "max_validation_files": 24,
            "patience": 100,
            "lora": {"rank": rank, "alpha": 2 * rank, "dropout": 0},
        }
    )

    def show(report: Activity | Step) -> None:
        if isinstance(report, Step):
            progress.update(task, completed=report.done, total=report.total)

    with tempfile.TemporaryDirectory(prefix="codelupe-rates-") as folder:
        training, validation = (
            [file for package in packages for file in package_files(package)] for packages in (_TRAINING, _VALIDATION)
        )
        write_job_files(Path(folder), training, validation)
        result = await run_child(
            TrainJob(
                settings=settings,
                folder=Path(folder),
                bases=_BASES.absolute(),
                draw="1/42",
                formats=pack(codelupe_trainer.codelupe_sample_formats()),
            ),
            show,
        )
    assert isinstance(result, Trained)
    return result


def _table(rows: Sequence[Mapping[str, float]]) -> str:
    lines = [list(rows[0]), ["---"] * len(rows[0])]
    lines += [[f"{row['rate']:g}", *(f"{row[name]:.4f}" for name in list(row)[1:])] for row in rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


if __name__ == "__main__":
    main()
