"""What a host bears: so many clones at once, and none while it says that it is enough."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager
from datetime import timedelta
from pathlib import Path

import anyio
import anyio.to_thread

from codelupe import Database, RetryLater, load_queries, open_lock
from codelupe_downloader.git import HostClosed
from codelupe_git.clones import safe_name

SQL = load_queries("codelupe_sql", "downloader")
_LONGEST_WAIT = timedelta(days=1)
_LOOK_SECONDS = 0.05
_LOOKS = 20
_TURN_SECONDS = 2


class Hosts:
    """The hosts that are cloned from.

    Processes that share the ``folder`` share the places there, and all on the same database the waits.
    """

    def __init__(self, database: Database, folder: Path, at_once: int) -> None:
        self._database = database
        self._folder = folder / ".hosts"
        self._at_once = at_once

    @asynccontextmanager
    async def asked(self, host: str | None) -> AsyncIterator[None]:
        """Around whatever is asked of a host; None is this machine, which is always there.

        Raises:
            RetryLater: it is to be left alone, or busy with as many clones as it may have.
        """
        if host is None:
            yield
            return
        was_closed = await self._is_open_again(host)
        with ExitStack() as stack:
            if not await self._take_place(host, stack):
                raise RetryLater(f"{host} has as many clones as it may have at once", after=_soon(), counts=False)
            yield
        if was_closed:
            await self._database.execute(SQL.open_host, host)

    async def close(self, host: str, error: HostClosed) -> int:
        """Leave the host alone, for as long as it said or else longer each time; how often that was in a row."""
        after = None if error.after is None else min(error.after, _LONGEST_WAIT).total_seconds()
        reason = "it cannot be reached" if error.status is None else f"it answered {error.status}"
        waits: int = await self._database.fetchval(SQL.close_host, host, after, reason)
        return waits

    async def wait(self, host: str) -> RetryLater:
        """What to raise while the host is left alone."""
        row = await self._database.fetchrow(SQL.host_wait, host)
        return _left_alone(host, row["seconds"] if row else 0, row["reason"] if row else "")

    async def _is_open_again(self, host: str) -> bool:
        """Whether it was left alone until now."""
        row = await self._database.fetchrow(SQL.host_wait, host)
        if row is not None and row["seconds"] > 0:
            raise _left_alone(host, row["seconds"], row["reason"])
        return row is not None

    async def _take_place(self, host: str, stack: ExitStack) -> bool:
        for _ in range(_LOOKS):
            if await anyio.to_thread.run_sync(self._take_free_place, host, stack):
                return True
            await anyio.sleep(_LOOK_SECONDS)
        return False

    def _take_free_place(self, host: str, stack: ExitStack) -> bool:
        self._folder.mkdir(parents=True, exist_ok=True)
        for number in range(self._at_once):
            with ExitStack() as attempt:
                lock = attempt.enter_context(open_lock(self._folder / f"{safe_name(host)}.{number}"))
                if lock.try_acquire():
                    stack.push(attempt.pop_all())
                    return True
        return False


def _left_alone(host: str, seconds: float, reason: str) -> RetryLater:
    after = timedelta(seconds=max(0.0, seconds)) + _soon()
    return RetryLater(f"{host} is left alone: {reason}", after=after, counts=False)


def _soon() -> timedelta:
    """Not for all at the same moment."""
    return timedelta(seconds=random.uniform(0.1, _TURN_SECONDS))
