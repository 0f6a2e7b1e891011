"""Turns events into tasks for all consumers of this process, and brings each what it has room for."""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from contextlib import ExitStack

import anyio
import structlog

from codelupe.log.notifier import Signal
from codelupe.postgres.retry import RetryWhileUnavailable
from codelupe.work.consumer import Consumer
from codelupe.work.leases import SignsOfLife
from codelupe.work.runtime import Runtime
from codelupe.work.task_queue import Fed, TaskQueue

_INTERVAL_SECONDS = 0.003
"""Under a steady stream of events the feeder takes together what came within this time,"""
_LONGEST_INTERVAL_SECONDS = 0.02
"""and at most this one while no consumer wants any of it."""

log = structlog.get_logger("codelupe")


class Feeder:
    """One statement feeds all consumers that need tasks, so that an event reaches an idle one in one round trip."""

    def __init__(
        self, consumers: Sequence[Consumer], queue: TaskQueue, runtime: Runtime, wanted: Signal, signs: SignsOfLife
    ) -> None:
        self._consumers = consumers
        self._queue = queue
        self._notifier = runtime.log.notifier
        self._timings = runtime.timings
        self._wanted = wanted
        self._signs = signs
        self._ended: set[str] = set()
        self.alive_at = anyio.current_time()
        """When it last came round."""

    async def run(self, worker: uuid.UUID) -> None:
        """Feed until cancelled."""
        pause = _INTERVAL_SECONDS
        attempt = RetryWhileUnavailable("feeder")
        while True:
            self.alive_at = anyio.current_time()
            self._signs.record("feeder")
            async with attempt:
                made, caught_up = await self._feed(worker)
                pause = _INTERVAL_SECONDS if made else min(2 * pause, _LONGEST_INTERVAL_SECONDS)
                await anyio.sleep(pause)
                if caught_up and await self._wanted.wait(self._timings.poll):
                    pause = _INTERVAL_SECONDS

    async def _feed(self, worker: uuid.UUID) -> tuple[int, bool]:
        """How many tasks were made, and whether that is all for the consumers that still need tasks."""
        consumers = [consumer for consumer in self._consumers if consumer.needs_tasks and not consumer.is_held]
        if not consumers:
            return 0, True
        with ExitStack() as asking:
            requests = [one.feed_request(asking.enter_context(one.asking())) for one in consumers]
            fed = await self._queue.feed(requests, worker)
        consumers = [consumer for consumer in consumers if not self._has_ended(consumer, fed)]
        made = sum(consumer.accept_fed(fed[consumer.subscription.name]) for consumer in consumers)
        if made > sum(len(one.tasks) for one in fed.values()):
            self._notifier.announce()  # other processes may have free slots
        return made, all(fed[consumer.subscription.name].caught_up for consumer in consumers if consumer.needs_tasks)

    def _has_ended(self, consumer: Consumer, fed: Mapping[str, Fed]) -> bool:
        """Whether an operator has retired the subscription; that is said once."""
        name = consumer.subscription.name
        if name not in fed and name not in self._ended:
            tell_of_the_end(name)
            self._ended.add(name)
        return name not in fed


def tell_of_the_end(subscription: str) -> None:
    """An operator has retired it while it runs."""
    log.warning("subscription_has_ended", stage=subscription, hint="It begins anew when the daemon does.")
