"""Sees a step that would lead training astray before its gradients are used."""

from __future__ import annotations

import math
from collections.abc import Collection
from statistics import median

from transformers import TrainerState

_WINDOW = 50
_FEWEST = 10
"""Steps before a median means anything."""


class Astray(Exception):
    """A step's loss or gradient is no number, or far from those before."""

    def __init__(self, step: int, cause: str) -> None:
        super().__init__(f"{cause} at step {step}: training went astray")
        self.step = step


class Guard:
    """Compares each step with the median of up to fifty before it, which the checkpoints hold.

    The median and a factor of ten are heuristics: gradient norms of ordinary steps differ by less (they are bounded
    by the clipping of the steps before), while a single broken row moves them by orders of magnitude.
    """

    def __init__(self, spike_factor: float, skipped_steps: Collection[int]) -> None:
        self._spike_factor = spike_factor
        self.skipped_steps = skipped_steps

    def check(self, state: TrainerState, **figures: float) -> None:
        """Look at the figures of the step that comes next.

        Raises:
            Astray: one is not finite or, with a spike factor above 0, too large.
        """
        step = state.global_step + 1
        for name, value in figures.items():
            if not math.isfinite(value):
                raise Astray(step, f"{name} is {value}")
            before = [entry[name] for entry in state.log_history if name in entry and self.counts(entry["step"])]
            usual = median(before[-_WINDOW:]) if len(before) >= _FEWEST else math.inf
            if self._spike_factor and value > self._spike_factor * usual:
                raise Astray(step, f"{name} is {value:.4g}, {value / usual:.0f} times its median,")

    def counts(self, step: float) -> bool:
        """Whether the step was trained."""
        return step not in self.skipped_steps
