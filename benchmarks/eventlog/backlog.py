"""The event log with much that waits: in one stream, behind a dead letter, as dead letters."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import ClassVar

import anyio

from benchmarks.eventlog.databases import vacuum
from benchmarks.eventlog.ours import Countdown, EventLogSystem, Measured, measured
from benchmarks.eventlog.system import HANDLERS, Seen
from codelupe import HandlerContext, Reject, Subscription, load_queries
from codelupe.log import Entry
from codelupe.log.event_log import SQL
from codelupe.log.records import uuid7
from codelupe.work.dead_letters import list_dead_letters
from codelupe.work.task_queue import FEED_LIMIT, FeedRequest, TaskQueue
from codelupe_events import event

BACKLOG = load_queries("benchmarks", "backlog")
FEW = 100
_PAGE = 10_000
_CLAIMS = 100


@event()
class Waiting(Measured, frozen=True, kw_only=True):
    """One of those that wait, all of them in one stream."""

    def stream(self) -> str:
        return "bench/waiting"


class FewWaiting(EventLogSystem):
    """A hundred events wait in one stream, whatever is asked for."""

    name: ClassVar[str] = "ours, 100 waiting"

    async def handle_waiting(self, count: int) -> float:
        """How many of one stream's waiting events a second are handled, one after another: of the first hundred."""
        await self._wait_for(self._waiting(count))
        handled = Countdown(FEW)

        async def handle(_event: Waiting, _context: HandlerContext) -> None:
            handled.note(1)

        subscription = Subscription(name=await self._subscribe(), events=(Waiting,), handler=handle)
        began = time.perf_counter()
        async with self.working(subscription):
            return FEW / await handled.seconds_since(began)

    async def claim_waiting(self, count: int) -> float:
        """How many claims a second, of the one event that may be claimed, beside those that wait behind it."""
        await self._wait_for(self._waiting(count))
        worker, queue = uuid7(), TaskQueue(self._database)
        subscription = Subscription(name=await self._subscribe(), events=(Waiting,), handler=_never)
        await self._database.execute(SQL.register_worker, worker, timedelta(hours=1), "elsewhere", "", 1, "")
        for _ in range(2 + self._waiting(count) // FEED_LIMIT):
            await queue.feed([FeedRequest(subscription=subscription)])
        seconds = 0.0
        for _ in range(_CLAIMS):
            began = time.perf_counter()
            [task] = await queue.claim(subscription, worker, HANDLERS)
            seconds += time.perf_counter() - began
            await queue.retry(task, after=timedelta(), counts=False, error="", traceback="")
        return _CLAIMS / seconds

    async def list_dead_letters(self, count: int) -> float:
        """How many pages of dead letters a second."""
        await self._wait_for(self._waiting(count))
        await self._subscribe()
        await self._database.execute(BACKLOG.dead_letter_all_events)
        await vacuum(self.url)
        began = time.perf_counter()
        for _ in range(10):
            assert len(await list_dead_letters(self._database, at_most=FEW)) == FEW
        return 10 / (time.perf_counter() - began)

    def _waiting(self, _count: int) -> int:
        return FEW

    async def _wait_for(self, count: int) -> None:
        for first in range(0, count, _PAGE):
            numbers = range(first, min(first + _PAGE, count))
            await self.log.publish_all([Entry(event=_waiting(number)) for number in numbers])

    async def _subscribe(self) -> str:
        return await self.register("Waiting", from_now=False)


class ManyWaiting(FewWaiting):
    """As many as are asked for."""

    name: ClassVar[str] = "ours, many waiting"

    def _waiting(self, count: int) -> int:
        return count


class BesideNothing(EventLogSystem):
    """Delivers to a handler that has nothing else to do."""

    name: ClassVar[str] = "ours, nothing beside"
    waiting: ClassVar[int] = 0

    @asynccontextmanager
    async def consuming_beside(self, seen: Seen, count: int) -> AsyncIterator[None]:
        """Events of other streams are handed out while so many wait behind a dead letter."""
        rejected = anyio.Event()

        async def handle(event: Measured, _context: HandlerContext) -> None:
            if isinstance(event, Waiting):
                rejected.set()
                raise Reject("no use")
            seen(event.sent_ns)

        name = await self.register("Measured", "Waiting", from_now=False)
        subscription = Subscription(name=name, events=(Measured, Waiting), handler=handle, concurrency=HANDLERS)
        async with self.working(subscription) as worker:
            if await self._wait(count):
                await rejected.wait()
            while not await worker.is_idle():
                await anyio.sleep(0.05)
            yield

    async def _wait(self, _count: int) -> bool:
        return False

    async def send(self, number: int) -> None:
        await self.log.publish(measured(number, time.monotonic_ns()))


class BesideDeadLetter(BesideNothing):
    """And to one that has a dead letter, and much that waits behind it."""

    name: ClassVar[str] = "ours, beside a dead letter"

    async def _wait(self, count: int) -> bool:
        for first in range(0, count, _PAGE):
            numbers = range(first, min(first + _PAGE, count))
            await self.log.publish_all([Entry(event=_waiting(number)) for number in numbers])
        return True


async def _never(*_: object) -> None:
    raise AssertionError("the benchmark claims by itself")


def _waiting(number: int) -> Waiting:
    return Waiting(number=number, text=measured(number).text)
