"""What a step takes: time, tokens and memory."""

from __future__ import annotations

import resource
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from codelupe_trainer.child.ranks import Ranks

_PAGE = resource.getpagesize()


class StepFigures:
    """Of one step after another, what the ranks have done of it themselves.

    Micro-batches whose gradients come from a checkpoint count for nothing, neither does the time between two steps, in
    which evaluations lie.
    """

    def __init__(self, ranks: Ranks) -> None:
        self._ranks = ranks
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
        ``memory_peak`` in bytes: what this rank's tensors take on its card, or its process of the machine's memory.
        """
        return self._speed(time.monotonic() - self._began) | _memory()

    def _speed(self, seconds: float) -> dict[str, float]:
        own = (
            sum(inputs["input_ids"].numel() for inputs in self._micro_batches),
            sum(_tokens(inputs) for inputs in self._micro_batches),
            sum(int((inputs["labels"] >= 0).sum()) for inputs in self._micro_batches),
        )
        places, tokens, learned = map(sum, zip(*self._ranks.gather(own), strict=True))
        if not places:
            return {}
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
