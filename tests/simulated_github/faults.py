"""What goes wrong on the way, by chance that is the same for the same seed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

Fault = Literal["bad gateway", "html", "cut", "secondary", "bare secondary", "too many"]


@dataclass(frozen=True, kw_only=True)
class Faults:
    """Shares of requests, unless it says otherwise; all zero is a GitHub that behaves."""

    gateway: float = 0.0
    """502 or 504, half of them with HTML."""
    cut: float = 0.0
    """The connection ends within the body."""
    secondary: float = 0.0
    """A secondary limit, half of them a bare 403 with quota left, some of them 429."""
    incomplete: float = 0.0
    """``incomplete_results``: some of what matches is not there."""
    lacking: float = 0.0
    """Share of slices of which a page lacks items the first time, while the total counts them."""
    nulls: float = 0.0
    """Share of pages with a ``null`` in place of an item, the first time."""
    stale_resets: float = 0.0
    """Share of answers at a limit whose reset lies in the past."""
    clock_skew: float = 0.0
    """Seconds that the server's clock is ahead."""

    def draw(self, random: np.random.Generator) -> Fault | None:
        """What happens to one request."""
        chance = random.random()
        if chance < self.gateway:
            return "html" if random.random() < 0.5 else "bad gateway"
        if chance < self.gateway + self.cut:
            return "cut"
        if chance < self.gateway + self.cut + self.secondary:
            kinds: tuple[Fault, ...] = ("bare secondary", "bare secondary", "secondary", "too many")
            return kinds[int(random.integers(len(kinds)))]
        return None


NONE = Faults()
AS_MEASURED = Faults(
    gateway=0.01, cut=0.005, secondary=0.01, incomplete=0.02, lacking=0.05, nulls=0.01, stale_resets=0.3, clock_skew=90.0
)
"""The shares by which the crawler is judged."""
