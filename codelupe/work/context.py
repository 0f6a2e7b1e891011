"""What a handler or a job is given: the way to the database, to the log and to what plugins offer."""

from __future__ import annotations

import uuid
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from functools import cached_property, partial
from typing import Any

import asyncpg
import msgspec
import structlog

from codelupe.contracts.search import SearchIndex
from codelupe.errors import PluginError
from codelupe.log.entries import FEW, Entry, check_text
from codelupe.log.event_log import SQL
from codelupe.log.records import Recorded, derive_key, emission_key
from codelupe.observability.progress import Progress
from codelupe.postgres import Connection, Database
from codelupe.work.runtime import Runtime
from codelupe.work.task import Task, complete, finish
from codelupe_events import Event


def _logger(name: str) -> structlog.stdlib.BoundLogger:
    logger: structlog.stdlib.BoundLogger = structlog.get_logger(name.partition(".")[0]).bind(stage=name)
    return logger


class _Context:
    """What handlers and jobs share."""

    def __init__(self, name: str, runtime: Runtime) -> None:
        self.name = name
        """The full name of the subscription, job or service, ``<plugin>.<name>``."""
        self.directories = runtime.directories
        self.executor = runtime.executor
        self.sources = runtime.sources
        self.repository_rules = runtime.repository_rules
        self.file_rules = runtime.file_rules
        self.scorers = runtime.scorers
        self._search_index = runtime.search_index
        self._log = runtime.log
        self._database = runtime.database
        self._progress = runtime.progress

    @property
    def database(self) -> Database:
        """For reading, and for long work that needs no transaction."""
        return self._database

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

    def __init__(self, version: int, runtime: Runtime, task: Task) -> None:
        super().__init__(task.subscription, runtime)
        self.recorded = task.recorded
        """The event as the log holds it: position, id, stream, time."""
        self.attempt = task.attempt
        """1 for the first try, also counting tries that ended with their process."""
        self.checkpoint: dict[str, Any] | None = task.checkpoint
        """What an earlier attempt left with :meth:`save_checkpoint`."""
        self._version = version
        self._task = task
        self._outbox = Outbox(self.name, version)
        self._finished = False

    @cached_property
    def log(self) -> structlog.stdlib.BoundLogger:
        """Bound to plugin, subscription, stream and attempt."""
        return _logger(self.name).bind(stream=self.recorded.stream, attempt=self.attempt)

    @cached_property
    def idempotency_key(self) -> uuid.UUID:
        """The same at every attempt; give it to whatever outside must not be done twice."""
        return derive_key(self.name, self._version, self.recorded.id)

    def emit(self, event: Event) -> None:
        """Append the event when the handling commits. Handling the same event again emits the same keys."""
        self._outbox.add(event, self.recorded.position, self.recorded.id)

    def emit_all(self, outbox: Outbox) -> None:
        """Append these events, too, when the handling commits."""
        self._outbox.entries.extend(outbox.entries)

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
            yield connection
            await self._complete(connection)
        self._conclude()

    async def emit_now(self, event: Event) -> None:
        """Append the event at once, ahead of the handling's end; further attempts do not append it again."""
        entry = self._outbox.entry(event, self.recorded.position, self.recorded.id)
        async with self._log.database.transaction() as connection:
            if not await connection.fetchval(SQL.hold, *self._task.key):
                raise self._task.lost()
            await self._log.append(connection, [entry])
        self._log.notifier.announce()

    async def save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Leave something for the next attempt, such as where a long piece of work has come to.

        Raises:
            EventRefused: Postgres cannot hold it; what was left before stands.
        """
        encoded = check_text(f"the checkpoint of {self.name}", partial(msgspec.json.encode, checkpoint))
        if not await self._log.database.fetchval(SQL.save_checkpoint, *self._task.key, encoded):
            raise self._task.lost()

    def activity(self, what: str) -> None:
        """Show what goes on where there is nothing to count, such as ``loading the model``."""
        progress = Progress(done=0, total=None, unit="", activity=what)
        self._progress.report(self.name, self.recorded.stream, progress)

    def progress(self, done: float, total: float | None, unit: str, **figures: float | str) -> None:
        """Show how far this is. Cheap; call it as often as it changes."""
        progress = Progress(done=done, total=total, unit=unit, figures=figures)
        self._progress.report(self.name, self.recorded.stream, progress)

    async def finish(self) -> None:
        """Called by the host when the handler returns: commit, unless the handler's own transaction did."""
        if self._finished:
            return
        if len(self._outbox.entries) > FEW:
            async with self.transaction():
                return
        async with self._log.database.statement() as connection:
            await self._complete(connection)
        self._conclude()

    async def _complete(self, connection: Connection) -> None:
        if len(self._outbox.entries) <= FEW:
            await complete(connection, self._task, self._outbox.entries)
        else:
            await finish(connection, self._task)
            await self._log.append(connection, self._outbox.entries)

    def _conclude(self) -> None:
        self._finished = True
        if self._outbox.entries:
            self._log.notifier.announce()


class BatchContext(_Context):
    """One call of a batch handler, inside the transaction that also says how far the subscription has come."""

    def __init__(
        self,
        name: str,
        version: int,
        runtime: Runtime,
        connection: Connection,
        events: Sequence[Event],
        rows: Sequence[asyncpg.Record],
    ) -> None:
        super().__init__(name, runtime)
        self.connection = connection
        """The transaction's; what is written through it commits with the batch or not at all."""
        self._events = events
        self._rows = rows
        self.outbox = Outbox(name, version)

    @cached_property
    def log(self) -> structlog.stdlib.BoundLogger:
        """Bound to plugin and subscription."""
        return _logger(self.name)

    async def recorded(self) -> list[Recorded]:
        """The events as the log holds them, in the order of the handler's events."""
        rows = await self.connection.fetch(SQL.events_at, [row["position"] for row in self._rows])
        return [Recorded.from_row(row) for row in rows]

    def emit(self, event: Event, *, because: Event) -> None:
        """Append the event when the batch commits; ``because`` is that one of the batch which it comes of."""
        cause = self._row_of[id(because)]
        self.outbox.add(event, cause["position"], cause["id"])

    @cached_property
    def _row_of(self) -> dict[int, asyncpg.Record]:
        return dict(zip(map(id, self._events), self._rows, strict=True))


class Outbox:
    """Events to be appended, each with a key by which handling its cause again does not append it again."""

    def __init__(self, name: str, version: int) -> None:
        self._name = name
        self._version = version
        self._emitted: Counter[tuple[int, str, str]] = Counter()
        self.entries: list[Entry] = []

    def add(self, event: Event, position: int, cause: uuid.UUID) -> None:
        """The event comes of that one, which stands there."""
        self.entries.append(self.entry(event, position, cause))

    def entry(self, event: Event, position: int, cause: uuid.UUID) -> Entry:
        """The event with its key: the n-th of its type and stream that is emitted because of that cause."""
        kind, stream = type(event).__name__, event.stream()
        self._emitted[position, kind, stream] += 1
        number = self._emitted[position, kind, stream]
        return Entry(
            event=event,
            key=emission_key(position, self._name, self._version, kind, stream, number),
            metadata={"by": self._name, "caused_by": str(cause)},
        )


class JobContext(_Context):
    """One run of a job or a service. It may open as many transactions as it likes."""

    def __init__(self, name: str, runtime: Runtime) -> None:
        super().__init__(name, runtime)
        self.log = _logger(name)
        self.appended = 0
        """How many new events this run has brought."""
        self._outbox: list[Entry] = []

    def emit(self, event: Event, *, key: str | None = None, caused_by: uuid.UUID | None = None) -> None:
        """Append the event when the transaction around this call commits; once for ever if it has a ``key``.

        ``caused_by`` is the id of the event that it comes of, if there is one.
        """
        derived = None if key is None else derive_key(self.name, type(event).__name__, key)
        cause = {} if caused_by is None else {"caused_by": str(caused_by)}
        self._outbox.append(Entry(event=event, key=derived, metadata={"by": self.name, **cause}))

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Connection]:
        """What is written inside and the events emitted inside commit together."""
        self._outbox = []
        async with self.database.transaction() as connection:
            yield connection
            appended = await self._log.append(connection, self._outbox)
        self._outbox = []
        self.appended += sum(not one.duplicate for one in appended)
        self._log.notifier.announce()

    def progress(self, done: float, total: float | None, unit: str, **figures: float | str) -> None:
        """Show how far this is."""
        self._progress.report(self.name, self.name, Progress(done=done, total=total, unit=unit, figures=figures))
