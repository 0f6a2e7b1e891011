"""Telling subscriptions that there is something new: in this process at once, in others by NOTIFY.

Nothing depends on a notification: subscriptions also look by themselves about once a second. NOTIFY takes a lock
over the whole cluster until its transaction commits, so it never runs in the transaction that appends, but 5 ms
later on a connection of its own, once for all that was appended meanwhile.
"""

from __future__ import annotations

import anyio
import asyncpg
import structlog

from codelupe.errors import DatabaseUnavailable
from codelupe.postgres import Connection, Database
from codelupe.queries import load_queries

SQL = load_queries("codelupe_sql", "log")
CHANNEL = "codelupe_log"
_DEBOUNCE_SECONDS = 0.005
_RECONNECT_SECONDS = 1.0

log = structlog.get_logger(__name__)


class Wakeups:
    """One process's ears and voice."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._woken = anyio.Event()
        self._outgoing = anyio.Event()

    def announce(self) -> None:
        """Something was appended here: wake this process now and the others soon."""
        self.wake()
        self._outgoing.set()

    def wake(self) -> None:
        """Wake everyone in this process who waits."""
        self._woken.set()
        self._woken = anyio.Event()

    async def wait(self, at_most: float) -> None:
        """Until somebody wakes us, or ``at_most`` seconds."""
        woken = self._woken
        with anyio.move_on_after(at_most):
            await woken.wait()

    async def run(self) -> None:
        """Listen and notify until cancelled, over a database that may go away."""
        while True:
            try:
                async with self._database.connection() as connection:
                    await self._converse(connection)
            except (DatabaseUnavailable, asyncpg.PostgresError) as error:
                log.debug("wakeups_lost", error=str(error))
                await anyio.sleep(_RECONNECT_SECONDS)

    async def _converse(self, connection: Connection) -> None:
        def heard(*_: object) -> None:
            self.wake()

        await connection.add_listener(CHANNEL, heard)
        try:
            self.wake()
            while True:
                await self._outgoing.wait()
                self._outgoing = anyio.Event()
                await anyio.sleep(_DEBOUNCE_SECONDS)
                await connection.execute(SQL.notify)
        finally:
            if not connection.is_closed():
                with anyio.CancelScope(shield=True):
                    await connection.remove_listener(CHANNEL, heard)
