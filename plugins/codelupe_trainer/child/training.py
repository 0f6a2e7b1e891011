"""Trains an adapter with TRL, in steps that can be taken up again."""

from __future__ import annotations

import math
import shutil
import time
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

import datasets
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import EarlyStoppingCallback, PreTrainedModel, TrainerCallback, TrainerState, set_seed
from trl.trainer.sft_config import SFTConfig

from codelupe import atomic_folder
from codelupe_trainer.child.checkpoints import Checkpoints, run_identity
from codelupe_trainer.child.fitting import fit_memory
from codelupe_trainer.child.guard import Astray, Guard
from codelupe_trainer.child.models import (
    Tokenizer,
    identify,
    load_encoder,
    load_model,
    load_tokenizer,
    prepare,
    require_base,
)
from codelupe_trainer.child.ranks import AgreedStop, Ranks
from codelupe_trainer.child.recovery import Recovery, is_out_of_memory
from codelupe_trainer.child.resumable import ADAPTER_WEIGHTS, ResumableTrainer
from codelupe_trainer.child.rows import Rows, files_with, in_order, read_rows
from codelupe_trainer.child.stop import Stop, Stopped, StopRequest
from codelupe_trainer.child.tracking import require_trackers, trackers
from codelupe_trainer.child.watch import AdapterDtype, UntilFilesChange, Watch
from codelupe_trainer.exports import read_files
from codelupe_trainer.jobs import ADAPTER, CHECKPOINTS, FILES, Activity, BaseIdentity, OnReport, Trained, TrainJob
from codelupe_trainer.plan.memory import TrainingShape
from codelupe_trainer.settings import TrainerSettings

_EVALUATIONS = 4
"""Fewest evaluations of a run: 1,000 files are some sixty steps."""

datasets.disable_progress_bars()


def train(job: TrainJob, on_report: OnReport, stop: StopRequest) -> Trained:
    """Train from the last checkpoint, if there is one, and leave the best adapter in the job's folder.

    Raises:
        Unusable: there is no usable sample, or the run has met with a setback for the second time.
        UnfitBase: the base cannot be trained on these samples.
        ModuleNotFoundError: a package is missing that the settings ask for.
        BeginAgain: it goes on in a new process.
        DiskFull: there is no room for a checkpoint.
        Waiting: others fill the card.
        Stopped: a checkpoint was saved because it was asked to stop.
    """
    began = time.monotonic()
    require_trackers(job.settings)
    # Autocast keeps copies of float32 adapters until the forward pass ends, though it reads no weight twice: 2 GiB.
    torch.set_autocast_cache_enabled(False)
    ranks = Ranks()
    base = prepare(job.settings, job.bases, on_report)
    torch.set_num_threads(max(1, torch.get_num_threads() // ranks.size))
    identity = identify(base, job.settings)
    if job.parent is not None:
        require_base(identity, job.parent_base, job.parent.name)
    tokenizer = load_tokenizer(base)
    encoder = load_encoder(base, tokenizer, job.settings)
    unchanged = UntilFilesChange(job.folder / FILES, ranks)
    fitted = fit_memory(base, job.settings, on_report, ranks)
    run = run_identity(
        job, identity, fitted.adapter_dtype, (file.content_hash for file in read_files(job.folder / FILES))
    )
    if ranks.any(run != ranks.from_first(lambda: run)):
        raise Stopped
    checkpoints, recovery = Checkpoints(job.folder / CHECKPOINTS, run, ranks), Recovery(job, run, on_report)
    with stop.postponed():
        rows = read_rows(job, encoder, on_report, stop)
        resume_from = ranks.from_first(lambda: recovery.newest(checkpoints))
    on_report(Activity(what="loading the base model"))
    guard = Guard(job.settings.spike_factor, recovery.setbacks.skipped_steps)
    parts = Parts(job, tokenizer, rows, fitted, recovery, checkpoints, guard, ranks)
    agreed = AgreedStop(stop, ranks)
    watching = [Watch(on_report, agreed), *trackers(job, run, rows.examples, resume_from, on_report, stop)]
    model = load_model(base, job.settings)
    trainer = make_trainer(parts, model, [unchanged, *watching], agreed)
    try:
        with stop.postponed():
            trainer.run(resume_from)
    except Astray as astray:
        recovery.leave_out(astray, files_with(trainer.samples_of_step(), job, encoder))
    except Exception as error:
        if is_out_of_memory(error):
            recovery.halve_micro_batch(error)
        raise
    return _keep(trainer.state, parts, identity, time.monotonic() - began)


def _keep(state: TrainerState, parts: Parts, identity: BaseIdentity, seconds: float) -> Trained:
    """Leave the best adapter in the job's folder, and tell of the run."""
    assert state.best_metric is not None, "the last step is always evaluated"
    if parts.ranks.is_first:
        _keep_best(state, parts.checkpoints, parts.tokenizer, parts.job.folder / ADAPTER)
    rows, setbacks = parts.rows, parts.recovery.setbacks
    return Trained(
        base=identity,
        steps=state.global_step,
        samples=rows.files,
        validation_samples=rows.validation_files,
        unused=rows.unused,
        totals=rows.samples,
        rows_per_step=rows.per_step,
        train_loss=fmean(one["loss"] for one in state.log_history if "loss" in one),
        validation_loss=state.best_metric,
        stopped_early=state.global_step < state.max_steps,
        skipped_steps=setbacks.skipped_steps,
        skipped_checkpoints=setbacks.skipped_checkpoints,
        seconds=seconds,
    )


def _with_adapter(model: PreTrainedModel, job: TrainJob) -> PeftModel:
    """The base with the parent's adapter, or with a new one that changes nothing yet.

    The adapter is called ``default``: under another name the trainer finds no best checkpoint (transformers#36201).
    """
    lora = job.settings.lora
    if job.parent is None:
        config = LoraConfig(
            task_type="CAUSAL_LM",
            r=lora.rank,
            lora_alpha=lora.alpha,
            lora_dropout=lora.dropout,
            target_modules="all-linear",
        )
        return get_peft_model(model, config)
    parent = LoraConfig.from_pretrained(str(job.parent))
    parent.lora_dropout = lora.dropout
    return PeftModel.from_pretrained(model, job.parent, is_trainable=True, config=parent)


def _keep_best(state: TrainerState, checkpoints: Checkpoints, tokenizer: Tokenizer, folder: Path) -> None:
    """The adapter as it was saved; loaded and saved once more, it might have other numbers (transformers#36201).

    Raises:
        Damaged: its checkpoint has changed; another attempt takes an earlier one up.
    """
    assert state.best_global_step is not None, "the last step is always evaluated"
    checkpoints.check(state.best_global_step)
    best = checkpoints.path(state.best_global_step)
    with atomic_folder(folder, replace=True) as unfinished:
        for name in (ADAPTER_WEIGHTS, "adapter_config.json"):
            shutil.copy(best / name, unfinished)
        tokenizer.save_pretrained(unfinished)


@dataclass(frozen=True)
class Parts:
    """What a trainer is made of."""

    job: TrainJob
    tokenizer: Tokenizer
    rows: Rows
    fitted: TrainingShape
    recovery: Recovery
    checkpoints: Checkpoints
    guard: Guard
    ranks: Ranks


def make_trainer(
    parts: Parts, model: PreTrainedModel, callbacks: list[TrainerCallback], stop: Stop
) -> ResumableTrainer:
    """What trains an adapter beside this base."""
    settings, rows, fitted = parts.job.settings, parts.rows, parts.fitted
    dtype = AdapterDtype(torch.bfloat16 if fitted.adapter_dtype == "bfloat16" else torch.float32)
    share = math.ceil(rows.per_step / parts.ranks.size)
    micro_batch = parts.recovery.micro_batch(share, fitted.micro_batch)
    set_seed(settings.seed)
    trainer = ResumableTrainer(
        ranks=parts.ranks,
        checkpoints=parts.checkpoints,
        checkpoint_seconds=settings.checkpoint_every.total_seconds(),
        stop=stop,
        guard=parts.guard,
        model=_with_adapter(_trainable(model), parts.job),
        args=_arguments(settings, rows, micro_batch, share // micro_batch, parts.checkpoints.unfinished),
        processing_class=parts.tokenizer,
        train_dataset=in_order(rows, settings, parts.ranks.size),
        eval_dataset=rows.validation,
        callbacks=[*callbacks, dtype, EarlyStoppingCallback(settings.patience)],
    )
    dtype.apply(trainer.model)
    return trainer


def _trainable(model: PreTrainedModel) -> PreTrainedModel:
    """Where a CPU knows bfloat16, bitsandbytes (0.50) rearranges 4-bit weights for good when they are first evaluated,
    and can pass no gradient through them after that.
    """
    modules: Any = model.modules()
    for module in modules:
        if hasattr(module, "support_avx512bf16_for_cpu"):
            module.support_avx512bf16_for_cpu = False
    return model


def _arguments(settings: TrainerSettings, rows: Rows, micro_batch: int, accumulation: int, output: Path) -> SFTConfig:
    on_card = torch.cuda.is_available()
    steps = math.ceil(len(rows.train) / rows.per_step) * settings.epochs
    return SFTConfig(
        output_dir=str(output),
        max_length=settings.max_length,
        packing=settings.packing,
        dataset_kwargs={"skip_prepare_dataset": True},
        per_device_train_batch_size=micro_batch,
        # One row: so the loss does not depend on how many fit the card, nor does evaluation need more memory.
        per_device_eval_batch_size=1,
        gradient_accumulation_steps=accumulation,
        train_sampling_strategy="sequential",
        max_steps=steps,
        learning_rate=settings.learning_rate,
        lr_scheduler_type="cosine",
        warmup_steps=settings.warmup_share,
        optim="adamw_8bit" if settings.optimizer == "adamw_8bit" else "adamw_torch",
        eval_strategy="steps",
        eval_steps=min(settings.eval_every, math.ceil(steps / _EVALUATIONS)),
        save_strategy="no",
        metric_for_best_model="eval_loss",
        greater_is_better=False,
        restore_callback_states_from_checkpoint=True,
        logging_steps=1,
        # The default logs a loss that is no number as 0.
        logging_nan_inf_filter=False,
        use_cpu=not on_card,
        bf16=on_card,
        gradient_checkpointing=settings.gradient_checkpointing,
        dataloader_pin_memory=on_card,
        ddp_find_unused_parameters=False,
        seed=settings.seed,
        report_to="none",
        disable_tqdm=True,
    )
