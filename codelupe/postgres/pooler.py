"""Whether a pooler between here and the server lends its connections for longer than a transaction."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import asyncpg

from codelupe.errors import ConfigurationError
from codelupe.postgres.sessions import SQL

if TYPE_CHECKING:
    Connection = asyncpg.Connection[asyncpg.Record]
else:
    Connection = asyncpg.Connection

_ROUNDS = 5
_ANSWER_SECONDS = 10.0
_HINT = (
    "CodeLupe needs sessions: it listens for notifications and holds session-level locks. Set pool_mode = session for"
    " this database in pgbouncer.ini, or name the server itself in database_url."
)


async def require_sessions(url: str, where: str) -> None:
    """Make sure that each connection has a server process of its own.

    While one client is in a transaction, another asks twice which process serves it. In transaction mode the first is
    given the process that the other has just left, and the other gets a different one.

    Raises:
        ConfigurationError: it has not; PgBouncer is in transaction or statement mode.
    """
    async with _connected(url) as asking, _connected(url) as taking:
        try:
            if await _share_a_process(asking, taking):
                raise ConfigurationError(f"PgBouncer at {where} is in transaction mode", hint=_HINT)
        except asyncpg.PostgresError as error:
            if "statement pooling" not in str(error):
                raise
            raise ConfigurationError(f"PgBouncer at {where} is in statement mode", hint=_HINT) from None


async def _share_a_process(asking: Connection, taking: Connection) -> bool:
    """Asked several times, for a third client may come between."""
    pids: set[int] = set()
    for _ in range(_ROUNDS):
        pids.add(await _pid(asking))
        async with taking.transaction():
            if await taking.fetchval(SQL.backend) in pids:
                return True
            pids.add(await _pid(asking))
    return len(pids) > 1


async def _pid(connection: Connection) -> int:
    async with connection.transaction():
        pid: int = await connection.fetchval(SQL.backend)
        return pid


@asynccontextmanager
async def _connected(url: str) -> AsyncIterator[Connection]:
    connection = await asyncpg.connect(
        url, timeout=_ANSWER_SECONDS, command_timeout=_ANSWER_SECONDS, statement_cache_size=0
    )
    try:
        yield connection
    finally:
        connection.terminate()
