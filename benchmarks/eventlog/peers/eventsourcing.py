"""eventsourcing: an event log on psycopg, through its recorders; aggregates and mappers on top would only cost time.

An append locks the table and notifies within its transaction. A subscription is one reader that handles events in
order, so there are no sixteen handlers; its tracking, the effect and the emitted event commit together. Everything
blocks, hence the threads.
"""

from __future__ import annotations

import itertools
import time
import uuid
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any, ClassVar, Self

import anyio
import anyio.to_thread
import psycopg
from eventsourcing.persistence import Notification, StoredEvent, Tracking
from eventsourcing.postgres import PostgresDatastore, PostgresProcessRecorder
from psycopg.conninfo import conninfo_to_dict
from psycopg.rows import DictRow

from benchmarks.eventlog.databases import connected, vacuum
from benchmarks.eventlog.pace import rate_in_threads
from benchmarks.eventlog.payload import STREAMS, Payload, decoded, encoded
from benchmarks.eventlog.system import HANDLERS, Closing, Seen
from codelupe.postgres.queries import load_queries

EFFECTS = load_queries("benchmarks", "effects")
_SENT, _EMITTED, _APPLICATION = "measured", "followed", "bench"


class _Recorder(PostgresProcessRecorder):
    """Writes the effects in the transaction of the events, as the library means it to be extended."""

    def _insert_events(
        self, curs: psycopg.Cursor[DictRow], stored_events: Sequence[StoredEvent], **kwargs: Any
    ) -> None:
        if effects := kwargs.get("effects"):
            columns = ([event.number for event in effects], [event.text for event in effects])
            psycopg.RawCursor(curs.connection).execute(EFFECTS.insert_effects, columns)
        super()._insert_events(curs, stored_events, **kwargs)


class Eventsourcing(Closing):
    name: ClassVar[str] = "eventsourcing"

    def __init__(self, url: str) -> None:
        super().__init__(url)
        address: dict[str, Any] = conninfo_to_dict(url)
        fields = {name: address[name] for name in ("dbname", "host", "port", "user")}
        self._datastore = PostgresDatastore(**fields, password="", pool_size=HANDLERS + 1)
        self._recorder = _Recorder(self._datastore)
        self._originators = [uuid.uuid4() for _ in range(STREAMS)]
        self._versions = itertools.count(1)

    async def install(self) -> None:
        async with connected(self.url) as connection:
            await connection.execute(EFFECTS.create_effects)
        await anyio.to_thread.run_sync(self._recorder.create_table)
        await anyio.to_thread.run_sync(self._datastore.close)

    async def __aenter__(self) -> Self:
        self._stack.push_async_callback(anyio.to_thread.run_sync, self._datastore.close)
        await anyio.to_thread.run_sync(self._datastore.pool.open, True)
        await anyio.to_thread.run_sync(self._datastore.register_type_adapters)
        return self

    async def append(self, size: int, connections: int, seconds: float) -> float:
        states = [encoded(number) for number in range(size)]

        def append() -> None:
            self._recorder.insert_events([self._event(_SENT, state) for state in states])

        actions: list[Callable[[], object]] = [append] * connections
        return size * await rate_in_threads(actions, seconds)

    async def handle(self, count: int) -> float:
        await self._fill(count)

        def work() -> float:
            began = time.perf_counter()
            with self._recorder.subscribe(gt=0, topics=[_SENT]) as subscription:
                for notification in itertools.islice(subscription, count):
                    self._handle([notification])
                return time.perf_counter() - began

        return count / await anyio.to_thread.run_sync(work)

    async def handle_batches(self, count: int, size: int) -> float:
        return count / await self._pages(count, size, self._handle)

    async def read(self, count: int, size: int) -> float:
        def keep_checkpoint(notifications: Sequence[Notification]) -> None:
            self._recorder.insert_tracking(Tracking(_APPLICATION, notifications[-1].id))

        return count / await self._pages(count, size, keep_checkpoint)

    @asynccontextmanager
    async def consuming(self, seen: Seen) -> AsyncIterator[None]:
        def work() -> None:
            for notification in subscription:
                seen(decoded(notification.state).sent_ns)

        with self._recorder.subscribe(gt=0) as subscription:
            async with anyio.create_task_group() as group:
                group.start_soon(anyio.to_thread.run_sync, work)
                yield
                subscription.stop()

    async def send(self, number: int) -> None:
        def send() -> None:
            self._recorder.insert_events([self._event(_SENT, encoded(number, time.monotonic_ns()))])

        await anyio.to_thread.run_sync(send)

    async def _pages(self, count: int, size: int, handle: Callable[[Sequence[Notification]], None]) -> float:
        """How long it takes to pull the events in pages of that size and handle each page."""
        await self._fill(count)

        def work() -> float:
            position = done = 0
            began = time.perf_counter()
            while done < count:
                page = self._recorder.select_notifications(position, size, topics=[_SENT], inclusive_of_start=False)
                handle(page)
                position, done = page[-1].id, done + len(page)
            return time.perf_counter() - began

        return await anyio.to_thread.run_sync(work)

    def _handle(self, notifications: Sequence[Notification]) -> None:
        events: list[Payload] = [decoded(notification.state) for notification in notifications]
        self._recorder.insert_events(
            [self._event(_EMITTED, encoded(event.number)) for event in events],
            tracking=Tracking(_APPLICATION, notifications[-1].id),
            effects=events,
        )

    async def _fill(self, count: int) -> None:
        for first in range(0, count, 1000):
            events = [self._event(_SENT, encoded(n)) for n in range(first, min(first + 1000, count))]
            await anyio.to_thread.run_sync(self._recorder.insert_events, events)
        await vacuum(self.url)

    def _event(self, topic: str, state: bytes) -> StoredEvent:
        version = next(self._versions)
        return StoredEvent(self._originators[version % STREAMS], version, topic, state)
