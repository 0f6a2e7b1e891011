"""CodeLupe's event log, through what plugins and the daemon use.

Wake-ups run beside everything, as in the daemon, so appends pay for the NOTIFY that follows them. Feeding and claiming
do not wait for the disk, since what a crash forgets of them is simply done again; every append and every handling does.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Sequence
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import ClassVar, Self

import anyio

from benchmarks.eventlog.databases import connected, vacuum
from benchmarks.eventlog.pace import Action, rate_of
from benchmarks.eventlog.payload import padding, stream
from benchmarks.eventlog.system import HANDLERS, Closing, Seen
from codelupe import BatchSubscription, Database, Directories, HandlerContext, Subscription, load_queries
from codelupe.executor import ProcessExecutor
from codelupe.log import Entry, EventLog
from codelupe.log.event_log import SQL
from codelupe.log.records import emission_key
from codelupe.observability.progress import ProgressTracker
from codelupe.postgres.migrate import migrate, own_migrations
from codelupe.work.context import BatchContext
from codelupe.work.runtime import Runtime
from codelupe.work.worker import Worker
from codelupe_events import Event, event

EFFECTS = load_queries("benchmarks", "effects")
_PREFILL_STREAMS = 100_000
_PAGE = 10_000


class _Numbered(Event, frozen=True, kw_only=True):
    number: int
    sent_ns: int = 0
    text: str

    def stream(self) -> str:
        return stream(self.number)


@event()
class Measured(_Numbered, frozen=True, kw_only=True):
    """The event that is appended and handled."""


@event()
class Followed(_Numbered, frozen=True, kw_only=True):
    """The event that a handling emits."""


@event()
class Prefilled(_Numbered, frozen=True, kw_only=True):
    """One of those that are there already."""

    def stream(self) -> str:
        return f"bench/{self.number % _PREFILL_STREAMS}"


class EventLogSystem(Closing):
    """The log of one database, connected."""

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self._database = Database(url, connections=8)
        self._lent = Database(url, connections=2 * HANDLERS, lent=True)
        self.log = EventLog(self._database)

    async def install(self) -> None:
        async with connected(self.url) as connection:
            await connection.execute(EFFECTS.create_effects)
        async with Database(self.url) as database:
            await migrate(database, own_migrations())

    async def __aenter__(self) -> Self:
        await self._stack.enter_async_context(self._database)
        await self._stack.enter_async_context(self._lent)
        group = await self._stack.enter_async_context(anyio.create_task_group())
        self._stack.callback(group.cancel_scope.cancel)
        group.start_soon(self.log.notifier.run)
        return self

    async def fill(self, count: int) -> None:
        for first in range(0, count, _PAGE):
            numbers = range(first, min(first + _PAGE, count))
            await self.log.publish_all([Entry(event=measured(number)) for number in numbers])
        await vacuum(self.url)

    @asynccontextmanager
    async def working(self, subscription: Subscription | BatchSubscription) -> AsyncIterator[Worker]:
        """A worker with this one subscription."""
        nowhere = Path()
        runtime = Runtime(
            database=self._lent,
            log=self.log,
            directories=Directories(state=nowhere, repositories=nowhere, models=nowhere, work=nowhere),
            executor=ProcessExecutor(),
            search_index=None,
            progress=ProgressTracker(),
        )
        worker = Worker([subscription], runtime, lease=timedelta(minutes=1), drain=timedelta(seconds=1))
        async with anyio.create_task_group() as group:
            group.start_soon(worker.run)
            yield worker
            worker.stop()

    async def register(self, *types: str, from_now: bool) -> str:
        """The name of a new subscription to these types that begins here, or at the log's beginning."""
        name = f"bench.{uuid.uuid4().hex}"
        await self._database.execute(SQL.begin_subscription, name, from_now, types, True, "0")
        return name


class Ours(EventLogSystem):
    name: ClassVar[str] = "ours"

    async def append(self, size: int, connections: int, seconds: float) -> float:
        entries = [Entry(event=measured(number)) for number in range(size)]

        def append() -> Awaitable[object]:
            return self.log.publish(entries[0].event) if size == 1 else self.log.publish_all(entries)

        actions: list[Action] = [append] * connections
        return size * await rate_of(actions, seconds)

    async def handle(self, count: int) -> float:
        name = await self.register("Measured", from_now=True)
        handled = Countdown(count)

        async def handle(event: Measured, context: HandlerContext) -> None:
            async with context.transaction() as connection:
                await connection.execute(EFFECTS.insert_effect, event.number, event.text)
                context.emit(_followed(event))
            handled.note(1)

        subscription = Subscription(
            name=name, events=(Measured,), emits=(Followed,), handler=handle, concurrency=HANDLERS
        )
        return await self._handle_all(subscription, count, handled)

    async def handle_batches(self, count: int, size: int) -> float:
        name = await self.register("Measured", from_now=True)
        handled = Countdown(count)

        async def handle(events: Sequence[Measured], context: BatchContext) -> None:
            effects = [(event.number, event.text) for event in events]
            await context.connection.copy_records_to_table("effects", records=effects, columns=["number", "text"])
            for each in events:
                context.emit(_followed(each), because=each)
            handled.note(len(events))

        subscription = BatchSubscription(name=name, events=(Measured,), emits=(Followed,), handler=handle, size=size)
        return await self._handle_all(subscription, count, handled)

    async def read(self, count: int, size: int) -> float:
        """The clock stops when the batch after the last comes, for then the last is committed."""
        if await self.log.head_position() < count + size:
            await self.fill(count + size)
        name = await self.register("Measured", "Prefilled", from_now=False)
        handled = Countdown(count + 1)

        async def handle(events: Sequence[Event], _context: BatchContext) -> None:
            handled.note(len(events))

        subscription = BatchSubscription(name=name, events=(Measured, Prefilled), handler=handle, size=size)
        began = time.perf_counter()
        async with self.working(subscription):
            seconds = await handled.seconds_since(began)
        return count / seconds

    @asynccontextmanager
    async def consuming(self, seen: Seen) -> AsyncIterator[None]:
        async def handle(event: Measured, _context: HandlerContext) -> None:
            seen(event.sent_ns)

        name = await self.register("Measured", from_now=True)
        async with self.working(Subscription(name=name, events=(Measured,), handler=handle, concurrency=HANDLERS)):
            yield

    async def send(self, number: int) -> None:
        await self.log.publish(measured(number, time.monotonic_ns()))

    async def prefill(self, count: int) -> None:
        """Bring the log to that many events, as if handlers had emitted them: with keys, in 100,000 streams."""
        for first in range(0, count, _PAGE):
            await self._database.execute(SQL.keep_partitions)
            events = [_prefilled(number) for number in range(first, min(first + _PAGE, count))]
            await self.log.publish_all([Entry(event=it, key=emission_key(it.number, "bench")) for it in events])
        await vacuum(self.url)

    async def _handle_all(
        self, subscription: Subscription | BatchSubscription, count: int, handled: Countdown
    ) -> float:
        await self.fill(count)
        began = time.perf_counter()
        async with self.working(subscription) as worker:
            await handled.seconds_since(began)
            while not await worker.is_idle():
                await anyio.sleep(0.001)
            return count / (time.perf_counter() - began)


class OursWithKeys(EventLogSystem):
    """Appends with an idempotency key for each event, in no order."""

    name: ClassVar[str] = "ours with keys"

    async def append(self, size: int, connections: int, seconds: float) -> float:
        events = [measured(number) for number in range(size)]

        def append() -> Awaitable[object]:
            return self.log.publish_all([Entry(event=event, key=uuid.uuid4()) for event in events])

        actions: list[Action] = [append] * connections
        return size * await rate_of(actions, seconds)


class OursInBatches(EventLogSystem):
    """Delivers to a batch handler."""

    name: ClassVar[str] = "ours, batch handler"

    @asynccontextmanager
    async def consuming(self, seen: Seen) -> AsyncIterator[None]:
        async def handle(events: Sequence[Measured], _context: BatchContext) -> None:
            for each in events:
                seen(each.sent_ns)

        name = await self.register("Measured", from_now=True)
        async with self.working(BatchSubscription(name=name, events=(Measured,), handler=handle)):
            yield

    async def send(self, number: int) -> None:
        await self.log.publish(measured(number, time.monotonic_ns()))


class Countdown:
    """Waits until handlers have had so many events."""

    def __init__(self, count: int) -> None:
        self._left = count
        self._done = anyio.Event()
        self._done_at = 0.0

    def note(self, events: int) -> None:
        self._left -= events
        if self._left <= 0 and not self._done.is_set():
            self._done_at = time.perf_counter()
            self._done.set()

    async def seconds_since(self, began: float) -> float:
        await self._done.wait()
        return self._done_at - began


def measured(number: int, sent_ns: int = 0) -> Measured:
    return Measured(number=number, sent_ns=sent_ns, text=padding(number, sent_ns))


def _followed(cause: Measured) -> Followed:
    return Followed(number=cause.number, text=padding(cause.number))


def _prefilled(number: int) -> Prefilled:
    return Prefilled(number=number, text=padding(number))
