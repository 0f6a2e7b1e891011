"""What goes wrong on the way, by chance that is the same for the same seed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

Fault = Literal["gateway", "cut", "reset", "secondary", "bare secondary", "too many", "garbled"]


@dataclass(frozen=True, kw_only=True)
class Faults:
    """Shares of requests, unless it says otherwise; all zero is a GitHub that behaves."""

    gateway: float = 0.0
    """502 or 504, half of them with HTML."""
    cut: float = 0.0
    """The connection ends within the body, or is reset before the first byte."""
    secondary: float = 0.0
    """A secondary limit, half of them a bare 403 with quota left, some of them 429; GraphQL says it at 200, too."""
    garbled: float = 0.0
    """200 with HTML, or with a message in place of what was asked for (github-crawler#109)."""
    incomplete: float = 0.0
    """Share of searches with ``incomplete_results``: some of what matches is not there."""
    lacking: float = 0.0
    """Share of slices of which a page lacks items the first time, while the total counts them (sourcegraph#50028)."""
    repeating: float = 0.0
    """Share of slices of which a page, the first time, has items of another page in place of its own."""
    nulls: float = 0.0
    """Share of pages with a ``null`` in place of an item, the first time (sourcegraph#45969)."""
    shuffles_ties: bool = False
    """What is equal by the sort comes in another order at each request."""
    partial: float = 0.0
    """Share of GraphQL answers of which a part is missing, with an error that says so."""
    stale_resets: float = 0.0
    """Share of answers at a limit whose reset lies in the past."""
    clock_skew: float = 0.0
    """Seconds that the server's clock is ahead."""
    most_counts: int | None = None
    """A GraphQL request with more searches than that takes too long: 502."""

    def draw(self, random: np.random.Generator) -> Fault | None:
        """What happens to one request."""
        shares: dict[Fault, float] = {
            "gateway": self.gateway,
            "cut": self.cut / 2,
            "reset": self.cut / 2,
            "bare secondary": self.secondary / 2,
            "secondary": self.secondary / 4,
            "too many": self.secondary / 4,
            "garbled": self.garbled,
        }
        chance = random.random()
        for fault, share in shares.items():
            if chance < share:
                return fault
            chance -= share
        return None


NONE = Faults()
ALL = Faults(
    gateway=0.01,
    cut=0.005,
    secondary=0.01,
    incomplete=0.02,
    lacking=0.05,
    nulls=0.002,
    shuffles_ties=True,
    partial=0.02,
    stale_resets=0.3,
    clock_skew=90.0,
)
"""The shares by which the crawler is judged."""
