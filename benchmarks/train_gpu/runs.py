"""Trains 200 samples twice: by the product's own trainer, and by TRL's with its defaults."""

from __future__ import annotations

import gc
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from peft import LoraConfig
from transformers import PreTrainedModel, TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from trl.trainer.sft_config import SFTConfig
from trl.trainer.sft_trainer import SFTTrainer

from benchmarks.train_gpu.memory import measure_peak
from benchmarks.train_gpu.random_base import random_base, stand_in_tokenizer
from codelupe_trainer.child.checkpoints import Checkpoints
from codelupe_trainer.child.fitting import fit_card
from codelupe_trainer.child.guard import Guard
from codelupe_trainer.child.ranks import Ranks
from codelupe_trainer.child.recovery import Recovery, is_out_of_memory
from codelupe_trainer.child.rows import Rows, pack, rows_per_step
from codelupe_trainer.child.training import Parts, make_trainer
from codelupe_trainer.jobs import CHECKPOINTS, SampleTotals, TrainJob
from codelupe_trainer.plan.memory import TrainingShape
from codelupe_trainer.plan.model_shape import ModelShape
from codelupe_trainer.plan.run_plan import training_shape
from codelupe_trainer.samples.encoding import IGNORED
from codelupe_trainer.settings import TrainerSettings

_PLAIN_MICRO_BATCHES = (4, 2, 1)
"""The seed's first, and smaller ones if memory runs out."""


@dataclass(frozen=True, kw_only=True)
class Scene:
    """What both are run on."""

    model: ModelShape
    settings: TrainerSettings
    lengths: Sequence[tuple[int, int]]
    """Of each sample: its tokens, and how many of them, at its end, are learned."""
    card: int
    """Bytes of the card that is played."""
    device: torch.device
    dtype: torch.dtype
    seconds: float
    """A run is ended at the first step after so long."""
    folder: Path

    @property
    def samples(self) -> Dataset:
        """Random tokens, so many."""
        dice, words = torch.Generator().manual_seed(self.settings.seed), self.model.vocabulary
        rows = [torch.randint(2, words, (tokens,), generator=dice).tolist() for tokens, _ in self.lengths]
        labels = [
            [IGNORED] * (tokens - learned) + row[tokens - learned :]
            for row, (tokens, learned) in zip(rows, self.lengths, strict=True)
        ]
        return Dataset.from_dict({"input_ids": rows, "labels": labels})


@dataclass(frozen=True, kw_only=True)
class Measured:
    """One run, without its first step, which compiles kernels."""

    micro_batch: int
    adapter_dtype: str
    steps: int
    tokens: int
    """Without padding."""
    seconds: float
    allocated: int
    """The most bytes that tensors had at a time."""
    reserved: int
    """The most that the allocator held."""

    @property
    def speed(self) -> float:
        """Tokens a second."""
        return self.tokens / self.seconds


def run_product(scene: Scene) -> tuple[Measured, TrainingShape]:
    """By the product's settings, plan, rows and trainer, without evaluations and checkpoints; and what was planned."""
    settings = scene.settings
    asked = training_shape(settings, on_card=scene.device.type == "cuda")
    fitted = fit_card(scene.model, asked, scene.card, scene.card, settings)
    job = TrainJob(settings=settings, folder=scene.folder, bases=scene.folder, draw="", formats="")
    samples, ranks = scene.samples, Ranks()
    rows = pack(samples, settings)
    parts = Parts(
        job=job,
        tokenizer=stand_in_tokenizer(),
        rows=_rows(rows, samples, settings),
        fitted=fitted,
        recovery=Recovery(job, "benchmark", lambda _: None),
        checkpoints=Checkpoints(scene.folder / CHECKPOINTS, "benchmark", ranks),
        guard=Guard(settings.spike_factor, ()),
        ranks=ranks,
    )
    torch.set_autocast_cache_enabled(False)
    clock = Clock(scene)
    trainer = make_trainer(parts, _base(scene), [clock], _Never())
    with measure_peak(scene.device) as peak:
        trainer.run(None)
    return clock.measured(trainer, peak.allocated, peak.reserved), fitted


def run_plain(scene: Scene) -> Measured:
    """By TRL's defaults, but for the adapter, the longest sample and the effective batch of samples: the product's.

    The micro-batch is the largest that fits.
    """
    for micro_batch in _PLAIN_MICRO_BATCHES:
        try:
            return _run_plain(scene, micro_batch)
        except RuntimeError as error:
            if not is_out_of_memory(error) or micro_batch == _PLAIN_MICRO_BATCHES[-1]:
                raise
        _free()
    raise AssertionError("the last one returns or raises")


def _run_plain(scene: Scene, micro_batch: int) -> Measured:
    settings, lora, on_card = scene.settings, scene.settings.lora, scene.device.type == "cuda"
    torch.set_autocast_cache_enabled(True)
    clock = Clock(scene)
    trainer: Any = SFTTrainer(
        model=_base(scene),
        args=SFTConfig(
            output_dir=str(scene.folder / "plain"),
            max_length=settings.max_length,
            per_device_train_batch_size=micro_batch,
            gradient_accumulation_steps=max(1, settings.samples_per_step // micro_batch),
            num_train_epochs=1,
            logging_steps=1,
            save_strategy="no",
            report_to="none",
            disable_tqdm=True,
            use_cpu=not on_card,
            bf16=on_card,
        ),
        train_dataset=scene.samples,
        processing_class=stand_in_tokenizer(),
        peft_config=LoraConfig(
            task_type="CAUSAL_LM",
            r=lora.rank,
            lora_alpha=lora.alpha,
            lora_dropout=lora.dropout,
            target_modules="all-linear",
        ),
        callbacks=[clock],
    )
    with measure_peak(scene.device) as peak:
        trainer.train()
    return clock.measured(trainer, peak.allocated, peak.reserved)


class Clock(TrainerCallback):
    """Notes when each step was done and how many tokens had been seen by then; ends a run that takes too long."""

    def __init__(self, scene: Scene) -> None:
        self._device = scene.device
        self._end = time.monotonic() + scene.seconds
        self._marks: list[tuple[float, float]] = []

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Also leaves out the evaluations: they are no part of what is compared."""
        del args, state
        control.should_evaluate = False
        if time.monotonic() > self._end and len(self._marks) > 1:
            control.should_training_stop = True

    def on_log(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **given: Any) -> None:
        del args, state, control
        if "loss" in given["logs"]:
            if self._device.type == "cuda":
                torch.cuda.synchronize(self._device)
            self._marks.append((time.monotonic(), given["logs"]["num_tokens"]))

    def measured(self, trainer: Any, allocated: int, reserved: int) -> Measured:
        """Between the ends of the first and the last step."""
        (began, before), *_, (ended, after) = self._marks
        dtypes = {parameter.dtype for parameter in trainer.model.parameters() if parameter.requires_grad}
        return Measured(
            micro_batch=trainer.args.per_device_train_batch_size,
            adapter_dtype=" and ".join(sorted(str(dtype).removeprefix("torch.") for dtype in dtypes)),
            steps=len(self._marks) - 1,
            tokens=round(after - before),
            seconds=ended - began,
            allocated=allocated,
            reserved=reserved,
        )


class _Never:
    """No request to stop comes."""

    def __bool__(self) -> bool:
        return False


def _base(scene: Scene) -> PreTrainedModel:
    _free()
    torch.manual_seed(scene.settings.seed)
    return random_base(scene.model, scene.device, scene.dtype)


def _free() -> None:
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def _rows(rows: Dataset, samples: Dataset, settings: TrainerSettings) -> Rows:
    learned = sum(label != IGNORED for labels in samples["labels"] for label in labels)
    return Rows(
        train=rows,
        validation=rows.select([0]),
        files=len(samples),
        validation_files=1,
        unused=frozenset(),
        samples=SampleTotals(
            formats={}, cut=0, dropped={}, failed={}, learned=learned, masked=0, padding=0, rows=len(rows)
        ),
        per_step=rows_per_step(len(rows), len(samples), settings),
        examples=list,
    )
