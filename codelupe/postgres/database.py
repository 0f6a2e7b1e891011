"""Connections to one database, with one kind of error for a database that is away."""

from __future__ import annotations

import math
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from types import TracebackType
from typing import Any, Self

import anyio
import asyncpg
import structlog

from codelupe.errors import (
    CodelupeError,
    ConfigurationError,
    ConnectionsExhausted,
    ConnectionsHeldByOthers,
    DatabaseUnavailable,
)
from codelupe.postgres.absence import ended_for, kind_of
from codelupe.postgres.address import UNKNOWN, describe_address
from codelupe.postgres.outage import Outage
from codelupe.postgres.pooler import require_sessions
from codelupe.postgres.search_path import current_schema
from codelupe.postgres.sessions import (
    SQL,
    Connection,
    Session,
    lend,
    make_like_new,
    open_session,
    session_of,
    take_back,
)
from codelupe.postgres.slots import Slots, SlotTimeout, current_borrower

log = structlog.get_logger("codelupe")

_UNREACHABLE: tuple[type[Exception], ...] = (
    OSError,
    TimeoutError,
    asyncpg.PostgresError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
)
"""Errors while a connection is made: no server, no such database or user, a wrong password."""
_CLOSE_SECONDS = 5.0
"""How long a rollback may take, and then a connection to be made like new or closed in order, before it is cut."""
_PATIENCE_SECONDS = 30.0
"""How long is waited for a connection while all are in use."""
_ROWS_PER_SECOND = 1_000
"""A server that writes fewer counts as silent."""
_REST_SECONDS = 5.0
"""A connection that was not used for longer is asked whether it answers before it is checked out."""


class Database:
    """Connections to one Postgres database (15 or newer), at most so many at once.

    ``answer_within`` is how many seconds the server may take over a statement before it counts as away. A database that
    is ``lent`` to plugins has no such bound for their statements, keeps the limits that an administrator set, and makes
    every connection like new after its use. Databases of one process that share an ``outage`` tell of it together.

    Raises:
        DatabaseUnavailable: when it is entered, and the database cannot be reached.
        ConfigurationError: the URL is none, or names a PgBouncer that does not keep sessions.
    """

    def __init__(
        self,
        url: str,
        *,
        connections: int = 10,
        lent: bool = False,
        answer_within: float | None = None,
        outage: Outage | None = None,
    ) -> None:
        self.url = url
        self.where = describe_address(url)
        """Host and database, for messages."""
        self.outage = outage or Outage()
        self.answer_within = answer_within
        self.lent = lent
        self.connections = connections
        self._caches: list[ConnectionCache] = []

    async def __aenter__(self) -> Self:
        self._caches = [ConnectionCache(self, Slots(self.connections, nested=self.lent), self._statement_seconds)]
        if not self.lent:
            self._caches.append(ConnectionCache(self, Slots(math.inf), None))
        try:
            await self._check()
        except BaseException:
            await self.__aexit__()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        caches, self._caches = self._caches, []
        for cache in caches:
            await cache.close()

    @property
    def _statement_seconds(self) -> float | None:
        return None if self.lent else self.answer_within

    async def _check(self) -> None:
        """Make sure that the address is one, and that a pooler on the way keeps sessions."""
        try:
            async with self.statement() as connection:
                backend = session_of(connection).backend
                if backend is None or backend[0] != connection.get_server_pid():
                    await require_sessions(self.url, self.where)
        except asyncpg.PostgresError:
            await require_sessions(self.url, self.where)
            raise

    def connection(self) -> AbstractAsyncContextManager[Connection]:
        """A session for longer or for what outlasts a statement; made like new before another caller gets it.

        Unless the database is lent it is not one of the ``connections``, and its statements take as long as they take.

        Raises:
            DatabaseUnavailable: also when the connection breaks while it is used.
            ConnectionsExhausted: the database is lent, and all of its connections are in use.
            ConnectionsHeldByOthers: and others hold more of them.
        """
        return self._checkout(-1, to_be_reset=True)

    def statement(self) -> AbstractAsyncContextManager[Connection]:
        """A connection for a statement or a transaction that leaves nothing behind in the session.

        Asking the server to forget what was set costs as much as a statement. It is asked only if the database is lent.

        Raises:
            DatabaseUnavailable: also when the connection breaks while it is used.
            ConnectionsExhausted: the database is lent, and all of its connections are in use.
            ConnectionsHeldByOthers: and others hold more of them.
        """
        return self._checkout(0, to_be_reset=self.lent)

    def _checkout(self, which: int, *, to_be_reset: bool) -> _Checkout:
        if not self._caches:
            raise DatabaseUnavailable("the database is not connected", hint="Enter the Database first.")
        return _Checkout(self._caches[which], to_be_reset=to_be_reset)

    def unavailable(self, error: BaseException, *, ended_session: bool = False) -> DatabaseUnavailable:
        """What callers hear of an error that says that the database is away."""
        is_safe = self.where != UNKNOWN  # else the server may quote what it took for a user or a database
        cause = (is_safe and str(error)) or type(error).__name__
        return DatabaseUnavailable(
            f"the database at {self.where} is not available: {cause}",
            hint="Start it, free what it lacks or correct CODELUPE_DATABASE_URL; work goes on from where it stopped.",
            outage=self.outage,
            ended_session=ended_session,
        )

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Connection]:
        """A READ COMMITTED transaction that commits when the block ends and rolls back when it raises.

        What it sets for its session, it sets with SET LOCAL.

        Raises:
            DatabaseUnavailable, ConnectionsExhausted, ConnectionsHeldByOthers: as :meth:`statement`.
        """
        async with self.statement() as connection:
            transaction = connection.transaction(isolation="read_committed")
            with answering(self, connection):
                await transaction.start()
            try:
                yield connection
            except BaseException:
                # What the rollback raises says less than what it is for, and may not take a cancellation's place.
                with anyio.move_on_after(min(_CLOSE_SECONDS, self.patience), shield=True) as scope, suppress(Exception):
                    await transaction.rollback()
                if scope.cancelled_caught:
                    self.outage.met_silence(session_of(connection))
                raise
            with answering(self, connection):
                await transaction.commit()

    @property
    def patience(self) -> float:
        """Seconds in which the server answers what is no work."""
        return self.answer_within or _PATIENCE_SECONDS

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


class answering:  # noqa: N801 - used as a function is; a class, for this is on the path of every event
    """Around the host's statements on a connection that plugin code may have for as long as it likes.

    Each may take longer the more ``rows`` it writes.

    Raises:
        DatabaseUnavailable: the server has not answered one in time.
    """

    def __init__(self, database: Database, connection: Connection, *, rows: int = 0) -> None:
        self._database = database
        self._session = session_of(connection)
        self._seconds = database.patience + rows / _ROWS_PER_SECOND

    def __enter__(self) -> None:
        self._before = self._session.answer_within(self._seconds)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._session.answer_within(self._before)
        if isinstance(error, TimeoutError):
            self._database.outage.met_silence(self._session)
            raise self._database.unavailable(error) from error


class ConnectionCache:
    """Checks connections out, as many at once as there are slots, and keeps those that come back."""

    def __init__(self, database: Database, slots: Slots, answer_within: float | None) -> None:
        self.database = database
        self._slots = slots
        self._answer_within = answer_within
        self._idle: list[Session] = []

    async def checkout(self) -> Connection:
        borrower = await self._slots.acquire(self.database.patience)
        try:
            session = await self._rested_session() or await self._open()
            if self.database.outage.orphans or self.database.lent:
                await self._prepare(session)
        except BaseException:
            self._slots.release(borrower)
            raise
        session.borrower = borrower
        return lend(session)

    async def _prepare(self, session: Session) -> None:
        patience = self.database.patience
        try:
            if self.database.outage.orphans:
                await self.database.outage.end_orphans(session, within=patience)
            if self.database.lent and (schema := current_schema()) is not None:
                await session.execute(SQL.enter_schema, schema, False, timeout=patience)
        except TimeoutError:
            self.database.outage.met_silence(session)
            raise
        except BaseException:
            session.terminate()
            raise

    async def check_in(self, connection: Connection, *, as_new: bool) -> None:
        """Take it back, so that its user cannot use it any more; ``as_new`` its session is made like new first.

        One that broke, is in the middle of something or cannot be made like new is closed, and no error is raised.
        """
        session = take_back(connection)
        try:
            if session.has_ended or session.is_in_the_middle or session.has_own_codecs:
                await _close(session)
            elif not as_new or await self._is_like_new(session):
                session.rests_since = time.monotonic()
                self._idle.append(session)
        finally:
            self._slots.release(session.borrower)

    async def discard(self, connection: Connection, *, is_silent: bool = False) -> None:
        """Close one that broke or is in the middle of something, which the server ends with it."""
        session = take_back(connection)
        try:
            if is_silent:
                self.database.outage.met_silence(session)
            await _close(session)
        finally:
            self._slots.release(session.borrower)

    async def close(self) -> None:
        while self._idle:
            session = self._idle.pop()
            if session.rests_since <= self.database.outage.silent_at:
                session.terminate()
            await _close(session)

    async def _open(self) -> Session:
        database = self.database
        return await open_session(database.url, limited=database.lent, answer_within=self._answer_within)

    async def _rested_session(self) -> Session | None:
        while self._idle:
            session = self._idle.pop()
            if await self._answers(session):
                return session
            await _close(session)
        return None

    async def _answers(self, session: Session) -> bool:
        """Whether it is still there; one that has not rested for long is not asked."""
        if session.has_ended or session.rests_since <= self.database.outage.silent_at:
            session.terminate()
            return False
        if time.monotonic() - session.rests_since < _REST_SECONDS:
            return True
        try:
            await session.execute(SQL.ask, timeout=self.database.patience)
        except TimeoutError:
            self.database.outage.met_silence(session)
        except Exception as error:  # noqa: BLE001 - whatever it is, another connection is opened
            log.debug("connection_gone", error=str(error) or type(error).__name__)
            return False
        except BaseException:
            session.terminate()
            raise
        return not session.has_ended

    async def _is_like_new(self, session: Session) -> bool:
        try:
            with anyio.CancelScope(shield=True):
                within = min(_CLOSE_SECONDS, self.database.patience)
                await make_like_new(session, limited=self.database.lent, within=within)
        except TimeoutError:
            self.database.outage.met_silence(session)
            return False
        except Exception as error:  # noqa: BLE001 - whatever it is, what the connection was used for is done
            log.debug("connection_not_reset", error=str(error) or type(error).__name__)
            await _close(session)
            return False
        except BaseException:  # a cancellation of asyncio's own, which no shield of anyio's keeps off
            session.terminate()
            raise
        return True


async def _close(session: Session) -> None:
    """In order, or else at once: asyncpg cuts one that fails at it."""
    with anyio.CancelScope(shield=True), suppress(Exception):
        await session.close(timeout=_CLOSE_SECONDS)


class _Checkout:
    """A connection on its way out and back; a class, for this is on the path of every statement."""

    def __init__(self, cache: ConnectionCache, *, to_be_reset: bool) -> None:
        self._cache = cache
        self._database = cache.database
        self._to_be_reset = to_be_reset

    async def __aenter__(self) -> Connection:
        database = self._database
        try:
            self._connection = await self._cache.checkout()
        except (ValueError, OverflowError):  # their text may hold a part of the password
            raise ConfigurationError(
                "database_url is not the address of a Postgres database",
                hint="Write postgresql://user:password@host:5432/database, special characters percent-encoded.",
            ) from None
        except SlotTimeout as timeout:
            raise self._all_in_use(timeout.held) from None
        except _UNREACHABLE as error:
            raise database.unavailable(error) from (None if database.where == UNKNOWN else error)
        return self._connection

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if error is None:
            await self._cache.check_in(self._connection, as_new=self._to_be_reset)
            return
        database, session = self._database, session_of(self._connection)
        is_silent = isinstance(error, TimeoutError) and database.answer_within is not None and not database.lent
        try:
            reason = ended_for(error, session)
            is_away = is_silent or (reason is None and await self._is_absence(error, session))
        except BaseException:  # such as a cancellation
            await self._cache.discard(self._connection)
            raise
        if reason is not None:
            await self._cache.discard(self._connection)
            raise reason from error
        has_ended = session.has_ended
        if is_away or not isinstance(error, Exception):
            await self._cache.discard(self._connection, is_silent=is_silent)
        else:
            await self._cache.check_in(self._connection, as_new=True)
        if is_away:
            raise database.unavailable(error, ended_session=has_ended) from error

    async def _is_absence(self, error: BaseException, session: Session) -> bool:
        kind = kind_of(error, session)
        if kind != "only reads":
            return kind == "absence"
        try:
            return bool(await session.fetchval(SQL.only_reads, timeout=_CLOSE_SECONDS))
        except Exception:  # noqa: BLE001 - in a transaction that failed, for one
            return False

    def _all_in_use(self, held: Mapping[str, int]) -> CodelupeError:
        database, own, most = self._database, held.get(current_borrower(), 0), max(held.values(), default=0)
        message = f"no connection to {database.where} came free within {database.patience:g} s"
        if not database.lent:
            return database.unavailable(TimeoutError(message))
        holders = ", ".join(f"{name} had {count}" for name, count in held.items())
        message = f"{message}: of {database.connections}, {holders}"
        if own < most:
            hint = "Lower the concurrency of the one that had most, or raise database_connections."
            return ConnectionsHeldByOthers(message, hint=hint)
        return ConnectionsExhausted(
            message,
            hint="Hold none while waiting for something else; open fewer at once, lower the subscription's concurrency,"
            " or raise database_connections.",
        )
