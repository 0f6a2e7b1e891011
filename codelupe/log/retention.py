"""Letting old events go: whole partitions, into Parquet files or for good, never what somebody may still come back to.

A partition goes in three steps, each of which a crash may end; the next run goes on. Its file is written under a
temporary name, verified and renamed. Then it is *retired*: in a transaction during which no cursor moves, it is made
sure that every subscription has passed it and no task refers to it; from then on none may go back. Last its table is
dropped, which waits for whatever still reads the log.
"""

from __future__ import annotations

import os
import secrets
import socket
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import takewhile
from pathlib import Path
from typing import Any, TypeVar

import anyio
import anyio.to_thread
import asyncpg
import structlog

from codelupe.errors import CodelupeError, DatabaseUnavailable
from codelupe.postgres import Connection, Database
from codelupe.queries import load_queries

SQL = load_queries("codelupe_sql", "retention")
T = TypeVar("T")
_EVERY_SECONDS = 600.0
_PATIENCE_MS = (100, 500, 2000)
"""How long a try waits for a lock, and everybody who wants it next with it; then it is tried again after as long."""
_PAGE_ROWS = 500
"""Few, so that turning them into columns never keeps the event loop waiting."""
_GROUP_BYTES = 32_000_000
"""Events are collected, uncompressed, up to this size; then they are written as one row group."""
_FIRST_ID, _LAST_ID = b"codelupe.first_id", b"codelupe.last_id"

log = structlog.get_logger("codelupe")


class RetentionBusy(CodelupeError):
    """Another process is at it."""

    code = "retention-busy"


class ArchiveError(CodelupeError):
    """A partition could not be archived; all of its events are still in the database."""

    code = "archive"


class EventsRetired(CodelupeError):
    """Events that somebody wants are no longer in the log."""

    code = "events-retired"


@dataclass(frozen=True, kw_only=True)
class RetentionPolicy:
    """Events are kept for at least ``keep``, then archived in a folder, or dropped if it is None."""

    keep: timedelta
    archive: Path | None


@dataclass(frozen=True, kw_only=True)
class Partition:
    """One partition: positions ``first`` to ``last``, the latter not included."""

    name: str
    first: int
    last: int
    state: str
    """``ahead``, ``open``, ``full``, ``indexed`` or ``retired``."""
    events: int
    """An estimate."""
    bytes: int
    """With its indexes."""
    oldest: datetime | None
    newest: datetime | None
    age: timedelta | None
    """Of its newest event; None if it has none."""
    subscriptions_before: Sequence[str]
    """Those whose cursor has not passed it."""
    subscriptions_with_tasks: Sequence[str]

    def held_by(self, keep: timedelta | None = None) -> list[str]:
        """What keeps it in the database; nothing if it may go."""
        if self.state in {"ahead", "open"}:
            return ["it may still get events"]
        reasons = []
        if keep is not None and self.age is not None and self.age < keep:
            reasons.append(f"its newest event, of {self.newest:%Y-%m-%d %H:%M} UTC, is too young")
        reasons += [f"{name} has not passed it" for name in self.subscriptions_before]
        return reasons + [f"{name} has tasks in it" for name in self.subscriptions_with_tasks]


@dataclass(frozen=True, kw_only=True)
class Retired:
    """A partition that was let go of: ``events`` of them, into the file ``path`` if that is not None."""

    partition: Partition
    events: int
    path: Path | None


Report = Callable[[Partition, int], None]
"""Told while a partition is written: how many of its events are."""


def _to_nobody(_: Partition, __: int) -> None: ...


async def list_partitions(database: Database | Connection) -> list[Partition]:
    """All of them, the oldest first."""
    settled = await database.fetchval(SQL.settled_position)
    return [Partition(**dict(row)) for row in await database.fetch(SQL.partitions, settled)]


def due(partitions: Iterable[Partition], policy: RetentionPolicy) -> list[Partition]:
    """Those that may go: the oldest, up to the first that must stay."""
    here = (partition for partition in partitions if partition.state != "retired")
    return list(takewhile(lambda partition: not partition.held_by(policy.keep), here))


async def keep_retention(database: Database, policy: RetentionPolicy) -> None:
    """Apply the policy now and every ten minutes, until cancelled; what fails is tried again."""
    while True:
        try:
            await apply_retention(database, policy)
        except RetentionBusy:
            log.debug("retention_elsewhere")
        except DatabaseUnavailable as error:
            log.warning("database_unavailable", error=error.message)
        except CodelupeError as error:
            log.error("retention_failed", error=error.message, hint=error.hint)
        except Exception as error:
            log.error("retention_failed", error=str(error), exc_info=error)
        await anyio.sleep(_EVERY_SECONDS)


async def apply_retention(database: Database, policy: RetentionPolicy, report: Report = _to_nobody) -> list[Retired]:
    """Let go of everything that is due, the oldest first; returns what went.

    Raises:
        RetentionBusy: another process does so right now.
        ArchiveError: a file could not be written; its partition and all later ones stay.
        DatabaseUnavailable: what was under way is begun again next time.
    """
    retired: list[Retired] = []
    async with _alone(database) as connection:
        await _drop_retired(connection)
        for partition in due(await list_partitions(connection), policy):
            one = await _let_go(connection, partition, policy, report)
            if one is None:
                break
            retired.append(one)
    return retired


async def require_kept(connection: Connection, position: int) -> None:
    """Make sure that the log still has this position, and will until the transaction ends.

    Raises:
        EventsRetired: it has not.
    """
    await connection.execute(SQL.hold_retiring_off)
    start = await log_start(connection)
    if start is not None and position < start.position:
        raise EventsRetired(str(start), hint=f"Begin with --from-position {start.position}.")


@dataclass(frozen=True, kw_only=True)
class LogStart:
    """The first position that the log has, and the file of what lay right before it, if there is one."""

    position: int
    host: str | None
    path: str | None

    def __str__(self) -> str:
        fate = f"the newest of them are archived in {self.path} on {self.host}" if self.path else "they were dropped"
        return f"events before position {self.position:,} are no longer in the log; {fate}"


async def log_start(database: Database | Connection) -> LogStart | None:
    """Where the log begins; None if it still has all events."""
    row = await database.fetchrow(SQL.log_start)
    return LogStart(**dict(row)) if row else None


# --- one partition's way out ---


@asynccontextmanager
async def _alone(database: Database) -> AsyncIterator[Connection]:
    async with database.connection() as connection:
        if not await connection.fetchval(SQL.try_lock):
            raise RetentionBusy("another process lets old events go right now", hint="Wait for it, then try again.")
        yield connection


async def _let_go(
    connection: Connection, partition: Partition, policy: RetentionPolicy, report: Report
) -> Retired | None:
    """None if somebody came back to it meanwhile; then its file stays for the next time."""
    contents = await _contents(connection, partition)
    path = None
    if policy.archive is not None and contents.events:
        path = await _archive(connection, partition, contents, policy.archive, report)
    if not await _retire(connection, partition, contents, path):
        log.info("partition_stays", partition=partition.name)
        return None
    log.info("partition_retired", partition=partition.name, events=contents.events, path=str(path) if path else None)
    await _drop_retired(connection)
    return Retired(partition=partition, events=contents.events, path=path)


async def _retire(connection: Connection, partition: Partition, contents: Contents, path: Path | None) -> bool:
    host, name = (socket.gethostname(), str(path)) if path else (None, None)

    async def retire() -> bool:
        await connection.execute(SQL.stop_cursors)
        values = partition.first, partition.last, contents.events, host, name
        return await connection.fetchval(SQL.retire, *values) is not None

    return bool(await _patiently(connection, retire))


async def _drop_retired(connection: Connection) -> None:
    async def drop() -> bool:
        await connection.execute(SQL.stop_partitions)
        return await connection.fetchval(SQL.drop_retired) is not None

    if not await _patiently(connection, drop):
        log.warning("retired_partitions_in_use", hint="They are dropped next time.")


async def _patiently(connection: Connection, step: Callable[[], Any]) -> bool | None:
    """Take a step in a transaction of its own that does not keep others waiting for long; None if it never could."""
    for patience in _PATIENCE_MS:
        try:
            async with connection.transaction():
                await connection.execute(SQL.set_patience, patience)
                return bool(await step())
        except (asyncpg.LockNotAvailableError, asyncpg.DeadlockDetectedError):
            await anyio.sleep(patience / 1000)
    return None


# --- the file ---


@dataclass(frozen=True, kw_only=True)
class Contents:
    """What a partition or its file holds; the ids tell one log's events from another's."""

    events: int
    first_position: int | None
    last_position: int | None
    first_id: str | None
    last_id: str | None


async def _contents(connection: Connection, partition: Partition) -> Contents:
    row = await connection.fetchrow(SQL.contents, partition.first, partition.last)
    assert row is not None
    return Contents(**dict(row))


async def _archive(
    connection: Connection, partition: Partition, contents: Contents, folder: Path, report: Report
) -> Path:
    """The verified file of a partition, written unless it is there already."""
    path = folder / f"{partition.name}.parquet"
    if await _on_disk(path, path.exists):
        await _on_disk(path, _verify, path, contents)
    else:
        await _write(connection, partition, contents, path, report)
    await _on_disk(path, _sync_folder, folder)
    return path


async def _write(connection: Connection, partition: Partition, contents: Contents, path: Path, report: Report) -> None:
    written = 0
    file = await _on_disk(path, _PartitionFile, path, contents)
    try:
        async for page in _pages(connection, partition):
            await _on_disk(path, file.write, page)
            written += len(page)
            report(partition, written)
        await _on_disk(path, file.complete)
    finally:
        with anyio.CancelScope(shield=True):
            await _on_disk(path, file.discard)


async def _pages(connection: Connection, partition: Partition) -> AsyncIterator[list[asyncpg.Record]]:
    """Its events in order. They never change, so no transaction needs to span the pages."""
    after = partition.first - 1
    while page := await connection.fetch(SQL.read_page, after, partition.last, _PAGE_ROWS):
        yield page
        after = page[-1]["position"]


async def _on_disk(path: Path, function: Callable[..., T], *arguments: Any) -> T:
    """Call it in a thread; whatever the file system has against it becomes one kind of error."""
    try:
        return await anyio.to_thread.run_sync(function, *arguments)
    except OSError as error:
        raise ArchiveError(
            f"the archive {path} cannot be used: {error.strerror or error}",
            hint="Make room or give write access there, or set retention.archive_dir; no event was dropped.",
        ) from error


class _PartitionFile:
    """A partition's Parquet file under way.

    Until it is complete its name is a hidden one, which readers of the folder pass over.
    """

    def __init__(self, path: Path, contents: Contents) -> None:
        parquet = _parquet()
        if not path.parent.exists():
            path.parent.mkdir(parents=True)
            _sync_folder(path.parent.parent)
        for left_over in path.parent.glob(f".{path.name}.*"):
            left_over.unlink()
        self._path, self._contents, self._schema = path, contents, _schema(contents)
        self._temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
        self._waiting: list[Any] = []
        self._waiting_bytes = 0
        self._sink = self._temporary.open("xb")
        self._writer = parquet.ParquetWriter(
            self._sink, self._schema, compression="zstd", use_dictionary=["stream", "type"], write_page_checksum=True
        )

    def write(self, page: Sequence[asyncpg.Record]) -> None:
        import pyarrow as pa

        self._waiting.append(pa.table(list(zip(*page, strict=True)), schema=self._schema))
        self._waiting_bytes += self._waiting[-1].nbytes
        if self._waiting_bytes >= _GROUP_BYTES:
            self._write_group()

    def complete(self) -> None:
        """Verify it and give it its name."""
        self._write_group()
        self._writer.close()
        self._sink.flush()
        os.fsync(self._sink.fileno())
        _verify(self._temporary, self._contents)
        self._temporary.rename(self._path)

    def _write_group(self) -> None:
        import pyarrow as pa

        if self._waiting:
            self._writer.write_table(pa.concat_tables(self._waiting))
            self._waiting, self._waiting_bytes = [], 0

    def discard(self) -> None:
        """Close it, and delete what is not complete."""
        with suppress(OSError):  # what it still had to write
            self._writer.close()
        with suppress(OSError):
            self._sink.close()
        self._temporary.unlink(missing_ok=True)


def _parquet() -> Any:
    try:
        from pyarrow import parquet
    except ImportError as error:
        raise ArchiveError(
            "archiving events needs pyarrow", hint="Run `pip install 'codelupe[archive]'`; no event was dropped."
        ) from error
    return parquet


def _schema(contents: Contents) -> Any:
    import pyarrow as pa

    text = pa.string()
    types = {
        "position": pa.int64(),
        "stream": text,
        "type": text,
        "version": pa.int32(),
        "id": text,
        "data": text,
        "metadata": text,
        "recorded_at": pa.timestamp("us", tz="UTC"),
    }
    fields = [pa.field(name, kind, nullable=False) for name, kind in types.items()]
    return pa.schema(fields, metadata={_FIRST_ID: contents.first_id, _LAST_ID: contents.last_id})


def _verify(path: Path, contents: Contents) -> None:
    """Read back what the file says of itself.

    Raises:
        ArchiveError: it is damaged, or holds something else.
    """
    try:
        found = _contents_of_file(path)
    except (ValueError, KeyError, AttributeError):
        found = None
    if found != contents:
        raise ArchiveError(
            f"{path} does not hold the {contents.events:,} events of this log that it should",
            hint="Move it away, or give this log an archive_dir of its own; no event was dropped.",
        )


def _contents_of_file(path: Path) -> Contents:
    found = _parquet().read_metadata(path)
    ids = found.metadata or {}
    positions = [found.row_group(number).column(0).statistics for number in range(found.num_row_groups)]
    return Contents(
        events=found.num_rows,
        first_position=min(group.min for group in positions),
        last_position=max(group.max for group in positions),
        first_id=ids[_FIRST_ID].decode(),
        last_id=ids[_LAST_ID].decode(),
    )


def _sync_folder(folder: Path) -> None:
    opened = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)
