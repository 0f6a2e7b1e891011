"""What a handler or a job is given: the way to the database, to the log and to what plugins offer."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractContextManager, asynccontextmanager
from contextvars import ContextVar
from functools import cached_property, partial
from typing import Any

import asyncpg
import msgspec
import structlog

from codelupe.contracts.evaluators import Evaluator
from codelupe.contracts.files import FileRule, Scorer
from codelupe.contracts.repositories import RepositoryRule
from codelupe.contracts.samples import SampleFormat
from codelupe.contracts.search import SearchIndex
from codelupe.contracts.sources import Source
from codelupe.errors import PluginError
from codelupe.log.entries import FEW, Entry, check_text
from codelupe.log.event_log import SQL
from codelupe.log.records import Recorded, derive_key
from codelupe.observability.progress import Progress
from codelupe.postgres import Connection, Database, answering
from codelupe.work.outbox import COMPLETED, Outbox
from codelupe.work.runtime import Runtime
from codelupe.work.task import Task, complete, finish
from codelupe.work.transactions import SharedTransaction
from codelupe_events import Event


def logger(name: str) -> structlog.stdlib.BoundLogger:
    """The logger of this subscription, job or service, bound to its plugin."""
    bound: structlog.stdlib.BoundLogger = structlog.get_logger(name.partition(".")[0]).bind(stage=name)
    return bound


class _Context:
    """What handlers and jobs share."""

    def __init__(self, name: str, runtime: Runtime) -> None:
        self.name = name
        """The full name of the subscription, job or service, ``<plugin>.<name>``."""
        self.directories = runtime.directories
        """Where things lie on disk, as :class:`Directories`."""
        self.executor = runtime.executor
        """Where CPU-heavy functions run: the :class:`Executor` that the setting ``executor`` chose."""
        self._runtime = runtime
        self._log = runtime.log
        self._database = runtime.database
        self._progress = runtime.progress

    @property
    def database(self) -> Database:
        """For reading, and for long work that needs no transaction. Its connections are lent, as a transaction's is.

        The plugin's own schema comes first on the search path. What was SET, the role, advisory locks, listeners and
        cursors are undone when a connection is given back; one that has temporary tables, statements of SQL's PREPARE
        or codecs of its own is closed.
        """
        return self._database

    @property
    def sources(self) -> Sequence[Source]:
        """Those of all plugins, but for those that are paused."""
        return self._runtime.pauses.without_paused(self._runtime.sources)

    @property
    def repository_rules(self) -> Sequence[RepositoryRule]:
        """Those of all plugins, but for another plugin's that is paused.

        Raises:
            RetryLater: one of this plugin is paused. Without it a repository would pass unjudged, so a handler
                that lets this pass waits, and a job or service fails.
        """
        return self._runtime.pauses.judges(self.name, self._runtime.repository_rules)

    @property
    def file_rules(self) -> Sequence[FileRule]:
        """Those of all plugins, but for another plugin's that is paused.

        Raises:
            RetryLater: one of this plugin is paused. Without it files would pass unjudged, so a handler
                that lets this pass waits, and a job or service fails.
        """
        return self._runtime.pauses.judges(self.name, self._runtime.file_rules)

    @property
    def scorers(self) -> Sequence[Scorer]:
        """Those of all plugins, but for another plugin's that is paused.

        Raises:
            RetryLater: one of this plugin is paused. Without it scores would be of another measure, so a handler
                that lets this pass waits, and a job or service fails.
        """
        return self._runtime.pauses.judges(self.name, self._runtime.scorers)

    @property
    def sample_formats(self) -> Sequence[SampleFormat]:
        """Those of all plugins, but for those that are paused."""
        return self._runtime.pauses.without_paused(self._runtime.sample_formats)

    @property
    def evaluators(self) -> Sequence[Evaluator]:
        """Those of all plugins, but for those that are paused."""
        return self._runtime.pauses.without_paused(self._runtime.evaluators)

    @property
    def search_index(self) -> SearchIndex:
        """The index that the setting ``search_index`` chose.

        Raises:
            PluginError: its plugin takes no part.
            RetryLater: it is paused. A handler that lets this pass waits, a job or service fails.
        """
        if self._runtime.search_index is None:
            raise PluginError("no plugin offers the search index that is set", hint="See `codelupe plugins list`.")
        [index] = self._runtime.pauses.required(self.name, [self._runtime.search_index])
        return index


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
        """1 for the first try, also counting tries that ended with their process since the last checkpoint."""
        self.checkpoint: dict[str, Any] | None = task.checkpoint
        """What an earlier attempt left with :meth:`save_checkpoint`."""
        self._version = version
        self._task = task
        self._outbox = Outbox(self.name, version)
        self._step: list[Entry] | None = None
        self._finished = False

    @property
    def is_finished(self) -> bool:
        """Whether the handling has committed."""
        return self._finished

    @cached_property
    def log(self) -> structlog.stdlib.BoundLogger:
        """Bound to plugin, subscription, stream and attempt."""
        return logger(self.name).bind(stream=self.recorded.stream, attempt=self.attempt)

    @cached_property
    def idempotency_key(self) -> uuid.UUID:
        """The same at every attempt; give it to whatever outside must not be done twice."""
        return derive_key(self.name, self._version, self.recorded.id)

    def emit(self, event: Event) -> None:
        """Append the event when the handling commits, or the :meth:`step` around this call.

        Handling the same event again emits the same keys.

        Raises:
            RuntimeError: the handling has committed, or the handler has ended.
        """
        if self._step is None:
            self._outbox.add(event, self.recorded.position, self.recorded.id)
        else:
            metadata = {"by": self.name, "caused_by": str(self.recorded.id)}
            self._step.append(Entry(event=event, metadata=metadata))

    def emit_all(self, outbox: Outbox) -> None:
        """Append these events, too, when the handling commits.

        :meta private:
        """
        self._outbox.entries.extend(outbox.entries)

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Connection]:
        """The handling's one and final transaction, READ COMMITTED. What was emitted inside is gone if it rolls back.

        Its connection is lent, as those of :attr:`database` are. Savepoints are free to use.

        Raises:
            LeaseLost: another worker has the task by now; let it pass.
            PluginError: the block ended the transaction itself, by COMMIT or ROLLBACK.
            RuntimeError: one has committed before.
        """
        if self._finished:
            raise RuntimeError(f"{self.name} opened a second transaction; a handling has one")
        with self._outbox.kept_unless_raised():
            async with self.database.transaction() as connection:
                shared = SharedTransaction(connection, self.name)
                with shared.watched():
                    yield connection
                    with answering(self.database, connection, rows=len(self._outbox.entries)):
                        await shared.take_back()
                        await self._complete(connection)
                shared.check()
        self._conclude()

    @asynccontextmanager
    async def step(self, checkpoint: dict[str, Any]) -> AsyncIterator[Connection]:
        """A transaction ahead of the final one, for work of many parts: what is written and emitted inside commits
        together with the checkpoint, or not at all.

        What it has committed stands, whatever becomes of the handling: a further attempt goes on from the checkpoint,
        and emits again what it does again. The count of crashes begins again, as by :meth:`save_checkpoint`.

        Raises:
            LeaseLost: another worker has the task by now; let it pass.
            PluginError: the block ended the transaction itself, by COMMIT or ROLLBACK.
            EventRefused: Postgres cannot hold the checkpoint.
            RuntimeError: the handling has committed, or another step is open.
        """
        if self._finished or self._step is not None:
            raise RuntimeError(f"{self.name} opened a step too late, or inside another")
        encoded = self._encoded(checkpoint)
        entries: list[Entry] = []
        self._step = entries
        try:
            async with self.database.transaction() as connection:
                shared = SharedTransaction(connection, self.name)
                with shared.watched():
                    yield connection
                    with answering(self.database, connection, rows=len(entries)):
                        await shared.take_back()
                        if not await connection.fetchval(SQL.save_checkpoint, *self._task.key, encoded):
                            raise self._task.lost()
                        await self._log.append(connection, entries)
                shared.check()
        finally:
            self._step = None
        self.checkpoint = checkpoint
        if entries:
            self._log.notifier.announce()

    async def emit_now(self, event: Event) -> None:
        """Append the event at once, ahead of the handling's end; further attempts do not append it again.

        Raises:
            RuntimeError: as for :meth:`emit`.
        """
        entry = self._outbox.entry_now(event, self.recorded.position, self.recorded.id)
        async with self._log.database.transaction() as connection:
            if not await connection.fetchval(SQL.hold, *self._task.key):
                raise self._task.lost()
            await self._log.append(connection, [entry])
        self._log.notifier.announce()

    async def save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Leave something for the next attempt, such as where a long piece of work has come to.

        The count of crashes begins again, and :attr:`attempt` with it: work that comes forward is not dead-lettered
        because its process was restarted many times.

        Raises:
            EventRefused: Postgres cannot hold it; what was left before stands.
        """
        encoded = self._encoded(checkpoint)
        if not await self._log.database.fetchval(SQL.save_checkpoint, *self._task.key, encoded):
            raise self._task.lost()

    def _encoded(self, checkpoint: dict[str, Any]) -> bytes:
        return check_text(f"the checkpoint of {self.name}", partial(msgspec.json.encode, checkpoint))

    def activity(self, what: str) -> None:
        """Show what goes on where there is nothing to count, such as ``loading the model``."""
        progress = Progress(done=0, total=None, unit="", activity=what)
        self._progress.report(self.name, self.recorded.stream, progress)

    def progress(self, done: float, total: float | None, unit: str, **figures: float | str) -> None:
        """Show how far this is. Cheap; call it as often as it changes."""
        progress = Progress(done=done, total=total, unit=unit, figures=figures)
        self._progress.report(self.name, self.recorded.stream, progress)

    async def finish(self) -> None:
        """Commit when the handler returns, unless its own transaction did.

        :meta private:
        """
        if self._finished:
            return
        if len(self._outbox.entries) > FEW:
            async with self.transaction():
                return
        async with self._log.database.statement() as connection:
            await self._complete(connection)
        self._conclude()

    def open_inside(self) -> AbstractContextManager[None]:
        """Around the attempt: nothing can be emitted after the block.

        :meta private:
        """
        return self._outbox.open_inside()

    async def _complete(self, connection: Connection) -> None:
        self._outbox.close(COMPLETED)
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
        runtime: Runtime,
        connection: Connection,
        events: Sequence[Event],
        rows: Sequence[asyncpg.Record],
        outbox: Outbox,
    ) -> None:
        super().__init__(name, runtime)
        self.connection = connection
        """The transaction's, READ COMMITTED; what is written through it commits with the batch or not at all. It is
        lent, as those of :attr:`database` are. To end it by COMMIT or ROLLBACK is a failure; savepoints are free to
        use."""
        self._events = events
        self._rows = rows
        self._outbox = outbox

    @cached_property
    def log(self) -> structlog.stdlib.BoundLogger:
        """Bound to plugin and subscription."""
        return logger(self.name)

    async def recorded(self) -> list[Recorded]:
        """The events as the log holds them, in the order of the handler's events."""
        rows = await self._log.database.fetch(SQL.events_at, [row["position"] for row in self._rows])
        return [Recorded.from_row(row) for row in rows]

    async def want_job(self, name: str) -> None:
        """Let the plugin's job of this name run within a minute of the batch's commit, and not only at its interval."""
        plugin = self.name.partition(".")[0]
        await self.connection.execute(SQL.want_job, f"{plugin}.{name}")

    def emit(self, event: Event, *, because: Event) -> None:
        """Append the event when the batch commits; ``because`` is that one of the batch which it comes of.

        Raises:
            RuntimeError: the handler has ended.
        """
        cause = self._row_of[id(because)]
        self._outbox.add(event, cause["position"], cause["id"])

    @cached_property
    def _row_of(self) -> dict[int, asyncpg.Record]:
        return dict(zip(map(id, self._events), self._rows, strict=True))


_job_outbox: ContextVar[_JobOutbox | None] = ContextVar("job_outbox", default=None)


class JobContext(_Context):
    """One run of a job or a service. It may open as many transactions as it likes, also at the same time.

    Each has the events that were emitted inside it, by the task that opened it and by those that this one started.
    """

    def __init__(self, name: str, runtime: Runtime) -> None:
        super().__init__(name, runtime)
        self.log = logger(name)
        """Bound to the plugin and to the job or service."""
        self.appended = 0
        """How many new events this run has brought."""

    def emit(self, event: Event, *, key: str | None = None, caused_by: uuid.UUID | None = None) -> None:
        """Append the event when the transaction around this call commits; once for ever if it has a ``key``.

        ``caused_by`` is the id of the event that it comes of, if there is one.

        Raises:
            RuntimeError: no transaction is around this call, or it is over.
        """
        outbox = _job_outbox.get()
        if outbox is None or outbox.context is not self or not outbox.is_open:
            raise RuntimeError(f"{self.name} emitted a {type(event).__name__} outside a transaction")
        derived = None if key is None else derive_key(self.name, type(event).__name__, key)
        cause = {} if caused_by is None else {"caused_by": str(caused_by)}
        outbox.entries.append(Entry(event=event, key=derived, metadata={"by": self.name, **cause}))

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Connection]:
        """A READ COMMITTED transaction: what is written inside and the events emitted inside commit together.

        One inside another is a transaction of its own. Its connection is lent, as those of :attr:`database` are.
        Savepoints are free to use.

        Raises:
            PluginError: the block ended the transaction itself, by COMMIT or ROLLBACK.
        """
        outbox, around = _JobOutbox(self), _job_outbox.get()
        _job_outbox.set(outbox)
        try:
            async with self.database.transaction() as connection:
                shared = SharedTransaction(connection, self.name)
                with shared.watched():
                    yield connection
                    with answering(self.database, connection, rows=len(outbox.entries)):
                        await shared.take_back()
                        outbox.is_open = False
                        appended = await self._log.append(connection, outbox.entries)
                shared.check()
        finally:
            outbox.is_open = False
            _job_outbox.set(around)
        self.appended += sum(not one.duplicate for one in appended)
        self._log.notifier.announce()

    def progress(self, done: float, total: float | None, unit: str, **figures: float | str) -> None:
        """Show how far this is."""
        self._progress.report(self.name, self.name, Progress(done=done, total=total, unit=unit, figures=figures))


class _JobOutbox:
    """What is emitted inside one transaction of a job."""

    def __init__(self, context: JobContext) -> None:
        self.context = context
        self.entries: list[Entry] = []
        self.is_open = True
