"""Leadership: what one process of the cluster may do at a time."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress

import anyio
import asyncpg
import structlog

from codelupe.errors import DatabaseUnavailable
from codelupe.postgres import Connection, Database, answering
from codelupe.postgres.queries import load_queries

SQL = load_queries("codelupe_sql", "log")

log = structlog.get_logger("codelupe")


@asynccontextmanager
async def leading(database: Database, name: str, *, needed: bool = True) -> AsyncIterator[bool]:
    """Whether this process leads: it holds the cluster's only lock of this name, on a session whose end frees it.

    Where leadership is not ``needed``, every process may go on.

    Raises:
        DatabaseUnavailable: the connection ended meanwhile, so what went on under the lock was cancelled.
    """
    if not needed:
        yield True
        return
    async with database.connection() as connection:
        leads = bool(await connection.fetchval(SQL.try_leader_lock, name, timeout=database.patience))
        log.debug("leads" if leads else "another_process_leads", name=name)
        with anyio.CancelScope() as scope, _cancelling_with(connection, scope):
            try:
                async with anyio.create_task_group() as watching:
                    watching.start_soon(_end_when_silent, database, connection)
                    yield leads
                    watching.cancel_scope.cancel()
            except BaseExceptionGroup as group:
                raise group.exceptions[0] from group.exceptions[0].__cause__
        if scope.cancelled_caught:
            raise DatabaseUnavailable(f"the connection that held the lock of {name} broke", outage=database.outage)


async def _end_when_silent(database: Database, connection: Connection) -> None:
    """Cut a connection that answers no longer: the server may have given its lock to another process."""
    while True:
        await anyio.sleep(database.patience / 3)
        with answering(database, connection):
            await connection.execute(SQL.own_pid)


@contextmanager
def _cancelling_with(connection: Connection, scope: anyio.CancelScope) -> Iterator[None]:
    """Cancel the scope when the connection ends."""

    def on_end(*_: object) -> None:
        scope.cancel()

    connection.add_termination_listener(on_end)
    try:
        yield
    finally:
        with suppress(asyncpg.InterfaceError):  # it ended, and knows its listeners no longer
            connection.remove_termination_listener(on_end)
