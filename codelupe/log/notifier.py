"""Telling subscriptions that there is something new: in this process at once, in others by NOTIFY.

Nothing depends on a notification: subscriptions also look by themselves about once a second. NOTIFY takes a lock
over the whole cluster until its transaction commits, so it never runs in the transaction that appends, but after it
on a connection of its own, and at most once in 15 ms for all that was appended meanwhile: each one writes to the
write-ahead log, which the appends wait for.
"""

from __future__ import annotations

import math

import anyio
import anyio.lowlevel
import asyncpg
import structlog

from codelupe.errors import DatabaseUnavailable
from codelupe.postgres import Connection, Database
from codelupe.postgres.queries import load_queries

SQL = load_queries("codelupe_sql", "log")
CHANNEL = "codelupe_log"
_NOTIFY_INTERVAL_SECONDS = 0.015
_RECONNECT_SECONDS = 1.0

log = structlog.get_logger(__name__)


class Signal:
    """Rung for one waiter. A ring while he is busy is not lost: his next wait ends at once."""

    def __init__(self) -> None:
        self._rung = anyio.Event()

    def set(self) -> None:
        self._rung.set()

    async def wait(self, at_most: float = math.inf) -> bool:
        """Until it rings, or ``at_most`` seconds; returns whether there was anything to wait for."""
        waits = not self._rung.is_set()
        if waits:
            with anyio.move_on_after(at_most):
                await self._rung.wait()
        else:
            await anyio.lowlevel.checkpoint()
        self._rung = anyio.Event()
        return waits


class Notifier:
    """One process's ears and voice."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._signals: list[Signal] = []
        self._task_signals: list[Signal] = []
        self._outgoing = Signal()

    def signal(self) -> Signal:
        """A signal that rings when something was appended, here or elsewhere."""
        self._signals.append(signal := Signal())
        return signal

    def task_signal(self) -> Signal:
        """A signal that rings when another process has changed what waits in tasks, such as a person with a retry."""
        self._task_signals.append(signal := Signal())
        return signal

    def announce(self) -> None:
        """Something was appended here: wake this process now and the others soon."""
        self.wake()
        self._outgoing.set()

    def wake(self) -> None:
        """Wake everyone in this process who waits."""
        for signal in self._signals:
            signal.set()

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
        own = connection.get_server_pid()

        def heard(_connection: object, pid: int, _channel: str, what: object) -> None:
            if pid != own:
                self.wake()
            if what == "tasks":
                for signal in self._task_signals:
                    signal.set()

        await connection.execute(SQL.notify_without_waiting_for_the_disk)
        await connection.add_listener(CHANNEL, heard)
        try:
            self.wake()
            while True:
                await self._outgoing.wait()
                await connection.execute(SQL.notify)
                await anyio.sleep(_NOTIFY_INTERVAL_SECONDS)
        finally:
            if not connection.is_closed():
                with anyio.CancelScope(shield=True):
                    await connection.remove_listener(CHANNEL, heard)
