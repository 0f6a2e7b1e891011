"""A database that is away: say so once, pause, and try again."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import TYPE_CHECKING, TypeVar

import anyio
import asyncpg
import structlog

from codelupe.errors import ConnectionsExhausted, DatabaseUnavailable
from codelupe.postgres.outage import Outage
from codelupe.postgres.queries import load_queries

if TYPE_CHECKING:
    from codelupe.postgres.database import Database

SQL = load_queries("codelupe_sql", "database")
PAUSE_SECONDS = 0.5
_HINDRANCES = (
    ConnectionsExhausted,
    asyncpg.OperatorInterventionError,
    asyncpg.LockNotAvailableError,
    asyncpg.InsufficientResourcesError,
    asyncpg.TransactionRollbackError,
    asyncpg.IdleInTransactionSessionTimeoutError,
    asyncpg.TransactionTimeoutError,
    asyncpg.PostgresSystemError,
)
"""Errors of a statement of the host's own that is right, and will succeed another time: limits, locks, deadlocks."""

T = TypeVar("T")

log = structlog.get_logger("codelupe")


def is_unavailable(error: BaseException, *also: type[Exception], outage: Outage | None = None) -> bool:
    """Whether the error says that the database is away, itself or through all that a task group raised together.

    With an ``outage`` it is that database; another one, which plugin code has connected to, is no concern of the host.
    """
    if isinstance(error, BaseExceptionGroup):
        return all(is_unavailable(one, *also, outage=outage) for one in error.exceptions)
    if isinstance(error, DatabaseUnavailable) and isinstance(error.outage, Outage) and outage is not None:
        return error.outage is outage
    return isinstance(error, (DatabaseUnavailable, *also))


async def has_only_lost_session(error: BaseException, database: Database) -> bool:
    """Whether the error ended no more than the session that met it, since the server answers others."""
    if not _has_ended_session(error):
        return False
    try:
        await database.fetchval(SQL.server_version)
    except DatabaseUnavailable:
        return False
    return True


def _has_ended_session(error: BaseException) -> bool:
    if isinstance(error, BaseExceptionGroup):
        return all(map(_has_ended_session, error.exceptions))
    return isinstance(error, DatabaseUnavailable) and error.ended_session


class RetryWhileUnavailable:
    """Around each round of a loop of the host: one that the database fails or hinders ends quietly, after a pause.

    Of an outage the first loop of the process that meets it logs ``database_unavailable`` as a warning, the others say
    so as debug output, and when all have come through ``database_available`` is logged; it is all debug output if
    ``quiet``, for a loop that cannot tell whether the database is there. A statement that a limit, a lock or a deadlock
    ended is a warning ``round_failed``, once until a round succeeds. ``activity`` names the loop. Errors of the types
    ``also`` count as absence; any other error passes through. The pause ends early when ``stop`` is set.

    ::

        attempt = RetryWhileUnavailable("partitions")
        while True:
            async with attempt:
                await keep_partitions()
    """

    def __init__(
        self,
        activity: str,
        *,
        also: tuple[type[Exception], ...] = (),
        stop: anyio.Event | None = None,
        quiet: bool = False,
        pause_seconds: float = PAUSE_SECONDS,
    ) -> None:
        self._activity = activity
        self._also = also
        self._stop = stop or anyio.Event()
        self._quiet = quiet
        self._pause_seconds = pause_seconds
        self._own = Outage()
        self._outage: Outage | None = None
        self._was_hindered = False

    async def __aenter__(self) -> None: ...

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> bool:
        if error is None or not is_unavailable(error, *_HINDRANCES, *self._also):
            self.record_success()
            return False
        try:
            self._record_failure(error)
            with anyio.move_on_after(self._pause_seconds):
                await self._stop.wait()
        except BaseException:
            self.record_success()
            raise
        return True

    def _record_failure(self, error: BaseException) -> None:
        while isinstance(error, BaseExceptionGroup):
            error = error.exceptions[0]
        message = getattr(error, "message", None) or str(error) or type(error).__name__
        if not is_unavailable(error, *self._also):
            (log.debug if self._was_hindered else log.warning)("round_failed", activity=self._activity, error=message)
            self._was_hindered = True
        elif self._quiet:
            log.debug("database_unavailable", activity=self._activity, error=message)
        else:
            shared = getattr(error, "outage", None)
            self._outage = shared if isinstance(shared, Outage) else self._own
            self._outage.met_by(self, self._activity, message)

    def record_success(self) -> None:
        """The database has answered; a round that goes on for long after that says so itself."""
        self._was_hindered = False
        if self._outage is not None:
            self._outage.over_for(self)
            self._outage = None


async def retry_while_unavailable(
    step: Callable[[], Awaitable[T]],
    activity: str,
    *,
    also: tuple[type[Exception], ...] = (),
    pause_seconds: float = PAUSE_SECONDS,
) -> T:
    """Take a step, again and again until the database is there for it; returns what the step returns."""
    attempt = RetryWhileUnavailable(activity, also=also, pause_seconds=pause_seconds)
    while True:
        async with attempt:
            return await step()
