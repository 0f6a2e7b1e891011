"""The connection pool, with one kind of error for a database that is away."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import anyio
import asyncpg
import structlog

from codelupe.errors import ConfigurationError, DatabaseUnavailable
from codelupe.postgres.jsonb import use_jsonb

if TYPE_CHECKING:
    Connection = asyncpg.pool.PoolConnectionProxy[asyncpg.Record]
    _Pool = asyncpg.Pool[asyncpg.Record]
else:
    Connection = asyncpg.pool.PoolConnectionProxy
    _Pool = asyncpg.Pool

log = structlog.get_logger("codelupe")

_UNREACHABLE: tuple[type[Exception], ...] = (OSError, asyncio.TimeoutError, asyncpg.PostgresError)
"""Errors while a connection is made: no server, no such database or user, a wrong password."""
_AWAY: tuple[type[Exception], ...] = (
    asyncpg.PostgresConnectionError,
    asyncpg.OperatorInterventionError,
    asyncpg.InsufficientResourcesError,
    asyncpg.PostgresSystemError,
    asyncpg.ReadOnlySQLTransactionError,
    asyncpg.IdleInTransactionSessionTimeoutError,
    asyncpg.InternalClientError,
)
"""Errors that say nothing about the statement, only that the server cannot serve: gone, full, shut down, read-only."""


def _absence(where: str, error: BaseException, *also: type[Exception]) -> DatabaseUnavailable | None:
    """What the error comes to if it is one of asyncpg's many ways of saying that the server is away."""
    if isinstance(error, (*_AWAY, *also)):
        return _unavailable(where, error)
    if isinstance(error, asyncpg.InterfaceError) and re.search("closed|connection", str(error)):
        return _unavailable(where, error)
    return None


def _unavailable(where: str, error: BaseException) -> DatabaseUnavailable:
    cause = str(error) or type(error).__name__
    return DatabaseUnavailable(
        f"the database at {where} is not available: {cause}",
        hint="Start it, free what it lacks or correct CODELUPE_DATABASE_URL; work goes on from where it stopped.",
    )


def redact_url(url: str) -> str:
    """The URL with any password replaced, whether it stands before the host or among the parameters."""
    url = re.sub(r"(://[^:/@]*):(?:[^/]{0,1000}|[^@]{0,1000})@", r"\1:***@", url)
    return re.sub(r"(password=)[^&]*", r"\1***", url)


_CLOSE_SECONDS = 5.0
"""How long a rollback may take, and then a connection to be put back or closed in order, before it is cut."""
_SESSION = {
    "application_name": "codelupe",
    "timezone": "UTC",
    # Each statement must see its own moment: an older snapshot than the high-water mark would lose events.
    "default_transaction_isolation": "read committed",
    # Readers of the log wait for a transaction that has appended; a frozen process must not hold them up for ever.
    "idle_in_transaction_session_timeout": "300s",
}


class Database:
    """A pool of connections to one Postgres database (15 or newer).

    Raises:
        DatabaseUnavailable: when it is entered, and the database cannot be reached.
        ConfigurationError: the URL is none.
    """

    def __init__(self, url: str, *, connections: int = 10) -> None:
        self.url = url
        self.where = redact_url(url)
        """The address without a password, for messages."""
        self._connections = connections
        self._cache: ConnectionCache | None = None

    async def __aenter__(self) -> Self:
        try:
            pool = await asyncpg.create_pool(
                self.url,
                init_size=1,
                min_size=0,  # an outage is the next statement's to report, not asyncpg's, which keeps up a floor
                max_size=self._connections,
                command_timeout=None,
                timeout=10,
                server_settings=_SESSION,
                init=use_jsonb,
            )
        except (ValueError, OverflowError):  # their text may hold a part of the password
            raise ConfigurationError(
                "database_url is not the address of a Postgres database",
                hint="Write postgresql://user:password@host:5432/database, special characters percent-encoded.",
            ) from None
        except Exception as error:
            if away := _absence(self.where, error, *_UNREACHABLE):
                raise away from error
            raise
        self._cache = ConnectionCache(pool, self._connections)
        return self

    async def __aexit__(self, *_: object) -> None:
        cache, self._cache = self._cache, None
        if cache is not None:
            await cache.close()

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[Connection]:
        """A connection outside a transaction; its session is reset before another caller gets it.

        Raises:
            DatabaseUnavailable: also when the connection breaks while it is used.
        """
        async with self._checkout(to_be_reset=True) as connection:
            yield connection

    def statement(self) -> AbstractAsyncContextManager[Connection]:
        """A connection for a statement or a transaction that leaves nothing behind in the session.

        Asking the server to forget what was set costs as much as a statement, so it is not asked here.

        Raises:
            DatabaseUnavailable: also when the connection breaks while it is used.
        """
        return self._checkout(to_be_reset=False)

    def _checkout(self, *, to_be_reset: bool) -> _Checkout:
        if self._cache is None:
            raise DatabaseUnavailable("the database is not connected", hint="Enter the Database first.")
        return _Checkout(self._cache, self.where, to_be_reset=to_be_reset)

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Connection]:
        """A READ COMMITTED transaction that commits when the block ends and rolls back when it raises.

        What it sets for its session, it sets with SET LOCAL.
        """
        async with self.statement() as connection:
            transaction = connection.transaction()
            await transaction.start()
            try:
                yield connection
            except BaseException:
                # What the rollback raises says less than what it is for, and may not take a cancellation's place.
                with anyio.move_on_after(_CLOSE_SECONDS, shield=True), suppress(Exception):
                    await transaction.rollback()
                raise
            await transaction.commit()

    async def fetch(self, query: str, *arguments: Any) -> list[asyncpg.Record]:
        """All rows of one statement."""
        async with self.statement() as connection:
            return await connection.fetch(query, *arguments)

    async def fetchrow(self, query: str, *arguments: Any) -> asyncpg.Record | None:
        """The first row of one statement, or None."""
        async with self.statement() as connection:
            return await connection.fetchrow(query, *arguments)

    async def fetchval(self, query: str, *arguments: Any) -> Any:
        """The first column of the first row of one statement, or None."""
        async with self.statement() as connection:
            return await connection.fetchval(query, *arguments)

    async def execute(self, query: str, *arguments: Any) -> str:
        """Run one statement; returns its command tag."""
        async with self.statement() as connection:
            return await connection.execute(query, *arguments)


class ConnectionCache:
    """Checks a pool's connections out, and keeps those idle to which nothing happened.

    The pool starts a task for each connection that comes back, which costs as much as a short statement.
    """

    def __init__(self, pool: _Pool, connections: int) -> None:
        self._pool = pool
        self._slots = anyio.Semaphore(connections, fast_acquire=True)
        self._idle: list[Connection] = []

    async def checkout(self) -> Connection:
        await self._slots.acquire()
        try:
            while self._idle:
                connection = self._idle.pop()
                if _is_usable(connection):
                    return connection
                await _close(connection)
            return await self._pool.acquire()
        except BaseException:
            self._slots.release()
            raise

    async def check_in(self, connection: Connection, *, as_new: bool) -> None:
        """With ``as_new`` its session is reset first; one that fails at that is closed, and no error is raised."""
        if not _is_usable(connection) or connection.is_in_transaction():
            await self.discard(connection)
            return
        try:
            if as_new:
                with anyio.CancelScope(shield=True):
                    await self._reset(connection)
            else:
                self._idle.append(connection)
        finally:
            self._slots.release()

    async def _reset(self, connection: Connection) -> None:
        try:
            await self._pool.release(connection, timeout=_CLOSE_SECONDS)
        except Exception as error:  # noqa: BLE001 - whatever it is, what the connection was used for is done
            log.debug("connection_not_reset", error=str(error) or type(error).__name__)
            await _close(connection)

    async def discard(self, connection: Connection) -> None:
        """Close one that broke or is in the middle of something, which the server ends with it.

        Resetting it instead would leave futures of asyncpg behind that are never awaited.
        """
        try:
            with anyio.CancelScope(shield=True):
                await _close(connection)
        finally:
            self._slots.release()

    async def close(self) -> None:
        try:
            with anyio.move_on_after(_CLOSE_SECONDS, shield=True), suppress(Exception):
                for connection in self._idle:
                    await _close(connection)
                await self._pool.close()
        finally:
            self._pool.terminate()


async def _close(connection: Connection) -> None:
    """In order, or else at once: asyncpg cuts one that fails at it."""
    with suppress(Exception):
        await connection.close(timeout=_CLOSE_SECONDS)


def _is_usable(connection: Connection) -> bool:
    try:
        return not connection.is_closed()
    except asyncpg.InterfaceError:  # it broke, and the pool has noticed
        return False


class _Checkout:
    """A connection on its way out and back; a class, for this is on the path of every statement."""

    def __init__(self, cache: ConnectionCache, where: str, *, to_be_reset: bool) -> None:
        self._cache = cache
        self._where = where
        self._to_be_reset = to_be_reset

    async def __aenter__(self) -> Connection:
        try:
            self._connection = await self._cache.checkout()
        except Exception as error:
            if away := _absence(self._where, error, *_UNREACHABLE):
                raise away from error
            raise
        return self._connection

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if error is None:
            await self._cache.check_in(self._connection, as_new=self._to_be_reset)
            return
        away = _absence(self._where, error)
        if away or not isinstance(error, Exception):
            await self._cache.discard(self._connection)
        else:
            await self._cache.check_in(self._connection, as_new=True)
        if away:
            raise away from error
