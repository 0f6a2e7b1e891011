"""The plan of a run by the trainer's settings."""

from __future__ import annotations

from dataclasses import dataclass

from codelupe_trainer.plan.bases import shape_of
from codelupe_trainer.plan.fit import DoesNotFit, Fit, fit
from codelupe_trainer.plan.memory import Memory, TrainingShape
from codelupe_trainer.plan.model_shape import ModelShape
from codelupe_trainer.plan.time import Disk, Work, disk_of, work_of
from codelupe_trainer.settings import TrainerSettings


@dataclass(frozen=True)
class RunPlan:
    """What a run by these settings takes, on a machine with so much memory."""

    base: str
    model: ModelShape
    asked: TrainingShape
    """By the settings; the adapter's type is open if they say `auto`."""
    free: int
    """Bytes that there are."""
    outcome: Fit | DoesNotFit
    work: Work
    disk: Disk

    @property
    def shape(self) -> TrainingShape:
        """The shape that fits, or the smallest that does not."""
        return self.outcome.shape

    @property
    def memory(self) -> Memory:
        """The memory that this shape takes."""
        return self.outcome.memory


def plan_run(settings: TrainerSettings, free: int, files: int, *, on_card: bool) -> RunPlan:
    """Plan a run on a batch of so many files, a share of which training is only watched on.

    ``free`` are the bytes of each card, or of the machine, which its processes share.

    Raises:
        CodelupeError: the base's shape is not known.
    """
    model, asked = shape_of(settings.base), training_shape(settings, on_card=on_card)
    free = free if on_card else free // settings.processes
    try:
        outcome: Fit | DoesNotFit = fit(model, asked, free, settings.lora.dtype)
    except DoesNotFit as problem:
        outcome = problem
    trained = files - max(1, round(files * settings.validation_share))
    return RunPlan(
        base=settings.base,
        model=model,
        asked=asked,
        free=free,
        outcome=outcome,
        work=work_of(model, outcome.shape, trained, settings.samples_per_step, settings.epochs, settings.max_steps),
        disk=disk_of(model, outcome.shape),
    )


def training_shape(settings: TrainerSettings, *, on_card: bool) -> TrainingShape:
    """What the settings say; the adapter's type, if that is `auto`, is for :func:`~codelupe_trainer.plan.fit.fit`."""
    dtype = settings.lora.dtype
    return TrainingShape(
        micro_batch=settings.micro_batch,
        row_tokens=settings.max_length,
        rank=settings.lora.rank,
        adapter_dtype="float32" if dtype == "auto" else dtype,
        compute_dtype="bfloat16" if on_card else "float32",
        dropout=settings.lora.dropout > 0,
        quantised=settings.quantisation == "nf4",
        checkpointing=settings.gradient_checkpointing,
        optimizer=settings.optimizer,
        processes=settings.processes,
        head="triton" if on_card else "torch",
    )
