"""Trains an adapter with TRL, in steps that can be taken up again."""

from __future__ import annotations

import math
import time
from statistics import fmean
from typing import Any

import datasets
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import EarlyStoppingCallback, PreTrainedModel, TrainerCallback, TrainerState, set_seed
from trl.trainer.sft_config import SFTConfig
from trl.trainer.sft_trainer import SFTTrainer

from codelupe_trainer.child.checkpoints import last_checkpoint, run_identity
from codelupe_trainer.child.models import (
    Tokenizer,
    identify,
    load_encoder,
    load_model,
    load_tokenizer,
    prepare,
    require_base,
)
from codelupe_trainer.child.rows import Rows, read_rows
from codelupe_trainer.child.stop import StopRequest
from codelupe_trainer.child.watch import AdapterDtype, UntilFilesChange, Watch
from codelupe_trainer.exports import read_files
from codelupe_trainer.jobs import ADAPTER, CHECKPOINTS, FILES, Activity, OnReport, Trained, TrainJob

_EVALUATIONS = 4
"""Fewest evaluations of a run: 1,000 files are some sixty steps."""

datasets.disable_progress_bars()


def train(job: TrainJob, on_report: OnReport, stop: StopRequest) -> Trained:
    """Train from the last checkpoint, if there is one, and leave the best adapter in the job's folder.

    Raises:
        Unusable: there is no usable sample, or the loss is no number.
        UnfitBase: the base cannot be trained on these samples.
        Stopped: a checkpoint was saved because it was asked to stop.
    """
    began = time.monotonic()
    set_seed(job.settings.seed)
    base = prepare(job.settings, job.bases, on_report)
    identity = identify(base, job.settings)
    if job.parent is not None:
        require_base(identity, job.parent_base, job.parent.name)
    tokenizer = load_tokenizer(base)
    encoder = load_encoder(base, tokenizer, job.settings)
    unchanged = UntilFilesChange(job.folder / FILES)
    with stop.postponed():
        rows = read_rows(job, encoder, on_report, stop)
    on_report(Activity(what="loading the base model"))
    trainer = _trainer(base, tokenizer, rows, job, [unchanged, Watch(on_report, stop)])
    run = run_identity(job, identity, (file.content_hash for file in read_files(job.folder / FILES)))
    checkpoint = last_checkpoint(job, run)
    with stop.postponed():
        trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    state: TrainerState = trainer.state
    assert state.best_metric is not None, "the last step is always evaluated"
    trainer.model.save_pretrained(job.folder / ADAPTER)
    tokenizer.save_pretrained(job.folder / ADAPTER)
    return Trained(
        base=identity,
        steps=state.global_step,
        samples=rows.files,
        validation_samples=rows.validation_files,
        unused=rows.unused,
        totals=rows.samples,
        rows_per_step=trainer.args.per_device_train_batch_size * trainer.args.gradient_accumulation_steps,
        train_loss=fmean(entry["loss"] for entry in state.log_history if "loss" in entry),
        validation_loss=state.best_metric,
        stopped_early=state.global_step < state.max_steps,
        seconds=time.monotonic() - began,
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


def _trainer(base: str, tokenizer: Tokenizer, rows: Rows, job: TrainJob, callbacks: list[TrainerCallback]) -> Any:
    dtype = AdapterDtype(torch.bfloat16 if job.settings.lora.dtype == "bfloat16" else torch.float32)
    trainer: Any = SFTTrainer(
        model=_with_adapter(load_model(base, job.settings), job),
        args=_arguments(job, rows),
        processing_class=tokenizer,
        train_dataset=rows.train,
        eval_dataset=rows.validation,
        callbacks=[*callbacks, dtype, EarlyStoppingCallback(job.settings.patience)],
    )
    dtype.apply(trainer.model)
    return trainer


def _arguments(job: TrainJob, rows: Rows) -> SFTConfig:
    settings, on_card = job.settings, torch.cuda.is_available()
    micro_batch = min(settings.micro_batch, rows.per_step)
    accumulation = max(1, round(rows.per_step / micro_batch))
    steps = math.ceil(len(rows.train) / (micro_batch * accumulation)) * settings.epochs
    every = min(settings.eval_every, math.ceil(steps / _EVALUATIONS))
    return SFTConfig(
        output_dir=str(job.folder / CHECKPOINTS),
        max_length=settings.max_length,
        packing=settings.packing,
        dataset_kwargs={"skip_prepare_dataset": True},
        per_device_train_batch_size=micro_batch,
        per_device_eval_batch_size=micro_batch,
        gradient_accumulation_steps=accumulation,
        max_steps=steps,
        learning_rate=settings.learning_rate,
        lr_scheduler_type="cosine",
        warmup_steps=settings.warmup_share,
        optim="adamw_8bit" if settings.optimizer == "adamw_8bit" else "adamw_torch",
        eval_strategy="steps",
        eval_steps=every,
        save_strategy="steps",
        save_steps=every,
        save_total_limit=2,
        load_best_model_at_end=True,
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
        seed=settings.seed,
        report_to="none",
        disable_tqdm=True,
    )
