"""What a plugin subscribes to, and the work that it does by itself."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from functools import cached_property
from typing import Any

from codelupe.work.context import BatchContext, HandlerContext, JobContext
from codelupe.work.retry import RetryPolicy
from codelupe_events import Event

Handler = Callable[[Any, HandlerContext], Awaitable[None]]
BatchHandler = Callable[[Sequence[Any], BatchContext], Awaitable[None]]

GRACE = timedelta(seconds=30)
"""Enough for what the host itself does for a handler that is cancelled: a rollback, and connections to be closed."""


@dataclass(frozen=True, kw_only=True)
class Subscribed:
    """What both kinds of subscription say.

    ``name`` is unique within the plugin; the host makes it ``<plugin>.<name>``. ``emits`` says which events the
    handler may emit: it is for display, and decides in which order subscriptions are shown. Events of one stream are
    handled in order. A dead letter holds back the rest of its stream if ``dead_letter_blocks_stream``. A subscription
    seen for the first time starts at the log's beginning, or at its end if ``from_now``. Raising ``version`` gives
    replayed events new idempotency keys, so that what the handler emits counts as new.

    A call of the handler that is not done within ``timeout`` is cancelled and has failed; None lets it go on for as
    long as it likes. A handler that is cancelled, then or because the daemon stops, has ``grace`` to clean up. One that
    still goes on after that is logged as ``handler_ignores_cancellation`` and costs its process a restart.
    """

    name: str
    events: tuple[type[Event], ...]
    emits: tuple[type[Event], ...] = ()
    retry: RetryPolicy = field(default_factory=RetryPolicy)
    dead_letter_blocks_stream: bool = True
    from_now: bool = False
    replayable: bool = True
    version: int = 1
    timeout: timedelta | None = timedelta(hours=1)
    grace: timedelta = GRACE

    @property
    def event_types(self) -> list[str]:
        """The types as the log may have recorded them, former names included."""
        return [name for event in self.events for name in (event.__name__, *event.former_names)]

    @cached_property
    def kinds(self) -> list[tuple[str, int]]:
        """Every type with every version of it that this code can read."""
        return [
            (name, version)
            for event in self.events
            for name in (event.__name__, *event.former_names)
            for version in range(1, event.version + 1)
        ]


@dataclass(frozen=True, kw_only=True)
class Subscription(Subscribed):
    """A handler for one event at a time, of milliseconds or of hours, at most ``concurrency`` at once in this process.

    Different streams are handled in parallel, over all processes on the same database; one stream's events one after
    another.
    """

    handler: Handler
    concurrency: int = 4


@dataclass(frozen=True, kw_only=True)
class BatchSubscription(Subscribed):
    """A handler for cheap work: up to ``size`` events a call, in the log's order, in one process of the cluster.

    It is called inside a transaction, and what it writes there, what it emits and how far the subscription has come
    commit together. A batch that fails is tried in smaller pieces; an event that fails alone is handled by itself
    from then on, with retries and dead letters as in a :class:`Subscription`, and its stream queues behind it.

    While a service that the handler needs is away, it raises ``RetryLater(reason, after=…, counts=False)``: the same
    events come again after that time, however often, and none fails.

    ``projects_to`` names the tables that this handler alone writes and that its events alone fill: they can be
    rebuilt beside the live ones (``codelupe replay --rebuild``).
    """

    handler: BatchHandler
    size: int = 1000
    projects_to: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Job:
    """Work that its own schedule starts: every ``every``, in one process of the cluster at a time.

    ``name`` is unique within the plugin; the host makes it ``<plugin>.<name>``. Under ``run --until-idle`` it runs
    whenever the log is idle instead, until no job brings anything new.

    A run that is not done within ``timeout`` is cancelled and has failed. ``grace`` is as for subscriptions.
    """

    name: str
    every: timedelta
    run: Callable[[JobContext], Awaitable[None]]
    emits: tuple[type[Event], ...] = ()
    timeout: timedelta | None = timedelta(hours=1)
    grace: timedelta = GRACE


@dataclass(frozen=True, kw_only=True)
class Service:
    """A task that runs as long as the daemon; it is started again, with a growing pause, when it fails.

    With ``leader`` it runs in one process of the cluster at a time. ``grace`` is as for subscriptions.
    """

    name: str
    run: Callable[[JobContext], Awaitable[None]]
    leader: bool = False
    grace: timedelta = GRACE
