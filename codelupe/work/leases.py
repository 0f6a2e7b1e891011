"""The lease of this process: a row in ``workers`` that a heartbeat keeps alive.

The heartbeat has its own thread, event loop and connection, so that neither a handler that blocks the main loop nor
a busy pool can cost the lease, and it goes on while the daemon drains.
"""

from __future__ import annotations

import asyncio
import os
import socket
import threading
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import asyncpg
import structlog

from codelupe.postgres import Database
from codelupe.postgres.queries import load_queries

SQL = load_queries("codelupe_sql", "log")
log = structlog.get_logger(__name__)


@dataclass(frozen=True, kw_only=True)
class ProcessIdentity:
    """Which process this is, so that another on the same machine can tell whether it still lives."""

    host: str
    boot_id: str
    pid: int
    pid_started: str

    @classmethod
    def of_this_process(cls) -> ProcessIdentity:
        return cls(
            host=socket.gethostname(),
            boot_id=Path("/proc/sys/kernel/random/boot_id").read_text().strip(),
            pid=os.getpid(),
            pid_started=_start_time(os.getpid()) or "",
        )


def is_alive(pid: int, started: str) -> bool:
    """Whether the process with this pid is still the one that started then (pids are used again)."""
    return _start_time(pid) == started


def _start_time(pid: int) -> str | None:
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    fields = stat.rpartition(")")[2].split()
    is_zombie = fields[0] == "Z"
    return None if is_zombie else fields[19]


class Heartbeat:
    """Keeps one worker's lease; calls ``on_lost`` from its thread when it is gone.

    The lease is lost when another process took it, or when the database could not be reached for the whole of its
    time: from then on another process may rightly do the same work. A beat comes ``every`` so often; by default
    four times in that time.
    """

    def __init__(
        self,
        database: Database,
        worker: uuid.UUID,
        ttl: timedelta,
        on_lost: Callable[[str], None],
        *,
        every: timedelta | None = None,
    ) -> None:
        self._url = database.url
        self._worker = worker
        self._ttl = ttl
        self._every = ttl / 4 if every is None else every
        self._on_lost = on_lost
        self._stop = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._beat()), name="heartbeat", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """End the thread; waits for a beat under way."""
        self._stop.set()
        self._thread.join(timeout=5)

    async def _beat(self) -> None:
        connection: asyncpg.Connection[asyncpg.Record] | None = None
        kept_at = time.monotonic()
        try:
            while not await asyncio.to_thread(self._stop.wait, self._every.total_seconds()):
                try:
                    if connection is None or connection.is_closed():
                        connection = await asyncpg.connect(self._url, timeout=5, command_timeout=5)
                    kept = await connection.fetchval(SQL.heartbeat, self._worker, self._ttl)
                except Exception as error:  # whatever a connection cut short raises: the heart must not stop unnoticed
                    if connection is not None:
                        connection.terminate()
                        connection = None
                    log.debug("heartbeat_failed", error=str(error))
                    if time.monotonic() - kept_at > self._ttl.total_seconds():
                        return self._on_lost("the database could not be reached for the lease's whole time")
                    continue
                if kept is None:
                    return self._on_lost("another process took it over")
                kept_at = time.monotonic()
        finally:
            if connection is not None:
                connection.terminate()
