"""What a step takes: time, tokens and memory."""

from __future__ import annotations

import resource
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

_PAGE = resource.getpagesize()


class StepFigures:
    """Of one step after another, what this process has done of it itself.

    Micro-batches whose gradients come from a checkpoint count for nothing, neither does the time between two steps, in
    which evaluations lie.
    """

    def __init__(self) -> None:
        self._began = time.monotonic()
        self._micro_batches: list[dict[str, torch.Tensor]] = []

    def begin(self) -> None:
        """A step begins, with the reading of its rows."""
        self._began = time.monotonic()
        self._micro_batches.clear()

    def add(self, inputs: dict[str, torch.Tensor]) -> None:
        """A micro-batch is learned from."""
        self._micro_batches.append(inputs)

    @contextmanager
    def apart(self) -> Iterator[None]:
        """What happens inside takes none of the step's time."""
        began = time.monotonic()
        try:
            yield
        finally:
            self._began += time.monotonic() - began

    def of_step(self) -> dict[str, float]:
        """Those of the step that ends now.

        ``tokens_per_second`` of all tokens but padding, ``learned_tokens_per_second`` of those with a share in the
        loss, ``padding`` as a share of all from 0 to 1; none of these if the step was done before. ``memory`` and
        ``memory_peak`` in bytes: what tensors take on the card, or what this process takes of the machine's memory.
        """
        return self._speed(time.monotonic() - self._began) | _memory()

    def _speed(self, seconds: float) -> dict[str, float]:
        if not self._micro_batches:
            return {}
        places = sum(inputs["input_ids"].numel() for inputs in self._micro_batches)
        tokens = sum(_tokens(inputs) for inputs in self._micro_batches)
        learned = sum(int((inputs["labels"] >= 0).sum()) for inputs in self._micro_batches)
        return {
            "tokens_per_second": tokens / seconds,
            "learned_tokens_per_second": learned / seconds,
            "padding": 1 - tokens / places,
        }


def _tokens(inputs: dict[str, torch.Tensor]) -> int:
    """Packed rows have no padding, and no mask."""
    mask = inputs.get("attention_mask")
    return inputs["input_ids"].numel() if mask is None else int(mask.sum())


def _memory() -> dict[str, float]:
    if torch.cuda.is_available():
        return {"memory": torch.cuda.memory_allocated(), "memory_peak": torch.cuda.max_memory_allocated()}
    resident = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1]) * _PAGE
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return {"memory": resident, "memory_peak": max(resident, peak)}  # the kernel counts the peak less often
