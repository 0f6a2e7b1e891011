"""Which errors say that the database is away, and which are a statement's own.

The server says how grave an error is. After an ERROR the session goes on: what failed is the statement, and its
sender has to know. FATAL and PANIC end the session, mostly because the server cannot serve. The exceptions:

| SQLSTATE | grave | is | because |
| --- | --- | --- | --- |
| 08xxx | ERROR | the statement's | it comes from another server, by a foreign table or dblink |
| 25006 read_only_sql_transaction | ERROR | absence if the server only reads, else the statement's | a standby; the session may have made itself read-only |
| 25P03, 25P04 idle in, length of a transaction | FATAL | the statement's | the session was held too long |
| 53100 disk_full | ERROR | absence, unless it is about a temporary file | those belong to the statement, which may be what fills the disk |
| 53200 out_of_memory, 53400 temp_file_limit | ERROR | the statement's | |
| 53300 too_many_connections | FATAL | absence | |
| 55P03 lock_timeout | ERROR | the statement's | |
| 57014 statement_timeout, pg_cancel_backend | ERROR | the statement's | |
| 57P01 to 57P04 shutdown, crash, starting, dropped | FATAL | absence | |
| 57P05 idle_session_timeout | FATAL | the statement's | the session was held too long |
| 58xxx, XXxxx input or output, internal, corrupted | ERROR | the statement's | it would fail for ever |
| 58xxx, XXxxx | FATAL, PANIC | absence | |
"""  # noqa: E501 - a table

from __future__ import annotations

from typing import Literal

import asyncpg

from codelupe.postgres.sessions import Session, severity_of

_HELD_TOO_LONG = (
    asyncpg.IdleInTransactionSessionTimeoutError,
    asyncpg.TransactionTimeoutError,
    asyncpg.IdleSessionTimeoutError,
)
_OF_THE_CLIENT = (asyncpg.PostgresConnectionError, asyncpg.InterfaceError, asyncpg.InternalClientError)
"""What asyncpg says itself of a connection that is no more; a statement of ours can make it say the same."""
_TEMPORARY_FILES = "pgsql_tmp"

Kind = Literal["absence", "only reads", "own"]


def kind_of(error: BaseException, session: Session) -> Kind:
    """What the error comes to; whether a server ``only reads`` is to be asked."""
    if isinstance(error, BaseExceptionGroup):
        kinds = {kind_of(one, session) for one in error.exceptions}
        return kinds.pop() if len(kinds) == 1 else "own"
    if (severity := severity_of(error)) is None:
        return _kind_of_end(session) if isinstance(error, _OF_THE_CLIENT) and session.has_ended else "own"
    if severity != "ERROR":
        return "own" if isinstance(error, _HELD_TOO_LONG) else "absence"
    if isinstance(error, asyncpg.ReadOnlySQLTransactionError):
        return "only reads"
    is_full = isinstance(error, asyncpg.DiskFullError) and _TEMPORARY_FILES not in str(error)
    return "absence" if is_full else "own"


def ended_for(error: BaseException, session: Session) -> asyncpg.PostgresError | None:
    """The server's reason for ending a session that was held too long, if asyncpg's error does not say it."""
    if isinstance(error, BaseExceptionGroup):
        reasons = [ended_for(one, session) for one in error.exceptions]
        return reasons[0] if all(reasons) else None
    if not isinstance(error, _OF_THE_CLIENT) or not session.has_ended:
        return None
    reason = error.__cause__ if severity_of(error.__cause__) else session.last_words
    return reason if isinstance(reason, _HELD_TOO_LONG) else None


def _kind_of_end(session: Session) -> Kind:
    return "own" if session.closed_by_user else "absence"
