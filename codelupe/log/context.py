"""What a handler or a job is handed: the way to the database, to the log and to its surroundings."""

from __future__ import annotations

import uuid
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import msgspec
import structlog

from codelupe.contracts import Directories, Executor, Offers, Progress, SearchIndex
from codelupe.errors import LeaseLost, PluginError
from codelupe.log.event_log import Entry, EventLog
from codelupe.log.records import Recorded, derive_key
from codelupe.postgres import Connection, Database
from codelupe.progress import ProgressBoard
from codelupe.queries import load_queries
from codelupe_events import Event

SQL = load_queries("codelupe_sql", "log")


@dataclass(frozen=True, kw_only=True)
class Surroundings:
    """What the host gives to all handlers, jobs and services alike."""

    log: EventLog
    offers: Offers
    directories: Directories
    executor: Executor
    search_index: SearchIndex | None
    board: ProgressBoard


class _Context:
    """What handlers and jobs share."""

    def __init__(self, name: str, surroundings: Surroundings) -> None:
        self.name = name
        """The subscription's or the job's full name, ``<plugin>.<name>``."""
        self.offers = surroundings.offers
        self.directories = surroundings.directories
        self.executor = surroundings.executor
        self._search_index = surroundings.search_index
        self.log = structlog.get_logger(name.partition(".")[0]).bind(stage=name)
        self._log = surroundings.log
        self._board = surroundings.board

    @property
    def database(self) -> Database:
        """For reading, and for long work that needs no transaction."""
        return self._log.database

    @property
    def search_index(self) -> SearchIndex:
        """The index that the setting ``search_index`` chose.

        Raises:
            PluginError: its plugin takes no part.
        """
        if self._search_index is None:
            raise PluginError("no plugin offers the search index that is set", hint="See `codelupe plugins list`.")
        return self._search_index


class HandlerContext(_Context):
    """One attempt at one event.

    What is written inside :meth:`transaction`, the events given to :meth:`emit` and the mark that the event is
    handled commit together or not at all. A handler that writes nothing need not open it.
    """

    def __init__(
        self, name: str, version: int, surroundings: Surroundings, recorded: Recorded, task: ClaimedTask
    ) -> None:
        super().__init__(name, surroundings)
        self.recorded = recorded
        """The event as the log holds it: position, id, stream, time."""
        self.attempt = task.attempt
        """1 for the first try, also counting tries that ended with their process."""
        self.idempotency_key = derive_key(name, version, recorded.id)
        """The same at every attempt; give it to whatever outside must not be done twice."""
        self.saved: dict[str, Any] | None = task.progress
        """What an earlier attempt left with :meth:`save`."""
        self.log = self.log.bind(stream=recorded.stream, attempt=self.attempt)
        self._task = task
        self._outbox: list[Entry] = []
        self._emitted: Counter[tuple[str, str]] = Counter()
        self._finished = False

    def emit(self, event: Event) -> None:
        """Append the event when the handling commits. Handling the same event again emits the same keys."""
        self._outbox.append(self._entry(event))

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Connection]:
        """The handling's one and final transaction.

        Raises:
            LeaseLost: another worker has the task by now; let it pass.
            RuntimeError: it was open before.
        """
        if self._finished:
            raise RuntimeError(f"{self.name} opened a second transaction; a handling has one")
        async with self.database.transaction() as connection:
            await self._pass_fence(connection, SQL.finish)
            yield connection
            await self._log.append(connection, self._outbox)
        self._finished = True
        self._log.wakeups.announce()

    async def emit_now(self, event: Event) -> None:
        """Append the event at once, ahead of the handling's end; further attempts do not append it again."""
        entry = self._entry(event)
        async with self.database.transaction() as connection:
            await self._pass_fence(connection, SQL.hold)
            await self._log.append(connection, [entry])
        self._log.wakeups.announce()

    async def save(self, progress: dict[str, Any]) -> None:
        """Leave something for the next attempt, such as the place of a checkpoint."""
        async with self.database.connection() as connection:
            text = msgspec.json.encode(progress).decode()
            if not await connection.fetchval(SQL.save_progress, self._task.id, self._task.token, text):
                raise self._lost()

    def progress(self, done: float, total: float | None, unit: str, **figures: float | str) -> None:
        """Show how far this is. Cheap; call it as often as it changes."""
        progress = Progress(done=done, total=total, unit=unit, figures=figures)
        self._board.report(self.name, self.recorded.stream, progress)

    async def finish(self) -> None:
        """Called by the host when the handler returns: commit, unless the handler's own transaction did."""
        if not self._finished:
            async with self.transaction():
                pass

    def _entry(self, event: Event) -> Entry:
        address = (type(event).__name__, event.stream())
        self._emitted[address] += 1
        return Entry(
            event=event,
            key=derive_key(self.idempotency_key, *address, self._emitted[address]),
            metadata={"by": self.name, "caused_by": str(self.recorded.id)},
        )

    async def _pass_fence(self, connection: Connection, query: str) -> None:
        if not await connection.fetchval(query, self._task.id, self._task.token):
            raise self._lost()

    def _lost(self) -> LeaseLost:
        return LeaseLost(f"{self.name} on {self.recorded.stream}: another worker has the task by now")


class JobContext(_Context):
    """One run of a job or a service. It may open as many transactions as it likes."""

    def __init__(self, name: str, surroundings: Surroundings) -> None:
        super().__init__(name, surroundings)
        self.appended = 0
        """How many new events this run has brought."""
        self._outbox: list[Entry] = []

    def emit(self, event: Event, *, key: str | None = None) -> None:
        """Append the event when the transaction around this call commits; once for ever if it has a ``key``."""
        derived = None if key is None else derive_key(self.name, type(event).__name__, key)
        self._outbox.append(Entry(event=event, key=derived, metadata={"by": self.name}))

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Connection]:
        """What is written inside and the events emitted inside commit together."""
        self._outbox = []
        async with self.database.transaction() as connection:
            yield connection
            appended = await self._log.append(connection, self._outbox)
        self._outbox = []
        self.appended += sum(not one.duplicate for one in appended)
        self._log.wakeups.announce()

    def progress(self, done: float, total: float | None, unit: str, **figures: float | str) -> None:
        """Show how far this is."""
        self._board.report(self.name, self.name, Progress(done=done, total=total, unit=unit, figures=figures))


@dataclass(frozen=True, kw_only=True)
class ClaimedTask:
    """A claim on a task: its number, the fencing token and what earlier attempts left."""

    id: int
    token: uuid.UUID
    attempts: int
    losses: int
    progress: dict[str, Any] | None

    @property
    def attempt(self) -> int:
        return self.attempts + self.losses + 1
