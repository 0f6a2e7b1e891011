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
    """What both kinds of subscription say."""

    name: str
    """Unique within the plugin; the host makes it ``<plugin>.<name>``."""
    events: tuple[type[Event], ...]
    """What it wants. Events of one stream are handled in order."""
    emits: tuple[type[Event], ...] = ()
    """What the handler may emit: for display, and for the order in which subscriptions are shown."""
    retry: RetryPolicy = field(default_factory=RetryPolicy)
    """How often, and how far apart, it is tried when it fails."""
    dead_letter_blocks_stream: bool = True
    """Whether a dead letter holds back the rest of its stream."""
    from_now: bool = False
    """Whether it starts at the log's end when it is seen for the first time, and with each type that is added to its
    ``events`` later; otherwise at the log's beginning."""
    replayable: bool = True
    """False makes ``codelupe replay`` refuse, but not ``--rebuild``, which emits nothing."""
    version: int = 1
    """Raising it gives replayed events new idempotency keys, so that what the handler emits counts as new."""
    timeout: timedelta | None = timedelta(hours=1)
    """For one call: of a batch subscription, for the whole batch. A handler that is not done by then is cancelled and
    has failed; None lets it go on for as long as it likes."""
    grace: timedelta = GRACE
    """For a handler that is cancelled, by its timeout or because the daemon stops, to clean up. One that still goes on
    after that is logged as ``handler_ignores_cancellation``, and its process ends with the exit code 70."""

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
    another. What a handler raises after its transaction has committed is logged as ``failed_after_commit``, and the
    event counts as handled.
    """

    handler: Handler
    """Called with the event and a :class:`HandlerContext`."""
    concurrency: int = 4
    """How many events it may handle at once in one process."""


@dataclass(frozen=True, kw_only=True)
class BatchSubscription(Subscribed):
    """A handler for cheap work: up to ``size`` events a call, in the log's order, in one process of the cluster.

    It is called inside a transaction, and what it writes there, what it emits and how far the subscription has come
    commit together. A batch that fails is tried in smaller pieces; an event that fails alone is handled by itself
    from then on, with retries and dead letters as in a :class:`Subscription`, and its stream queues behind it. So is
    an event over which processes end, first with others and then alone.

    While a service that the handler needs is away, it raises ``RetryLater(reason, after=…, counts=False)``: the same
    events come again after that time, however often, and none fails.
    """

    handler: BatchHandler
    """Called with a list of events and a :class:`BatchContext`."""
    size: int = 1000
    """How many events a call may have."""
    projects_to: tuple[str, ...] = ()
    """The tables that this handler alone writes and that its events alone fill: they can be rebuilt beside the live
    ones (``codelupe replay --rebuild``)."""


@dataclass(frozen=True, kw_only=True)
class Job:
    """Work that its own schedule starts, in one process of the cluster at a time.

    Under ``run --until-idle`` it runs whenever the log is idle instead, until no job brings anything new. One over
    which ten processes have died, one after another, is paused.
    """

    name: str
    """Unique within the plugin; the host makes it ``<plugin>.<name>``."""
    every: timedelta
    """How long after the end of a run, whatever came of it, the next one is due."""
    run: Callable[[JobContext], Awaitable[None]]
    """Called with a :class:`JobContext`."""
    emits: tuple[type[Event], ...] = ()
    """What it may emit: for display, and for the order in which subscriptions are shown."""
    timeout: timedelta | None = timedelta(hours=1)
    """For one run. One that is not done by then is cancelled and has failed; None lets it go on for as long as it
    likes."""
    grace: timedelta = GRACE
    """For a run that is cancelled to clean up, as that of a :class:`Subscription`."""


@dataclass(frozen=True, kw_only=True)
class Service:
    """A task that runs as long as the daemon; it is started again, with a growing pause, when it fails.

    It has no timeout.
    """

    name: str
    """Unique within the plugin; the host makes it ``<plugin>.<name>``."""
    run: Callable[[JobContext], Awaitable[None]]
    """Called with a :class:`JobContext`; a service that returns has ended for this process."""
    leader: bool = False
    """Whether it runs in one process of the cluster at a time."""
    grace: timedelta = GRACE
    """For a service that is cancelled to clean up, as that of a :class:`Subscription`."""
