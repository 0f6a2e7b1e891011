"""How often and how far apart things that failed are tried again."""

from __future__ import annotations

import random
from dataclasses import dataclass
from datetime import timedelta


@dataclass(frozen=True, kw_only=True)
class RetryPolicy:
    """How often, and how far apart, a failing handler is tried before its event is dead-lettered.

    The wait before attempt n+1 is ``base * 2**(n-1)``, at most ``cap``, times a random factor of 0.5 to 1. A worker
    that crashes uses up no attempt, but an event over which ``crashes`` workers died is dead-lettered, too: it may
    have killed them.
    """

    attempts: int = 5
    crashes: int = 10
    base: timedelta = timedelta(seconds=2)
    cap: timedelta = timedelta(minutes=10)


def backoff(policy: RetryPolicy, failures: int) -> timedelta:
    """How long to wait after the n-th failure: doubling, capped, with jitter so that retries do not come in step."""
    doubled = policy.base.total_seconds() * 2 ** min(failures - 1, 60)
    return timedelta(seconds=min(policy.cap.total_seconds(), doubled) * random.uniform(0.5, 1.0))
