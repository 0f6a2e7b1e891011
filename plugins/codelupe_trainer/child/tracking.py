"""TensorBoard and Weights & Biases: they follow a training, and cannot harm it."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments, integrations

from codelupe_trainer.child.checkpoints import Manifest
from codelupe_trainer.child.predicting import predict
from codelupe_trainer.child.rows import Example
from codelupe_trainer.child.stop import StopRequest
from codelupe_trainer.jobs import Activity, OnReport, TrainJob
from codelupe_trainer.settings import TrainerSettings

_integrations: Any = integrations
"""Half typed."""
_WAIT_SECONDS = 30
"""How long W&B may take to begin, and to send the rest at the end."""


def require_trackers(settings: TrainerSettings) -> None:
    """Import what the settings ask for, before anything takes long.

    Raises:
        ModuleNotFoundError: it is not installed.
    """
    if settings.tensorboard:
        import_module("tensorboard")
    if settings.wandb != "off":
        import_module("wandb")


def trackers(
    job: TrainJob,
    run: str,
    examples: Callable[[], list[Example]],
    resume_from: Manifest | None,
    on_report: OnReport,
    stop: StopRequest,
) -> list[TrainerCallback]:
    """Those that the settings ask for; ``run`` is the training's identity."""
    folder = job.tracked or job.folder
    made: list[TrainerCallback] = []
    if job.settings.tensorboard:
        next_step = resume_from.step + 1 if resume_from else None
        made.append(Harmless("TensorBoard", partial(_tensorboard, folder / "tensorboard", next_step), on_report))
    if job.settings.wandb != "off":
        made.append(Harmless("W&B", partial(WandbCallback, job, folder, run, examples, stop), on_report))
    return made


class Harmless(TrainerCallback):
    """Passes on what happens to the callback that ``make`` makes, until that fails: then training goes on without."""

    def __init__(self, name: str, make: Callable[[], TrainerCallback], on_report: OnReport) -> None:
        self._name = name
        self._make = make
        self._on_report = on_report
        self._inner: TrainerCallback | None = None

    def on_train_begin(self, args: TrainingArguments, state: TrainerState, *given: Any, **named: Any) -> None:
        if not state.is_world_process_zero:
            return
        try:
            self._inner = self._make()
        except Exception as error:  # noqa: BLE001 - whatever is wrong with it, the training goes on
            self._go_on_without(error)
        self._pass("on_train_begin", args, state, *given, **named)

    def on_log(self, *given: Any, **named: Any) -> None:
        self._pass("on_log", *given, **named)

    def on_save(self, *given: Any, **named: Any) -> None:
        self._pass("on_save", *given, **named)

    def on_train_end(self, *given: Any, **named: Any) -> None:
        self._pass("on_train_end", *given, **named)

    def _pass(self, event: str, *given: Any, **named: Any) -> None:
        if self._inner is None:
            return
        try:
            getattr(self._inner, event)(*given, **named)
        except Exception as error:  # noqa: BLE001 - whatever is wrong with it, the training goes on
            self._go_on_without(error)

    def _go_on_without(self, error: Exception) -> None:
        self._inner = None
        what = f"going on without {self._name}: {type(error).__name__}: {error}"
        self._on_report(Activity(what=what, is_warning=True))


def _tensorboard(folder: Path, next_step: int | None) -> TrainerCallback:
    """Transformers' own; what a former attempt wrote of steps that come again is not shown."""
    from torch.utils.tensorboard import SummaryWriter

    callback: TrainerCallback = _integrations.TensorBoardCallback(SummaryWriter(str(folder), purge_step=next_step))
    return callback


class WandbCallback(TrainerCallback):
    """One run at W&B for a training, however often that is resumed: its id follows from the training's identity.

    Transformers' own callback would count the steps of a resumed run anew, and looks at variables that make it upload
    models.
    """

    def __init__(
        self, job: TrainJob, folder: Path, run: str, examples: Callable[[], list[Example]], stop: StopRequest
    ) -> None:
        import wandb

        folder.mkdir(parents=True, exist_ok=True)
        for name in ("CACHE", "CONFIG", "DATA"):
            os.environ.setdefault(f"WANDB_{name}_DIR", str(job.folder / "wandb-cache"))
        self._examples = examples()
        self._stop = stop
        self._table: Callable[..., Any] = wandb.Table
        self._run = wandb.init(
            mode="online" if job.settings.wandb == "online" else "offline",
            project=job.settings.wandb_project,
            dir=str(folder),
            id=hashlib.sha256(run.encode()).hexdigest()[:32],
            name=job.folder.name,
            resume="allow",
            config=job.settings.model_dump(mode="json") | {"parent": job.parent and job.parent.name},
            settings=wandb.Settings(
                console="off",
                silent=True,
                disable_code=True,
                disable_git=True,
                init_timeout=_WAIT_SECONDS,
                finish_timeout=_WAIT_SECONDS,
            ),
        )

    def on_log(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **given: Any) -> None:
        del args, control
        self._run.log(_integrations.rewrite_logs(given["logs"]), step=state.global_step)

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **given: Any) -> None:
        del args, control
        rows = list(predict(given["model"], given["processing_class"], self._examples, self._stop))
        if not self._stop:
            table = self._table(columns=["prompt", "author", "model"], data=rows)
            self._run.log({"predictions": table}, step=state.global_step)

    def on_train_end(self, *_: object, **__: object) -> None:
        self._run.finish()
