"""One session with the server: how it is opened, how it is made like new, and how it ended."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import TYPE_CHECKING, Any

import asyncpg
from asyncpg import connect_utils

from codelupe.postgres.jsonb import use_jsonb
from codelupe.postgres.queries import load_queries

SQL = load_queries("codelupe_sql", "sessions")
_RESET_STEPS = (
    "reset_user",
    "reset_role",
    "run_unlock",
    "close_cursors",
    "unlisten",
    "reset_settings",
    "reset_sequences",
    "run_begin",
)
_RESET = "; ".join(getattr(SQL, step) for step in _RESET_STEPS)
_CONNECT_SECONDS = 10.0
_ATTEMPTS = 3
_LONGEST_ERROR = 10_000
_SILENCE_SECONDS = 60.0

if TYPE_CHECKING:
    _Connection = asyncpg.Connection[asyncpg.Record]
    Connection = asyncpg.pool.PoolConnectionProxy[asyncpg.Record]
else:
    Connection = asyncpg.pool.PoolConnectionProxy
    _Connection = asyncpg.Connection


class _Greeting(connect_utils.TLSUpgradeProto):
    """asyncpg's question whether the server speaks TLS.

    When it is given up before it is sent, how it ended is never asked (asyncpg 0.32), and asyncio would report that as
    an error: a silent server ends in many of these.
    """

    def connection_lost(self, error: Exception | None) -> None:
        super().connection_lost(error)
        if not self.on_data.cancelled():
            self.on_data.exception()


connect_utils.TLSUpgradeProto = _Greeting  # type: ignore[misc]

Backend = tuple[int, datetime]
"""The server's process of one session: its number, and when it began."""


class Session(_Connection):
    """asyncpg's connection, which also knows whether its user closed or changed it, and what the server said last."""

    _config: Any
    _protocol: Any
    _transport: Any
    _top_xact: Any
    _pool_release_ctr: int
    _listeners: dict[str, Any]
    _log_listeners: set[Any]
    _termination_listeners: set[Any]
    _query_loggers: set[Any]

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.closed_by_user = False
        self.has_own_codecs = False
        """Whether values travel otherwise than in a new session; only closing it undoes that."""
        self.has_builtins_changed = False
        """Whether values of Postgres' own types do."""
        self.borrower = ""
        """Whose work has it, while it is lent."""
        self.rests_since = 0.0
        self.backend: Backend | None = None
        self._look: Callable[[str], None] | None = None
        self._overheard = _Overhearing(self._protocol)
        self._transport.set_protocol(self._overheard)

    def answer_within(self, seconds: float | None) -> float | None:
        """From now on a statement raises TimeoutError when it takes longer; returns what was so far."""
        before: float | None = self._config.command_timeout
        self._config = self._config._replace(command_timeout=seconds)
        return before

    @contextmanager
    def watched(self, look: Callable[[str], None]) -> Iterator[None]:
        """Inside the block ``look`` hears of each query before it is sent.

        :attr:`has_left_transaction` says whether the session was outside of its transaction since then.
        """
        self._look = look
        self._overheard.begin_watch()
        try:
            yield
        finally:
            self._look, self._overheard.is_watched = None, False

    @property
    def has_left_transaction(self) -> bool:
        return self._overheard.ended_transaction

    @property
    def last_words(self) -> asyncpg.PostgresError | None:
        """The error with which the server ended the session, if it said one."""
        return _error_in(self._overheard.last)

    @property
    def has_ended(self) -> bool:
        """Whether it is closed, or will be as soon as asyncpg hears of it."""
        return self.is_closed() or self.last_words is not None

    @property
    def is_in_the_middle(self) -> bool:
        """Whether a transaction is open, for the server or for asyncpg."""
        return self.is_in_transaction() or self._top_xact is not None

    def forget_listeners(self) -> None:
        for listeners in (self._listeners, self._log_listeners, self._termination_listeners, self._query_loggers):
            listeners.clear()

    # --- what its user calls ---

    async def execute(self, query: str, *arguments: Any, timeout: float | None = None) -> str:  # noqa: ASYNC109 - asyncpg's
        if self._look is not None and not arguments:
            self._look(query)
        status: str = await super().execute(query, *arguments, timeout=timeout)
        return status

    async def _get_statement(self, query: str, *arguments: Any, **options: Any) -> Any:
        if self._look is not None:
            self._look(query)
        return await super()._get_statement(query, *arguments, **options)  # type: ignore[misc]

    async def close(self, *, timeout: float | None = None) -> None:  # noqa: ASYNC109 - asyncpg's
        self.closed_by_user = True
        await super().close(timeout=timeout)

    def terminate(self) -> None:
        self.closed_by_user = True
        super().terminate()

    async def set_type_codec(self, typename: str, *, schema: str = "public", **options: Any) -> None:
        self._note_codec(schema)
        await super().set_type_codec(typename, schema=schema, **options)

    async def set_builtin_type_codec(self, typename: str, *, schema: str = "public", **options: Any) -> None:
        self._note_codec(schema)
        await super().set_builtin_type_codec(typename, schema=schema, **options)

    async def reset_type_codec(self, typename: str, *, schema: str = "public") -> None:
        self._note_codec(schema)
        await super().reset_type_codec(typename, schema=schema)

    def _note_codec(self, schema: str) -> None:
        self.has_own_codecs = True
        self.has_builtins_changed |= schema == "pg_catalog"


def lend(session: Session) -> Connection:
    """The session as its user sees it, until it is taken back."""
    proxy: Any = asyncpg.pool.PoolConnectionProxy
    connection: Connection = proxy(None, session)
    return connection


def session_of(connection: Any) -> Session:
    """The session that was lent."""
    session: Session = connection._con  # noqa: SLF001 - asyncpg's own pool does no other
    return session


def take_back(connection: Any) -> Session:
    """End the loan: a connection that was kept is of no use any more, nor is a statement or a cursor."""
    session: Session = connection._detach()  # noqa: SLF001 - asyncpg's own pool does no other
    session._pool_release_ctr += 1  # noqa: SLF001
    return session


async def open_session(url: str, *, limited: bool = False, answer_within: float | None = None) -> Session:
    """A session of the host, or one that is ``limited`` as an administrator wishes.

    Each statement must be answered within so many seconds. A peer that vanished is found by the kernel within the same
    time, or a minute. A session that is ended before its limits are lifted, as by an ``idle_session_timeout`` that is
    shorter than this process takes, is no more than that: another one is opened, if there is still a server.
    """
    for attempt in range(1, _ATTEMPTS + 1):
        session: Session = await asyncpg.connect(
            url,
            timeout=min(_CONNECT_SECONDS, answer_within or _CONNECT_SECONDS),
            command_timeout=answer_within,
            server_settings={"application_name": "codelupe"},
            connection_class=Session,
        )
        try:
            _bound_silence(session, answer_within or _SILENCE_SECONDS)
            async with asyncio.timeout(answer_within or _SILENCE_SECONDS):
                await _set_up(session, limited=limited)
                await use_jsonb(session)
                if (serving := await session.fetchrow(SQL.backend)) is not None:
                    session.backend = serving["pid"], serving["backend_start"]
        except BaseException as error:
            has_ended = session.has_ended
            session.terminate()
            if attempt < _ATTEMPTS and has_ended and isinstance(error, Exception):
                continue
            raise
        break
    session.has_own_codecs = session.has_builtins_changed = False
    return session


async def make_like_new(session: Session, *, limited: bool, within: float) -> None:
    """Undo what was set, locked, listened to or opened in the session, within so many seconds.

    Raises:
        TimeoutError: the server has not answered.
        asyncpg.DivisionByZeroError: it has temporary tables or prepared statements, so it is to be closed.
    """
    session.forget_listeners()
    await session.execute(_RESET if limited else f"{_RESET}; {SQL.lift_limits}", timeout=within)


async def end_orphans(session: Session, orphans: Sequence[Backend], *, within: float) -> None:
    """End what the server still keeps open for sessions that were given up, with their transactions and locks."""
    pids, began = zip(*orphans, strict=True)
    each_ms = max(1, int(within * 500 / len(orphans)))
    await session.execute(SQL.end_orphans, pids, began, each_ms, timeout=within)


async def _set_up(session: Session, *, limited: bool) -> None:
    prepared = f"{SQL.unprepare}; {SQL.prepare_begin}; {SQL.prepare_unlock}; {SQL.run_begin}"
    await session.execute(prepared if limited else f"{prepared}; {SQL.lift_limits}")


def _bound_silence(session: Session, seconds: float) -> None:
    """Let the kernel end a connection whose peer is gone, whether something is under way or nothing."""
    peer = session._transport.get_extra_info("socket")  # noqa: SLF001 - asyncpg shows it nowhere else
    if peer is None or peer.family == socket.AF_UNIX:
        return
    peer.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, max(1, int(seconds / 2)))
    peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, max(1, int(seconds / 6)))
    peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 3)
    peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(seconds * 1000))


class _Overhearing(asyncio.Protocol):
    """Hands everything on to asyncpg and keeps what came last: of an error that comes unasked asyncpg tells nothing."""

    def __init__(self, protocol: Any) -> None:
        self._protocol = protocol
        self.last = b""
        self.is_watched = False
        self.ended_transaction = False
        """Whether the server has left the transaction while it was watched; it may be in another one by now."""
        self._carried = b""

    def begin_watch(self) -> None:
        self.is_watched, self.ended_transaction, self._carried = True, False, b""

    def data_received(self, data: bytes) -> None:
        self.last = data
        self._protocol.data_received(data)
        if self.is_watched:
            self._watch(self._carried + data)

    def _watch(self, heard: bytes) -> None:
        """Of an answer that comes in pieces, what the next piece may complete is carried along."""
        if not self._protocol.is_in_transaction() or _tells_of_another_transaction(heard):
            self.ended_transaction = True
        rolled_back = _ROLLED_BACK if _ROLLED_BACK in heard else b""
        self._carried = b"" if heard[-6:-1] == _READY else rolled_back + heard[-_LONGEST_COMPLETION:]

    def eof_received(self) -> bool | None:
        received: bool | None = self._protocol.eof_received()
        return received

    def connection_lost(self, exc: Exception | None) -> None:
        self._protocol.connection_lost(exc)

    def pause_writing(self) -> None:
        self._protocol.pause_writing()

    def resume_writing(self) -> None:
        self._protocol.resume_writing()


def _tells_of_another_transaction(data: bytes) -> bool:
    """Whether it says that the transaction was ended, in one answer with what begins another.

    ROLLBACK TO a savepoint is called ROLLBACK, too.
    """
    return _COMMITTED in data or _PREPARED in data or (_ROLLED_BACK in data and any(each in data for each in _BEGUN))


def _completed(command: bytes) -> bytes:
    """A CommandComplete of the protocol: a letter, its length, and the command's name."""
    return b"C" + (len(command) + 5).to_bytes(4, "big") + command + b"\0"


_COMMITTED, _PREPARED, _ROLLED_BACK = map(_completed, (b"COMMIT", b"PREPARE TRANSACTION", b"ROLLBACK"))
_BEGUN = tuple(map(_completed, (b"BEGIN", b"START TRANSACTION")))
_LONGEST_COMPLETION = len(_PREPARED)
_READY = b"Z\0\0\0\5"
"""ReadyForQuery, which ends an answer; a letter follows that says whether a transaction is open."""


def severity_of(error: BaseException | None) -> str | None:
    """ERROR, FATAL or PANIC if the server has said it; None if it comes from asyncpg."""
    if not isinstance(error, asyncpg.PostgresError):
        return None
    severity: str | None = getattr(error, "severity_en", None) or getattr(error, "severity", None)
    return severity


def _error_in(data: bytes) -> asyncpg.PostgresError | None:
    """The error that ended the session, if it is what the data end with.

    An ErrorResponse of the protocol is a letter, its length, and fields that end with a zero each.
    """
    severity = max(data.rfind(mark, -_LONGEST_ERROR) for mark in (b"\0VFATAL\0", b"\0VPANIC\0"))
    start = data.rfind(b"E", 0, severity) if severity >= 0 else -1
    while start >= 0 and start + 1 + int.from_bytes(data[start + 1 : start + 5], "big") != len(data):
        start = data.rfind(b"E", 0, start)
    if start < 0:
        return None
    fields = {chr(field[0]): field[1:].decode(errors="replace") for field in data[start + 5 :].split(b"\0") if field}
    error: asyncpg.PostgresError = asyncpg.PostgresError.new(fields)
    return error
