"""TRL's trainer, made to stop between two micro-batches and to go on as if it had not.

Four things differ from transformers' own loop:

- A checkpoint can lie inside a step: it holds the gradients of the micro-batches that are done.
- A checkpoint precedes each evaluation, and a run that is resumed there evaluates first. Evaluations come by steps
  only; a clock that asked for them would let early stopping depend on the machine's speed, and a resumed run would
  differ from one that was left alone.
- The random numbers of a micro-batch follow from its place in the run. Whatever else draws some (the iterators over
  the data, an evaluation that is repeated) does not change what is dropped out.
- Several ranks act as one: they save, stop and judge a step together.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from peft import set_peft_model_state_dict
from safetensors.torch import load_file, save_file
from trl.trainer.sft_trainer import SFTTrainer

from codelupe_trainer.child.checkpoints import Checkpoints, Manifest
from codelupe_trainer.child.figures import StepFigures
from codelupe_trainer.child.guard import Guard
from codelupe_trainer.child.ranks import Ranks
from codelupe_trainer.child.stop import Stop, Stopped
from codelupe_trainer.samples.encoding import IGNORED

ADAPTER_WEIGHTS = "adapter_model.safetensors"

Inputs = dict[str, torch.Tensor]
_Trainer: Any = SFTTrainer
"""Half typed."""


class ResumableTrainer(_Trainer):  # type: ignore[misc]
    """Saves through ``checkpoints`` when it is to stop, before evaluations, and every ``checkpoint_seconds``.

    The rows are read in the order in which they are given.
    """

    def __init__(
        self,
        *,
        ranks: Ranks,
        checkpoints: Checkpoints,
        checkpoint_seconds: float,
        stop: Stop,
        guard: Guard,
        **given: Any,
    ) -> None:
        super().__init__(**given)
        self._ranks = ranks
        self._step_inputs: list[Inputs] = []
        self._figures = StepFigures(ranks)
        self._checkpoints = checkpoints
        self._checkpoint_seconds = checkpoint_seconds
        self._stop = stop
        self._guard = guard
        self._last: Manifest | None = None
        self._saved_at = 0.0
        self._step_begun = -1

    def run(self, resume_from: Manifest | None) -> None:
        """Train to the end.

        Raises:
            Stopped: it was asked to, and a checkpoint is there.
            Astray: a step is not to be taken.
            DiskFull: there is no room for a checkpoint.
        """
        self._last, self._saved_at = resume_from, time.monotonic()
        self.args.eval_on_start = resume_from is not None and resume_from.awaits_evaluation
        self.train(resume_from_checkpoint=str(self._checkpoints.path(resume_from.step)) if resume_from else None)

    def samples_of_step(self) -> set[tuple[int, ...]]:
        """The tokens of each sample that the step under way has seen, on any rank."""
        return set().union(*self._ranks.gather({sample for inputs in self._step_inputs for sample in _samples(inputs)}))

    # --- a step ---

    def get_batch_samples(self, *given: Any, **named: Any) -> Any:
        """The rows of the step that begins."""
        self._figures.begin()
        return super().get_batch_samples(*given, **named)

    def training_step(self, model: Any, inputs: Inputs, num_items_in_batch: Any = None) -> torch.Tensor:
        rows = self._begin_micro_batch(inputs)
        if not self._guard.counts(self.state.global_step + 1):
            return torch.zeros((), device=self.args.device)
        if rows < self._restorable_rows():
            return self._restore(rows)
        self._save_if_due(rows)
        if self._ranks.size == 1 and not (inputs["labels"] != IGNORED).any():
            return torch.zeros((), device=self.args.device)
        self._figures.add(inputs)
        self._seed(rows + self._ranks.rank * self._micro_batch)
        loss: torch.Tensor = super().training_step(model, inputs, num_items_in_batch)
        return loss

    def _begin_micro_batch(self, inputs: Inputs) -> int:
        """Rows of its step that come before it and those that the other ranks have beside it."""
        if self._step_begun != self.state.global_step:
            self._step_begun = self.state.global_step
            self._step_inputs.clear()
        self._step_inputs.append(inputs)
        return (len(self._step_inputs) - 1) * self._rows_at_a_time

    @property
    def _micro_batch(self) -> int:
        return int(self.args.per_device_train_batch_size)

    @property
    def _rows_at_a_time(self) -> int:
        return self._micro_batch * self._ranks.size

    def _restorable_rows(self) -> int:
        """Rows of this step whose gradients the checkpoint holds; not if they end inside a micro-batch of now, or
        other ranks had them.
        """
        last = self._last
        if last is None or last.step != self.state.global_step:
            return 0
        return last.rows if len(last.losses) == self._ranks.size and not last.rows % self._rows_at_a_time else 0

    def _restore(self, rows: int) -> torch.Tensor:
        """Pass over a micro-batch that was done before; with the last of them come the gradients and the loss."""
        assert self._last is not None
        if rows + self._rows_at_a_time < self._last.rows:
            return torch.zeros((), device=self.args.device)
        gradients = load_file(self._checkpoints.path(self._last.step) / self._gradients)
        for name, parameter in self._trained():
            parameter.grad = gradients[name].to(parameter.device) if name in gradients else None
        return torch.tensor(self._last.losses[self._ranks.rank], device=self.args.device)

    def _seed(self, rows: int) -> None:
        place = f"{self.args.seed}/{self.state.global_step}/{rows}".encode()
        torch.manual_seed(int.from_bytes(hashlib.blake2b(place, digest_size=7).digest()))

    def _get_grad_norm(self, model: Any, grad_norm: Any = None) -> Any:
        """The last that is known of a step before the optimiser takes it."""
        norm = super()._get_grad_norm(model, grad_norm)
        self._guard.check(self.state, loss=self._ranks.mean(float(self._tr_loss)), grad_norm=float(norm))
        return norm

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """With what the step has taken; not of one that is left out, whose loss means nothing."""
        if "loss" in logs:
            if not self._guard.counts(self.state.global_step):
                return
            logs |= self._figures.of_step()
        super().log(logs, start_time)

    # --- checkpoints ---

    def _save_if_due(self, rows: int) -> None:
        if self._stop or self._ranks.any(time.monotonic() - self._saved_at >= self._checkpoint_seconds):
            self._save_at(rows)

    def _save_at(self, rows: int, *, awaits_evaluation: bool = False) -> None:
        with self._figures.apart():
            self._write_checkpoint(rows, awaits_evaluation=awaits_evaluation)
            self.callback_handler.on_save(self.args, self.state, self.control)

    def _write_checkpoint(self, rows: int, *, awaits_evaluation: bool) -> None:
        manifest = Manifest(
            run=self._checkpoints.run,
            step=self.state.global_step,
            rows=rows,
            losses=tuple(self._ranks.gather(float(self._tr_loss))) if rows else (),
            awaits_evaluation=awaits_evaluation,
            best=self.state.best_global_step,
        )
        with self._checkpoints.new(manifest, self._size(rows)) as folder:
            self._save_checkpoint(self.model, None)
            if rows:
                self._save_gradients(folder)
        self._saved_at = time.monotonic()
        if self._stop:
            raise Stopped

    def _save_gradients(self, folder: Path) -> None:
        gradients = {name: one.grad.contiguous() for name, one in self._trained() if one.grad is not None}
        save_file(gradients, folder / self._gradients)

    @property
    def _gradients(self) -> str:
        """Each rank's own file: they are added up when the step is complete, and so in the same order."""
        return f"gradients-{self._ranks.rank}.safetensors"

    def _size(self, rows: int) -> int:
        """Bytes of a checkpoint's tensors: the adapter, its gradients inside a step, and the optimiser's states."""
        adapters = 1 + self._ranks.size if rows else 1
        adapter = sum(parameter.nbytes for _, parameter in self._trained())
        states = [value for state in self.optimizer.state.values() for value in state.values()]
        return adapters * adapter + sum(one.nbytes for one in states if isinstance(one, torch.Tensor))

    def _trained(self) -> Iterator[tuple[str, torch.nn.Parameter]]:
        return ((name, one) for name, one in self.model.named_parameters() if one.requires_grad)

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        """Into the parameters as they are: peft's own ``load_adapter`` makes float32 of them (peft#2421)."""
        del model
        set_peft_model_state_dict(self.model, load_file(Path(resume_from_checkpoint, ADAPTER_WEIGHTS)))

    # --- evaluation ---

    def _evaluate(self, *given: Any, **named: Any) -> dict[str, float]:
        """Evaluate once per step, whether or not the run was stopped in it, and note the best."""
        if not (self._last and self._last.awaits_evaluation and self._last.step == self.state.global_step):
            self._save_at(0, awaits_evaluation=True)
        metrics: dict[str, float] = super()._evaluate(*given, **named)
        if self._determine_best_metric(metrics, None):
            self.state.best_global_step = self.state.global_step
        return metrics

    def _run_epoch(self, *given: Any, **named: Any) -> None:
        """Not if an evaluation that came first has ended the run."""
        if not self.control.should_training_stop:
            super()._run_epoch(*given, **named)


def _samples(inputs: Inputs) -> Iterator[tuple[int, ...]]:
    """Packed samples lie one behind the other in one row, in which the positions of each begin at 0."""
    ids = inputs["input_ids"]
    if (mask := inputs.get("attention_mask")) is not None:
        yield from (tuple(row[kept.bool()].tolist()) for row, kept in zip(ids, mask, strict=True))
    else:
        starts = (inputs["position_ids"][0] == 0).nonzero().flatten().tolist()
        for start, end in pairwise([*starts, ids.shape[1]]):
            yield tuple(ids[0, start:end].tolist())
