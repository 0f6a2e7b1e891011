"""Telling subscriptions that there is something new: in this process at once, in others by NOTIFY.

Nothing depends on a notification: subscriptions also look by themselves about once a second. NOTIFY takes a lock
over the whole cluster until its transaction commits, so it never runs in the transaction that appends, but after it
on a connection of its own, and at most once in 15 ms for all that was appended meanwhile: each one writes to the
write-ahead log, which the appends wait for.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import suppress

import anyio
import anyio.lowlevel

from codelupe.postgres import Connection, Database
from codelupe.postgres.queries import load_queries
from codelupe.postgres.retry import RetryWhileUnavailable

SQL = load_queries("codelupe_sql", "log")
CHANNEL = "codelupe_log"
_UNLISTEN_SECONDS = 5.0


class Signal:
    """Wakes one waiter. Set while the waiter is busy it is not lost: the next wait ends at once."""

    def __init__(self) -> None:
        self._is_set = anyio.Event()

    def set(self) -> None:
        self._is_set.set()

    async def wait(self, at_most: float = math.inf) -> bool:
        """Until it is set, or ``at_most`` seconds; returns whether there was anything to wait for."""
        waits = not self._is_set.is_set()
        if waits:
            with anyio.move_on_after(at_most):
                await self._is_set.wait()
        else:
            await anyio.lowlevel.checkpoint()
        self._is_set = anyio.Event()
        return waits


class Notifier:
    """Listens and notifies for one process, at most once in ``pause`` seconds."""

    def __init__(self, database: Database, *, pause: float = 0.015) -> None:
        self._database = database
        self._pause = pause
        self._signals: list[Signal] = []
        self._task_signals: list[Signal] = []
        self._outgoing = Signal()

    def signal(self) -> Signal:
        """A signal that is set when something was appended, here or elsewhere."""
        self._signals.append(signal := Signal())
        return signal

    def task_signal(self) -> Signal:
        """A signal that is set when tasks were changed from outside, for example by ``codelupe dead-letters retry``."""
        self._task_signals.append(signal := Signal())
        return signal

    def announce(self) -> None:
        """Something was appended here: wake this process now and the others soon."""
        self.wake()
        self._outgoing.set()

    def wake(self) -> None:
        """Set the signals of this process."""
        for signal in self._signals:
            signal.set()

    async def run(self) -> None:
        """Listen and notify until cancelled, over a database that may go away."""
        attempt = RetryWhileUnavailable("notifications")
        while True:
            async with attempt, self._database.connection() as connection:
                await self._listen_and_notify(connection, attempt.record_success)

    async def _listen_and_notify(self, connection: Connection, when_listening: Callable[[], None]) -> None:
        own, patience = await connection.fetchval(SQL.own_pid), self._database.patience

        def on_notification(_connection: object, pid: int, _channel: str, what: object) -> None:
            if pid != own:
                self.wake()
            if what == "tasks":
                for signal in self._task_signals:
                    signal.set()

        await connection.execute(SQL.notify_without_waiting_for_the_disk, timeout=patience)
        await connection.add_listener(CHANNEL, on_notification)
        try:
            when_listening()
            self.wake()
            while True:
                # A silent connection brings nothing either; what shows it is that it answers no longer.
                await self._outgoing.wait(patience / 3)
                await connection.execute(SQL.notify, timeout=patience)
                await anyio.sleep(self._pause)
        finally:
            with anyio.move_on_after(_UNLISTEN_SECONDS, shield=True), suppress(Exception):
                await connection.remove_listener(CHANNEL, on_notification)
