"""The lease of this process: a row in ``workers`` that a heartbeat keeps alive.

The heartbeat has its own thread, event loop and connection, so that neither a handler that blocks the main loop nor
a busy pool can cost the lease, and it goes on while the daemon drains.
"""

from __future__ import annotations

import asyncio
import os
import socket
import sys
import threading
import time
import traceback
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import structlog

from codelupe.postgres import Database
from codelupe.postgres.queries import load_queries
from codelupe.postgres.sessions import Session, open_session

SQL = load_queries("codelupe_sql", "log")
log = structlog.get_logger(__name__)

STANDSTILL = 1.5
"""Times the lease's length that a loop may stand, so that one that stands for less than the lease never costs it."""


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


class SignsOfLife:
    """When each loop of this process last came round; seen from the heartbeat's thread."""

    def __init__(self) -> None:
        self._thread = threading.get_ident()
        self._seen: dict[str, float] = {}

    def record(self, loop: str) -> None:
        """The loop has come round."""
        self._seen[loop] = time.monotonic()

    def forget(self, *loops: str) -> None:
        """These have ended, so nothing is expected of them."""
        for loop in loops:
            self._seen.pop(loop, None)

    @property
    def longest_silence(self) -> tuple[str, float]:
        """The loop that has not come round for the longest time, and for how many seconds."""
        loop, at = min(self._seen.copy().items(), key=lambda one: one[1], default=("", time.monotonic()))
        return loop, time.monotonic() - at

    @property
    def stack(self) -> str:
        """What the thread of the loops is doing right now."""
        frame = sys._current_frames().get(self._thread)  # noqa: SLF001 - there is no other way in
        return "".join(traceback.format_stack(frame)) if frame else ""


class Heartbeat:
    """Keeps one worker's lease; calls ``on_lost`` from its thread when it is gone.

    The lease is lost when another process took it, or when the database could not be reached for the whole of its
    time: from then on another process may rightly do the same work. A beat comes ``every`` so often; by default
    four times in that time. A lease that a process with standing loops kept would keep its work from all others: it is
    never extended beyond :data:`STANDSTILL` times its length after the oldest of the ``signs`` of life.
    """

    def __init__(
        self,
        database: Database,
        worker: uuid.UUID,
        ttl: timedelta,
        on_lost: Callable[[str], None],
        *,
        every: timedelta | None = None,
        signs: SignsOfLife | None = None,
    ) -> None:
        self._url = database.url
        self._worker = worker
        self._ttl = ttl
        self._every = ttl / 4 if every is None else every
        self._answer_within = min(5.0, ttl.total_seconds() / 4)
        self._on_lost = on_lost
        self._signs = signs or SignsOfLife()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._beat()), name="heartbeat", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """End the thread; waits for a beat under way."""
        self._stop.set()
        self._thread.join(timeout=5)

    async def _beat(self) -> None:
        session: Session | None = None
        kept_at = time.monotonic()
        try:
            while not await asyncio.to_thread(self._stop.wait, self._every.total_seconds()):
                loop, silence = self._signs.longest_silence
                ttl = min(self._ttl, self._ttl * STANDSTILL - timedelta(seconds=silence))
                if ttl <= timedelta(0):
                    log.error("loop_stands", loop=loop, seconds=round(silence, 1), stack=self._signs.stack)
                    return self._on_lost(f"the loop {loop} has not come round for {silence:.1f} s")
                try:
                    if session is None or session.is_closed():
                        session = await open_session(self._url, answer_within=self._answer_within)
                    kept = await session.fetchval(SQL.heartbeat, self._worker, ttl)
                except Exception as error:  # whatever a connection cut short raises: the heart must not stop unnoticed
                    if session is not None:
                        session.terminate()
                        session = None
                    log.debug("heartbeat_failed", error=str(error))
                    if time.monotonic() - kept_at > self._ttl.total_seconds():
                        return self._on_lost("the database could not be reached for the lease's whole time")
                    continue
                if kept is None:
                    return self._on_lost("another process took it over")
                kept_at = time.monotonic()
        finally:
            if session is not None:
                session.terminate()
