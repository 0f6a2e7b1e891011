"""The plugin under test. Its handlers leave a row for every event they handle, dawdle, and now and then fail."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from random import Random

import anyio

from codelupe import (
    BatchContext,
    BatchSubscription,
    HandlerContext,
    Reject,
    RetryLater,
    RetryPolicy,
    Subscription,
    hookimpl,
)
from codelupe.postgres.queries import load_queries
from codelupe_events import BatchReady, Event, RepoEmpty
from codelupe_events import event as declare

SQL = load_queries("tests.chaos", "chaos")
NAME = "chaos"
HOT_BATCH = 1_000_000
HOT_STREAM = f"batch/{HOT_BATCH}"
"""Has far more events than any other, and a head that is a dead letter until the driver lets it go."""
OLDER, NEWER = "1", "2"
"""The plugin's versions: the older one does not want :class:`RepoEchoed`."""
_RETRY = RetryPolicy(
    attempts=1_000_000, crashes=1_000_000, base=timedelta(milliseconds=10), cap=timedelta(milliseconds=200)
)
_DAWDLE_SECONDS = (0, 0, 0.005, 0.02)
_FAILS = 0.01
_BATCH_EMITS_EVERY = 10
_POISON_EVERY = 400
"""Every so many events there is one that a batch handler fails on more often than not."""


@declare()
class RepoEchoed(RepoEmpty, frozen=True, kw_only=True):
    """What the newer version of the plugin wants besides; in the same streams."""


@dataclass(frozen=True, kw_only=True)
class Expected:
    """What the checker is told of a subscription: it emits for every n-th event, or for none."""

    name: str
    event: type[Event]
    emits_every: int | None = None


EXPECTED = (
    Expected(name=f"{NAME}.each", event=BatchReady, emits_every=1),
    Expected(name=f"{NAME}.batches", event=BatchReady, emits_every=_BATCH_EMITS_EVERY),
    Expected(name=f"{NAME}.emitted", event=RepoEmpty),
    Expected(name=f"{NAME}.emitted", event=RepoEchoed),
)


class ChaosPlugin:
    """The plugin as a process loads it."""

    def __init__(self, random: Random, version: str) -> None:
        self._random = random
        self._version = version

    @hookimpl
    def codelupe_subscriptions(self) -> list[Subscription | BatchSubscription]:
        return [
            Subscription(
                name="each",
                events=(BatchReady,),
                handler=self.handle_and_emit,
                emits=(RepoEmpty, RepoEchoed),
                concurrency=6,
                retry=_RETRY,
            ),
            BatchSubscription(
                name="batches",
                events=(BatchReady,),
                handler=self.handle_batch,
                emits=(RepoEmpty, RepoEchoed),
                size=50,
                retry=_RETRY,
            ),
            Subscription(
                name="emitted",
                events=(RepoEmpty,) if self._version == OLDER else (RepoEmpty, RepoEchoed),
                handler=self.handle,
                concurrency=6,
                retry=_RETRY,
            ),
        ]

    async def handle_and_emit(self, event: BatchReady, context: HandlerContext) -> None:
        await self._dawdle()
        async with context.transaction() as connection:
            if event.batch_id == HOT_BATCH and await connection.fetchval(SQL.is_hot_stream_blocked):
                raise Reject("the head of the hot stream")
            await connection.execute(SQL.insert_effect, *self._effect(context))
            context.emit(emitted_because_of(event))
            await self._dawdle()

    async def handle_batch(self, events: Sequence[BatchReady], context: BatchContext) -> None:
        for event, recorded in zip(events, await context.recorded(), strict=True):
            effect = (context.name, recorded.stream, recorded.position, 1, self._version)
            await context.connection.execute(SQL.insert_effect, *effect)
            if event.files % _BATCH_EMITS_EVERY == 0:
                context.emit(emitted_because_of(event), because=event)
            if event.files % _POISON_EVERY == 0 and self._random.random() < 0.7:
                raise RuntimeError("an event that spoils its batch")
        await self._dawdle()

    async def handle(self, event: RepoEmpty, context: HandlerContext) -> None:
        async with context.transaction() as connection:
            await connection.execute(SQL.insert_effect, *self._effect(context))
            await self._dawdle()

    def _effect(self, context: HandlerContext) -> tuple[str, str, int, int, str]:
        recorded = context.recorded
        return context.name, recorded.stream, recorded.position, context.attempt, self._version

    async def _dawdle(self) -> None:
        """Take a while, so that faults find something under way, and sometimes fail then."""
        await anyio.sleep(self._random.choice(_DAWDLE_SECONDS))
        luck = self._random.random()
        if luck < _FAILS / 2:
            raise RuntimeError("a handler that fails")
        if luck < _FAILS:
            raise RetryLater("a handler that puts it off", after=timedelta(milliseconds=50), counts=False)


def emitted_because_of(event: BatchReady) -> RepoEmpty:
    """It carries the number on; every third is of the type that only the newer version wants."""
    kind = RepoEmpty if event.files % 3 else RepoEchoed
    return kind(repository_id=f"{NAME}:{event.batch_id}", url=str(event.files))
