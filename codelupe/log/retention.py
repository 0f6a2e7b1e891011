"""Letting old events go: whole partitions, into Parquet files or for good, never what a cursor may still come back to.

A partition goes in three steps, each of which a crash may end; the next run goes on. Its file is written under a
temporary name, verified and renamed. Then it is *retired*: in a transaction during which no cursor moves, it is made
sure that every subscription has passed it and no task refers to it; from then on none may go back. Last its table is
dropped, which waits for whatever still reads the log.
"""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from itertools import takewhile
from pathlib import Path
from typing import Any

import anyio
import asyncpg
import structlog

from codelupe.errors import CodelupeError
from codelupe.log.archive import Contents, Report, archive, contents_of
from codelupe.log.partitions import SQL, Partition, list_partitions
from codelupe.postgres import Connection, Database
from codelupe.postgres.retry import retry_while_unavailable

log = structlog.get_logger("codelupe")


class RetentionBusy(CodelupeError):
    """Another process is applying retention."""

    code = "retention-busy"


class EventsRetired(CodelupeError):
    """Events that are asked for are no longer in the log."""

    code = "events-retired"


@dataclass(frozen=True, kw_only=True)
class RetentionPolicy:
    """Events are kept for at least ``keep``, then archived in a folder, or dropped if it is None."""

    keep: timedelta
    archive: Path | None
    patience_ms: Sequence[int] = (100, 500, 2000)
    """How long each try waits for a lock, and all that want it next with it; then it is tried again after as long."""


@dataclass(frozen=True, kw_only=True)
class Retired:
    """A partition that was let go of: ``events`` of them, into the file ``path`` if that is not None."""

    partition: Partition
    events: int
    path: Path | None


def _say_nothing(_: Partition, __: int) -> None: ...


def due(partitions: Iterable[Partition], policy: RetentionPolicy) -> list[Partition]:
    """Those that may go: the oldest, up to the first that must stay."""
    here = (partition for partition in partitions if partition.state != "retired")
    return list(takewhile(lambda partition: not partition.held_by(policy.keep), here))


async def keep_retention(database: Database, policy: RetentionPolicy, every: float = 600) -> None:
    """Apply the policy now and again after so many seconds, until cancelled; what fails is tried again."""
    while True:
        try:
            await retry_while_unavailable(lambda: apply_retention(database, policy), "retention")
        except RetentionBusy:
            log.debug("retention_elsewhere")
        except CodelupeError as error:
            log.error("retention_failed", error=error.message, hint=error.hint)
        except Exception as error:
            log.error("retention_failed", error=str(error), exc_info=error)
        await anyio.sleep(every)


async def apply_retention(database: Database, policy: RetentionPolicy, report: Report = _say_nothing) -> list[Retired]:
    """Let go of everything that is due, the oldest first; returns what went.

    Raises:
        RetentionBusy: another process does so right now.
        ArchiveError: a file could not be written; its partition and all later ones stay.
        DatabaseUnavailable: what was under way is begun again next time.
    """
    retired: list[Retired] = []
    async with _alone(database) as connection:
        await _drop_retired(connection, policy.patience_ms)
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
    """None if a cursor came back to it meanwhile; then its file stays for the next time."""
    contents = await contents_of(connection, partition)
    path = None
    if policy.archive is not None and contents.events:
        path = await archive(connection, partition, contents, policy.archive, report)
    if not await _retire(connection, partition, contents, path, policy.patience_ms):
        log.info("partition_stays", partition=partition.name)
        return None
    log.info("partition_retired", partition=partition.name, events=contents.events, path=str(path) if path else None)
    await _drop_retired(connection, policy.patience_ms)
    return Retired(partition=partition, events=contents.events, path=path)


async def _retire(
    connection: Connection, partition: Partition, contents: Contents, path: Path | None, patience_ms: Sequence[int]
) -> bool:
    host, name = (socket.gethostname(), str(path)) if path else (None, None)

    async def retire() -> bool:
        await connection.execute(SQL.stop_cursors)
        values = partition.first, partition.last, contents.events, host, name
        return await connection.fetchval(SQL.retire, *values) is not None

    return bool(await _patiently(connection, retire, patience_ms))


async def _drop_retired(connection: Connection, patience_ms: Sequence[int]) -> None:
    async def drop() -> bool:
        await connection.execute(SQL.stop_partitions)
        return await connection.fetchval(SQL.drop_retired) is not None

    if not await _patiently(connection, drop, patience_ms):
        log.warning("retired_partitions_in_use", hint="They are dropped next time.")


async def _patiently(connection: Connection, step: Callable[[], Any], patience_ms: Sequence[int]) -> bool | None:
    """Take a step in a transaction of its own that does not keep others waiting for long; None if it never could."""
    for patience in patience_ms:
        try:
            async with connection.transaction():
                await connection.execute(SQL.set_patience, patience)
                return bool(await step())
        except (asyncpg.LockNotAvailableError, asyncpg.DeadlockDetectedError):
            await anyio.sleep(patience / 1000)
    return None
