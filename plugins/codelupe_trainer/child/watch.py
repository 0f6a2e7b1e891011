"""What looks on while a model is trained."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import torch
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from codelupe_trainer.child.errors import Unusable
from codelupe_trainer.child.stop import Stopped, StopRequest
from codelupe_trainer.jobs import OnReport, Step


class Watch(TrainerCallback):
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


class UntilFilesChange(TrainerCallback):
    """Stops a run whose files have changed since this was made: a repository was forgotten, and it begins anew."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._as_read = self._now()

    def _now(self) -> tuple[int, int]:
        state = self._path.stat()
        return state.st_ino, state.st_mtime_ns

    def on_step_begin(self, *_: object, **__: object) -> None:
        if self._now() != self._as_read:
            raise Stopped


class AdapterDtype(TrainerCallback):
    """Keeps the adapter's numbers as they are to be: TRL makes bfloat16 of those beside a quantised base, and peft
    float32 of all when a run is resumed (peft#2421).
    """

    def __init__(self, dtype: torch.dtype) -> None:
        self._dtype = dtype

    def apply(self, model: torch.nn.Module) -> None:
        """Convert what is trained in place, so that an optimiser that holds it goes on with it."""
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.data = parameter.data.to(self._dtype)

    def on_train_begin(self, *_: object, **given: Any) -> None:
        self.apply(given["model"])
