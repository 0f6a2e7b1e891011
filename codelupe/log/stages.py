"""A stage: a plugin's subscription or job under its full name."""

from __future__ import annotations

import random
from dataclasses import dataclass
from datetime import timedelta

from codelupe.contracts import BatchSubscription, Job, RetryPolicy, Service, Subscription


@dataclass(frozen=True, kw_only=True)
class Stage:
    """A subscription as the log knows it: ``<plugin>.<name>``."""

    name: str
    subscription: Subscription | BatchSubscription

    @property
    def event_types(self) -> list[str]:
        return [event.__name__ for event in self.subscription.events]


@dataclass(frozen=True, kw_only=True)
class NamedJob:
    """A job under its full name."""

    name: str
    job: Job


@dataclass(frozen=True, kw_only=True)
class NamedService:
    """A service under its full name."""

    name: str
    service: Service


def backoff(policy: RetryPolicy, failures: int) -> timedelta:
    """How long to wait after the n-th failure: doubling, capped, with jitter so that retries do not come in step."""
    doubled = policy.base.total_seconds() * 2 ** min(failures - 1, 60)
    return timedelta(seconds=min(policy.cap.total_seconds(), doubled) * random.uniform(0.5, 1.0))
