"""A training that is stopped at random moments ends with the bytes of one that was left alone.

Six moments for each model; ``make chaos-training`` runs twenty, or as many as CODELUPE_TRAINING_MOMENTS says. The
moments follow from CODELUPE_TRAINING_SEED.
"""

from __future__ import annotations

import os
import random
import signal
from collections.abc import Callable
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import anyio
import pytest

from codelupe import RetryLater
from codelupe_trainer.jobs import ADAPTER, CHECKPOINTS, Activity, Step, Trained, TrainJob
from codelupe_trainer.process import ChildFailed, run_child
from codelupe_trainer.settings import TrainerSettings
from tests.integration.test_trainer import children_of, code_files, train_job, write_files
from tests.tiny_qwen import make_tiny_qwen

MOMENTS = int(os.environ.get("CODELUPE_TRAINING_MOMENTS", "6"))
SEED = int(os.environ.get("CODELUPE_TRAINING_SEED", "10"))

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.slow,
    pytest.mark.timeout(600 + 120 * MOMENTS),
    pytest.mark.xdist_group("trainer"),
]

COMMON: dict[str, Any] = {
    "threads": 1,
    "max_length": 128,
    "samples_per_step": 8,
    "max_validation_files": 4,
    "learning_rate": 1e-3,
    "eval_every": 2,
    "lora": {"rank": 16, "alpha": 32, "dropout": 0.1, "dtype": "float32"},
}
SMOLLM2 = COMMON | {"profile": "smollm2-135m-cpu", "samples_per_step": 3, "max_steps": 7}
QWEN = COMMON | {"profile": "qwen2.5-coder-0.5b", "max_steps": 9, "epochs": 2}
"""4 bits, packed rows, gradient checkpointing, an 8-bit optimiser: as the profile has it."""

MakeJob = Callable[[str], TrainJob]


@dataclass(frozen=True, kw_only=True)
class Moment:
    """When a child is stopped, and how."""

    reports: int
    """After so many steps of this child."""
    delay: float
    """Seconds after that."""
    while_saving: bool
    """Not before a checkpoint is being written."""
    signal: signal.Signals
    damage: str | None
    """What befalls a file of the newest checkpoint while no child runs."""


def draw(dice: random.Random) -> Moment:
    return Moment(
        reports=dice.choice([0, 1, 1, 2, 3]),
        delay=dice.uniform(0, 3),
        while_saving=dice.random() < 0.25,
        signal=dice.choice([signal.SIGTERM, signal.SIGKILL]),
        damage=dice.choice([None, None, "cut", "zeroed", "removed"]),
    )


class Losses:
    """What a child reports of its steps."""

    def __init__(self) -> None:
        self.steps: dict[int, set[float]] = {}
        """Each step's loss: the same however often it is done."""
        self.reports = 0
        self.listen: Callable[[], None] = lambda: None

    def __call__(self, report: Activity | Step) -> None:
        if isinstance(report, Step):
            self.reports += 1
            if "loss" in report.figures:  # not if the run goes on with an evaluation
                self.steps.setdefault(report.done, set()).add(report.figures["loss"])
        self.listen()


async def run_until(moment: Moment, job: TrainJob, losses: Losses) -> Trained | None:
    """The result, if the moment came too late."""
    reached = anyio.Event()
    losses.reports = 0

    def listen() -> None:
        if losses.reports >= moment.reports and children_of(job):
            reached.set()

    losses.listen = listen
    result: Trained | None = None
    async with anyio.create_task_group() as group:

        async def stop() -> None:
            await reached.wait()
            await anyio.sleep(moment.delay)
            while moment.while_saving and not (job.folder / CHECKPOINTS / "unfinished").exists():
                await anyio.sleep(0.01)
            for child in children_of(job):
                os.kill(child, moment.signal)

        group.start_soon(stop)
        try:
            ended = await run_child(job, losses)
            assert isinstance(ended, Trained)
            result = ended
        except (RetryLater, ChildFailed) as end:
            assert "SIGKILL" in str(end) or "told to stop" in str(end)  # noqa: PT017 - which of two
        group.cancel_scope.cancel()
    return result


def newest_checkpoint(job: TrainJob) -> Path | None:
    found = sorted((job.folder / CHECKPOINTS).glob("checkpoint-*"), key=lambda path: int(path.name.split("-")[1]))
    return found[-1] if found else None


def damage(checkpoint: Path, how: str, dice: random.Random) -> None:
    file = dice.choice(sorted(checkpoint.iterdir()))
    if how == "cut":
        os.truncate(file, file.stat().st_size // 2)
    elif how == "zeroed":
        file.write_bytes(bytes(file.stat().st_size))
    else:
        file.unlink()


@pytest.fixture(params=["smollm2-float32", "qwen-nf4-8bit"])
def make_job(request: pytest.FixtureRequest, tmp_path: Path, base_models: Path) -> MakeJob:
    is_tiny = request.param == "qwen-nf4-8bit"
    settings = QWEN | {"base": str(make_tiny_qwen(tmp_path / "qwen"))} if is_tiny else SMOLLM2

    def make(name: str) -> TrainJob:
        write_files(tmp_path / name, list(islice(code_files("rich"), 40)), validation=4)
        return train_job(TrainerSettings.model_validate(settings), tmp_path / name, base_models)

    return make


async def test_a_run_stopped_at_random_moments_ends_with_the_same_bytes(make_job: MakeJob) -> None:
    """llamafactory#512, transformers#33336: the loss jumps when a run is resumed."""
    alone, expected = make_job("alone"), Losses()
    undisturbed = await run_child(alone, expected)
    assert isinstance(undisturbed, Trained)

    job, losses, dice, damaged = make_job("stopped"), Losses(), random.Random(SEED), []
    for _ in range(MOMENTS):
        moment = draw(dice)
        if await run_until(moment, job, losses) is not None:
            continue
        checkpoint = newest_checkpoint(job)
        if moment.damage is not None and checkpoint is not None:
            damage(checkpoint, moment.damage, dice)
            damaged.append(checkpoint.name)
    losses.listen = lambda: None
    result = await run_child(job, losses)
    assert isinstance(result, Trained)

    assert losses.steps == expected.steps
    changing = {"seconds", "skipped_checkpoints"}
    assert result.model_dump(exclude=changing) == undisturbed.model_dump(exclude=changing)
    assert {one.partition(":")[0] for one in result.skipped_checkpoints} >= set(damaged)
    for name in ("adapter_model.safetensors", "adapter_config.json"):
        assert (job.folder / ADAPTER / name).read_bytes() == (alone.folder / ADAPTER / name).read_bytes()


async def test_the_tiny_model_s_optimiser_keeps_8_bits(tmp_path: Path) -> None:
    """Below 4,096 elements bitsandbytes keeps float32: then nothing of 8 bits would be tested here."""
    import torch

    settings = TrainerSettings.model_validate(QWEN | {"base": str(make_tiny_qwen(tmp_path / "qwen")), "max_steps": 1})
    write_files(tmp_path / "work", list(islice(code_files("rich"), 12)), validation=2)
    job = train_job(settings, tmp_path / "work", tmp_path)
    await run_child(job, lambda _: None)
    checkpoint = newest_checkpoint(job)
    assert checkpoint is not None
    saved = torch.load(checkpoint / "optimizer.pt", weights_only=True)
    states = [inner for state in saved["state"].values() for inner in state.values() if isinstance(inner, dict)]
    assert {state["state1"].dtype for state in states} == {torch.uint8}
