"""What looks on while a model is trained."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import torch
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from codelupe_trainer.child.errors import Unusable
from codelupe_trainer.child.ranks import Ranks
from codelupe_trainer.child.stop import Stop, Stopped
from codelupe_trainer.jobs import OnReport, Step

_LOSSES = ("loss", "eval_loss")
_FIGURES = (
    *_LOSSES,
    *("learning_rate", "grad_norm"),
    *("tokens_per_second", "learned_tokens_per_second", "padding", "memory", "memory_peak"),
)


class Watch(TrainerCallback):
    """Reports every step, has the last one evaluated, and ends an evaluation that is to stop."""

    def __init__(self, on_report: OnReport, stop: Stop) -> None:
        self._on_report = on_report
        self._stop = stop
        self._figures: dict[str, float] = {}

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        del args
        if state.global_step >= state.max_steps:
            control.should_evaluate = True

    def on_prediction_step(self, *_: object, **__: object) -> None:
        if self._stop:
            raise Stopped

    def on_log(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **given: Any) -> None:
        del args, control
        logs: dict[str, float] = given["logs"]
        if not math.isfinite(logs.get("eval_loss", 0.0)):
            raise Unusable(f"eval_loss is {logs['eval_loss']} at step {state.global_step}: training went astray")
        self._figures |= {name: logs[name] for name in _FIGURES if name in logs}
        if logs.keys() & _LOSSES:
            self._on_report(Step(done=state.global_step, total=state.max_steps, figures=self._figures))


class UntilFilesChange(TrainerCallback):
    """Stops a run whose files have changed since this was made: a repository was forgotten, and it begins anew."""

    def __init__(self, path: Path, ranks: Ranks) -> None:
        self._path = path
        self._ranks = ranks
        self._as_read = self._now()

    def _now(self) -> tuple[int, int]:
        state = self._path.stat()
        return state.st_ino, state.st_mtime_ns

    def on_step_begin(self, *_: object, **__: object) -> None:
        if self._ranks.any(self._now() != self._as_read):
            raise Stopped

    on_save = on_step_begin


class AdapterDtype(TrainerCallback):
    """Has the adapter trained in the numbers that the settings ask for.

    TRL makes bfloat16 of an adapter beside a quantised base, and peft float32 of one that it loads (peft#2421).
    """

    def __init__(self, dtype: torch.dtype) -> None:
        self._dtype = dtype

    def apply(self, model: torch.nn.Module) -> None:
        """Convert what is trained, before there is an optimiser for it."""
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.data = parameter.data.to(self._dtype)

    def on_train_begin(self, *_: object, **given: Any) -> None:
        """Also when a run is resumed, after its adapter and its optimiser were loaded.

        Raises:
            Unusable: a parameter has another type.
        """
        for name, parameter in given["model"].named_parameters():
            if parameter.requires_grad and parameter.dtype != self._dtype:
                raise Unusable(f"{name} is trained in {parameter.dtype} instead of {self._dtype}")
