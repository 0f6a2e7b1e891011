"""Trains an adapter with TRL, in steps that can be taken up again."""

from __future__ import annotations

import json
import math
import shutil
import time
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean
from typing import Any

import torch
from datasets import Dataset
from peft import LoraConfig
from transformers import EarlyStoppingCallback, TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from trl.trainer.sft_config import SFTConfig
from trl.trainer.sft_trainer import SFTTrainer

from codelupe_trainer.child.errors import Unusable
from codelupe_trainer.child.models import Tokenizer, load_model, load_tokenizer, prepare, sample_maker
from codelupe_trainer.child.stop import Stopped, StopRequest
from codelupe_trainer.exports import read_files
from codelupe_trainer.jobs import ADAPTER, CHECKPOINTS, FILES, Activity, OnReport, Step, Trained, TrainJob
from codelupe_trainer.samples import Sample
from codelupe_trainer.settings import TrainerSettings

_STATE = "trainer_state.json"
_RUN = {
    *("base", "seed", "max_length", "batch_size", "accumulation", "epochs", "max_steps", "max_validation_files"),
    *("learning_rate", "warmup_share", "eval_every", "lora"),
}
"""The settings with which a checkpoint stands and falls."""


def train(job: TrainJob, on_report: OnReport, stop: StopRequest) -> Trained:
    """Train from the last checkpoint, if there is one, and leave the best adapter in the job's folder.

    Raises:
        Unusable: there is no usable sample, or the loss is no number.
        Stopped: a checkpoint was saved because it was asked to stop.
    """
    began = time.monotonic()
    base = prepare(job.settings, job.bases, on_report)
    on_report(Activity(what="reading the samples"))
    tokenizer = load_tokenizer(base)
    data = _read_data(job, tokenizer)
    on_report(Activity(what="loading the base model"))
    trainer = _trainer(base, tokenizer, data, job, _Watch(on_report, stop))
    checkpoint = _last_checkpoint(job)
    with stop.postponed():
        trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    state: TrainerState = trainer.state
    assert state.best_metric is not None, "the last step is always evaluated"
    trainer.model.save_pretrained(job.folder / ADAPTER)
    tokenizer.save_pretrained(job.folder / ADAPTER)
    return Trained(
        steps=state.global_step,
        samples=len(trainer.train_dataset),
        validation_samples=len(trainer.eval_dataset),
        unused=frozenset(data.unused),
        train_loss=fmean(entry["loss"] for entry in state.log_history if "loss" in entry),
        validation_loss=state.best_metric,
        stopped_early=state.global_step < state.max_steps,
        seconds=time.monotonic() - began,
    )


# --- data ---


@dataclass
class _Data:
    """Samples by split, and the hashes of the files that gave none or were not needed."""

    train: list[Sample] = field(default_factory=list)
    validation: list[Sample] = field(default_factory=list)
    unused: set[str] = field(default_factory=set)


def _read_data(job: TrainJob, tokenizer: Tokenizer) -> _Data:
    settings, data = job.settings, _Data()
    maker = sample_maker(tokenizer, settings.max_length)
    limits = {
        "train": math.inf if settings.max_steps is None else settings.max_steps * _samples_a_step(settings),
        "validation": settings.max_validation_files,
    }
    for file in read_files(job.folder / FILES):
        samples = data.train if file.split == "train" else data.validation
        sample = maker.make(file) if len(samples) < limits[file.split] else None
        if sample is None:
            data.unused.add(file.content_hash)
        else:
            samples.append(sample)
    for name, samples in (("training", data.train), ("validation", data.validation)):
        if not samples:
            raise Unusable(f"no file of the batch makes a usable sample for {name}")
    return data


def _dataset(samples: list[Sample]) -> Dataset:
    return Dataset.from_list([{"prompt": sample.prompt, "completion": sample.answer} for sample in samples])


def _samples_a_step(settings: TrainerSettings) -> int:
    return settings.batch_size * settings.accumulation


# --- the trainer ---


def _trainer(base: str, tokenizer: Tokenizer, data: _Data, job: TrainJob, watch: _Watch) -> Any:
    settings = job.settings
    trainer: Any = SFTTrainer(
        model=load_model(base),
        args=_arguments(job, len(data.train)),
        processing_class=tokenizer,
        train_dataset=_dataset(data.train),
        eval_dataset=_dataset(data.validation),
        peft_config=LoraConfig(
            task_type="CAUSAL_LM",
            r=settings.lora.rank,
            lora_alpha=settings.lora.alpha,
            lora_dropout=settings.lora.dropout,
            target_modules="all-linear",
        ),
        callbacks=[watch, EarlyStoppingCallback(settings.patience)],
    )
    given, kept = len(data.train) + len(data.validation), len(trainer.train_dataset) + len(trainer.eval_dataset)
    assert given == kept, f"{given - kept} samples were dropped although they were made to fit"
    return trainer


def _arguments(job: TrainJob, samples: int) -> SFTConfig:
    settings, on_gpu = job.settings, torch.cuda.is_available()
    steps = math.ceil(samples / _samples_a_step(settings)) * settings.epochs
    return SFTConfig(
        output_dir=str(job.folder / CHECKPOINTS),
        max_length=settings.max_length,
        completion_only_loss=True,
        per_device_train_batch_size=settings.batch_size,
        per_device_eval_batch_size=settings.batch_size,
        gradient_accumulation_steps=settings.accumulation,
        max_steps=min(steps, settings.max_steps or steps),
        learning_rate=settings.learning_rate,
        lr_scheduler_type="cosine",
        warmup_steps=settings.warmup_share,
        eval_strategy="steps",
        eval_steps=settings.eval_every,
        save_strategy="steps",
        save_steps=settings.eval_every,
        save_total_limit=2,
        load_best_model_at_end=True,
        metric_for_best_model="eval_loss",
        greater_is_better=False,
        restore_callback_states_from_checkpoint=True,
        logging_steps=1,
        # The default logs a loss that is no number as 0.
        logging_nan_inf_filter=False,
        use_cpu=not on_gpu,
        bf16=on_gpu,
        gradient_checkpointing=on_gpu,
        dataloader_pin_memory=on_gpu,
        seed=settings.seed,
        report_to="none",
        disable_tqdm=True,
    )


class _Watch(TrainerCallback):
    """Reports every step, evaluates the last one, ends a run that went astray, and one that is to stop."""

    def __init__(self, on_report: OnReport, stop: StopRequest) -> None:
        self._on_report = on_report
        self._stop = stop
        self._figures: dict[str, float] = {}

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        del args
        if state.global_step >= state.max_steps:
            control.should_evaluate = True
        if self._stop:
            control.should_save = True

    def on_log(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **given: Any) -> None:
        del args, control
        logs: dict[str, float] = given["logs"]
        for name in ("loss", "grad_norm", "eval_loss"):
            if not math.isfinite(logs.get(name, 0.0)):
                raise Unusable(f"{name} is {logs[name]} at step {state.global_step}: training went astray")
        self._figures |= {name: logs[name] for name in ("loss", "eval_loss") if name in logs}
        if self._figures.keys() & logs.keys():
            self._on_report(Step(done=state.global_step, total=state.max_steps, figures=self._figures))

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        del args, control
        if self._stop and state.global_step < state.max_steps:
            raise Stopped


# --- checkpoints ---


def _last_checkpoint(job: TrainJob) -> Path | None:
    """The newest whole checkpoint of a run with the same settings. Others are removed."""
    folder = job.folder / CHECKPOINTS
    made_for, run = folder / "run.json", job.settings.model_dump_json(include=_RUN)
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
