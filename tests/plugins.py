"""Plugins made on the spot, as a third party would write them."""

from __future__ import annotations

import types
from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from typing import TypeVar

from codelupe import BatchSubscription, Job, RetryPolicy, Service, Subscription, hookimpl
from codelupe_events import BatchReady, RepoEmpty

FAST = RetryPolicy(attempts=3, base=timedelta(milliseconds=10), cap=timedelta(milliseconds=50))


def make_plugin(
    *,
    subscriptions: Sequence[Subscription | BatchSubscription] = (),
    jobs: Sequence[Job] = (),
    services: Sequence[Service] = (),
) -> object:
    """A plugin that offers these."""

    @hookimpl
    def codelupe_subscriptions() -> Sequence[Subscription | BatchSubscription]:
        return subscriptions

    @hookimpl
    def codelupe_jobs() -> Sequence[Job]:
        return jobs

    @hookimpl
    def codelupe_services() -> Sequence[Service]:
        return services

    return types.SimpleNamespace(
        codelupe_subscriptions=codelupe_subscriptions, codelupe_jobs=codelupe_jobs, codelupe_services=codelupe_services
    )


def batch(number: int, files: int = 0) -> BatchReady:
    """An event of the stream ``batch/<number>``."""
    return BatchReady(batch_id=number, files=files, characters=0, repositories=0, min_score=0)


def empty(number: int) -> RepoEmpty:
    """An event of the stream ``repo/test:<number>``."""
    return RepoEmpty(repository_id=f"test:{number}", url="file:///nowhere")


S = TypeVar("S", Subscription, BatchSubscription)


def named(plugin: str, subscription: S) -> S:
    """The subscription under its full name, as the host makes it."""
    return replace(subscription, name=f"{plugin}.{subscription.name}")
