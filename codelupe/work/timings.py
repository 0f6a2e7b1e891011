"""How long the loops of this process wait."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta

from codelupe.work.retry import RetryPolicy


@dataclass(frozen=True, kw_only=True)
class Timings:
    """Seconds between two looks, and how far apart a failing service is started again."""

    poll: float = 1.0
    """How often a loop looks by itself, should no notification reach it."""
    leader_poll: float = 5.0
    """How often a process that does not lead asks whether it may."""
    job_poll: float = 60.0
    """How often a job that is not due is looked at: its run may be wanted, or the clock set."""
    partitions: float = 10.0
    """How often partitions are made ahead of the newest event."""
    blocked: float = 2.0
    """After how long the event loop counts as blocked when it does not answer: more than a loaded machine or a large
    event costs, and so little that others miss two looks at most and no lease, whose heartbeat has its own thread."""
    restarts: RetryPolicy = field(
        default_factory=lambda: RetryPolicy(base=timedelta(seconds=1), cap=timedelta(minutes=5))
    )
    """For services; their attempts are not counted."""


DEFAULT = Timings()
