"""The faults, and how often each has really happened."""

from __future__ import annotations

import os
import signal
from collections import Counter
from collections.abc import Awaitable, Callable
from datetime import timedelta
from pathlib import Path
from random import Random
from typing import Any

import anyio

from codelupe.errors import DatabaseUnavailable
from codelupe.postgres import Database
from codelupe.postgres.embedded import embedded_server
from codelupe.postgres.queries import load_queries
from tests.chaos.fleet import Fleet, Member
from tests.silent_proxy import SilentProxy

SQL = load_queries("tests.chaos", "chaos")
POLL_SECONDS = 0.05
_BUSY_SECONDS = 1.0
"""How long to wait for a process to be at work before it is hurt all the same."""
_MOST_CUTS = 5
_LONGEST_SILENCE_SECONDS = 3.0


class Faults:
    """What can be done to the workers and to their Postgres."""

    def __init__(self, database: Database, postgres: Path, fleet: Fleet, proxy: SilentProxy, random: Random) -> None:
        self._database = database
        self._postgres = postgres
        self._fleet = fleet
        self._proxy = proxy
        self._random = random
        self._hours_ahead = 0
        self.happened: Counter[str] = Counter()
        self.kinds: dict[str, Callable[[], Awaitable[None]]] = {
            "kill": self.kill,
            "freeze": self.freeze,
            "cut": self.cut,
            "restart": self.restart,
            "silence": self.silence,
            "clock": self.clock,
        }

    async def kill(self) -> None:
        """SIGKILL for a worker at work."""
        member = await self._busy_member()
        if member is not None and member.is_up:
            member.kill()
            self.happened["kill"] += 1

    async def freeze(self) -> None:
        """SIGSTOP for a worker at work until its lease is over, and SIGCONT a little later: a zombie wakes up."""
        member = await self._busy_member()
        if member is None or not member.is_up:
            return
        member.freeze()
        while await patiently(self._database, SQL.has_lease, member.pid):
            await anyio.sleep(POLL_SECONDS)
        await anyio.sleep(self._random.random())
        member.thaw()
        self.happened["freeze"] += 1

    async def cut(self) -> None:
        """``pg_terminate_backend`` for some connections of any process."""
        backends = [row["pid"] for row in await self._database.fetch(SQL.client_backends)]
        chosen = self._random.sample(backends, min(len(backends), self._random.randint(1, _MOST_CUTS)))
        self.happened["cut"] += bool(await self._database.fetchval(SQL.terminate_backends, chosen))

    async def restart(self) -> None:
        """Postgres stops without a word, stays away for a moment and recovers."""
        before = await patiently(self._database, SQL.server_started)
        os.kill(await patiently(self._database, SQL.postmaster_pid), signal.SIGQUIT)
        await anyio.sleep(self._random.random())
        while await self._ensure_server() == before:
            await anyio.sleep(POLL_SECONDS)
        self.happened["restart"] += 1

    async def silence(self) -> None:
        """The connections of one worker stay open and nothing comes of them any more; new ones work.

        A while later both ends learn that they are gone, so that the server ends their transactions.
        """
        self.happened["silence"] += bool(self._proxy.fall_silent())
        await anyio.sleep(self._random.random() * _LONGEST_SILENCE_SECONDS)
        self._proxy.forget_the_silent()

    async def clock(self) -> None:
        """The database's clock is set forward or back, by an hour or two, and stays so until a worker has seen it."""
        self._hours_ahead = self._random.choice([hours for hours in (-1, 0, 1) if hours != self._hours_ahead])
        await self._database.execute(SQL.set_clock, timedelta(hours=self._hours_ahead))
        while not await patiently(self._database, SQL.is_clock_seen):
            await anyio.sleep(POLL_SECONDS)
        self.happened["clock"] += 1

    async def _ensure_server(self) -> Any:
        """Start it unless it runs; returns when it began."""
        async with embedded_server(self._postgres):
            return await patiently(self._database, SQL.server_started)

    async def _busy_member(self) -> Member | None:
        member = self._fleet.choose(self._random)
        if member is not None:
            with anyio.move_on_after(_BUSY_SECONDS):
                while not await patiently(self._database, SQL.is_at_work, member.pid):
                    await anyio.sleep(POLL_SECONDS)
        return member


async def patiently(database: Database, query: str, *arguments: Any) -> Any:
    """One value, however often the database goes away meanwhile."""
    while True:
        try:
            return await database.fetchval(query, *arguments)
        except DatabaseUnavailable:
            await anyio.sleep(POLL_SECONDS)
