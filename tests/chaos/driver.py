"""One run: three workers, several appenders, faults as long as work is left, and the checker at the end."""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from random import Random

import anyio
import anyio.abc
from anyio.streams.memory import MemoryObjectSendStream

from codelupe.errors import DatabaseUnavailable
from codelupe.log import EventLog
from codelupe.postgres import Database
from codelupe.postgres.embedded import embedded_server
from codelupe.postgres.migrate import migrate, own_migrations
from codelupe.postgres.queries import load_queries
from codelupe.work.dead_letters import Selection, retry_dead_letters
from tests.chaos.appenders import Appender, Chunk, Root, cut_into_chunks
from tests.chaos.checker import Violation, describe, find_violations, prepare
from tests.chaos.faults import POLL_SECONDS, Faults, patiently
from tests.chaos.fleet import SIZE, Fleet
from tests.chaos.plugin import HOT_BATCH, HOT_STREAM
from tests.chaos.worker import LEASE_SECONDS
from tests.silent_proxy import SilentProxy, silent_proxy

SQL = load_queries("tests.chaos", "chaos")
_APPENDERS = 8
_RARER = 3
"""By so much faults are rarer when all that were planned have happened, lest nothing gets done."""
_PROGRESS_SECONDS = 5.0
_TOLD = (
    "attempt_failed",
    "batch_failed",
    "retry_later",
    "result_discarded",
    "lease_lost",
    "workers_lost",
    "database_unavailable",
    "dead_lettered",
    "clock_went_back",
)
"""What workers log of the faults that they outlived."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What to do. So many ``events`` are appended, and somewhat more are emitted because of them; so many ``faults`` of
    each kind happen at least, at most ``pause`` seconds apart. ``hot`` events of them are of one stream, and wait
    behind a dead letter until all faults have happened; the others spread over ``streams``.
    """

    seed: int
    events: int
    faults: Mapping[str, int]
    streams: int = 300
    hot: int = 0
    pause: float = 1.6
    limit_seconds: float = 300
    preparation: str = "select"
    """SQL that breaks the log before anything happens."""
    worker_options: tuple[str, ...] = ()

    @classmethod
    def of_size(cls, events: int, seed: int) -> Plan:
        """A sound log under all kinds of faults, the more of them the more events there are."""
        one_in = {"kill": 1000, "freeze": 1600, "cut": 600, "restart": 2500, "silence": 2500, "clock": 1600}
        return cls(
            seed=seed,
            events=events,
            faults={kind: max(1, events // every) for kind, every in one_in.items()},
            hot=max(400, events // 30),
            limit_seconds=200 + events / 50,
        )


@dataclass(frozen=True, kw_only=True)
class Report:
    """What happened, and which promises were broken."""

    seconds: float
    faults: Mapping[str, int]
    events: int
    effects: int
    later_effects: int
    held_back: int
    told: Mapping[str, int]
    violations: list[Violation]

    def __str__(self) -> str:
        lines = [
            f"{self.events:,} events took effect {self.effects:,} times in {self.seconds:.0f} s",
            f"{self.later_effects:,} effects were not of a first attempt",
            f"{self.held_back:,} events waited behind the dead letter of one stream",
            f"faults: {_list(self.faults)}",
            f"workers said: {_list(self.told)}",
            describe(self.violations) or "every promise was kept",
        ]
        return "\n".join(lines)


class Stuck(AssertionError):
    """Work is left and no process does it."""


async def run(plan: Plan, folder: Path) -> Report:
    """Carry the plan out in a folder that every user may enter and say on stderr how it goes.

    Raises:
        Stuck: it did not come to its end within the time.
        WorkerFailed: a worker died by itself.
    """
    async with (
        embedded_server(folder / "postgres") as url,
        silent_proxy(url) as proxy,
        Database(url, connections=20) as database,
    ):
        await migrate(database, own_migrations())
        _say(f"seed {plan.seed}, {plan.events:,} events, at least {_list(plan.faults)}; all is kept in {folder}")
        return await _Run(plan, folder, url, proxy, database).carry_out()


class _Run:
    def __init__(self, plan: Plan, folder: Path, url: str, proxy: SilentProxy, database: Database) -> None:
        self._plan = plan
        self._database = database
        self._random = Random(plan.seed)
        self._log = EventLog(database)
        self._fleet = Fleet([url, proxy.url, url], folder, plan.seed, plan.worker_options)
        self._faults = Faults(database, folder / "postgres", self._fleet, proxy, self._random)
        self._held_back = 0

    async def carry_out(self) -> Report:
        began = anyio.current_time()
        roots = self._draw_roots()
        await prepare(self._database, roots)
        await self._database.execute(self._plan.preparation)
        async with anyio.create_task_group() as beside:
            for service in (self._log.notifier.run, self._show_progress, self._watch_the_clock):
                beside.start_soon(service)
            await self._work(cut_into_chunks(roots, self._random))
            beside.cancel_scope.cancel()
        return await self._report(anyio.current_time() - began)

    def _draw_roots(self) -> list[Root]:
        hot = set(self._random.sample(range(self._plan.events), self._plan.hot))
        streams = self._plan.streams
        return [
            Root(number=number, batch=HOT_BATCH if number in hot else self._random.randrange(streams))
            for number in range(self._plan.events)
        ]

    async def _work(self, chunks: Sequence[Chunk]) -> None:
        async with anyio.create_task_group() as workers:
            workers.start_soon(self._fleet.run)
            await self._await_good_order()
            await self._append_and_hurt(chunks)
            await self._await_good_order()
            self._fleet.stop()

    async def _append_and_hurt(self, chunks: Sequence[Chunk]) -> None:
        async with anyio.create_task_group() as hurting:
            async with anyio.create_task_group() as appending:
                send, receive = anyio.create_memory_object_stream[Chunk](len(chunks))
                with receive:
                    for number in range(_APPENDERS):
                        appender = Appender(self._log, Random(f"{self._plan.seed}/{number}"))
                        appending.start_soon(appender.append_all, receive.clone())
                with send:
                    await self._hurt_by_plan(hurting, send, chunks)
            while await patiently(self._database, SQL.is_work_left):
                await self._retry_head_of_hot_stream()
                await self._hurt(hurting, [*self._plan.faults], pause=_RARER * self._plan.pause)

    async def _hurt_by_plan(
        self, hurting: anyio.abc.TaskGroup, send: MemoryObjectSendStream[Chunk], chunks: Sequence[Chunk]
    ) -> None:
        """A share of the events, a fault, the next share; the last one when all that was planned has happened."""
        planned = list(Counter(self._plan.faults).elements())
        self._random.shuffle(planned)
        last, *shares = [chunks[number :: len(planned) + 1] for number in range(len(planned) + 1)]
        for kind, share in zip(planned, shares, strict=True):
            _send(send, share)
            await self._hurt(hurting, [kind], self._plan.pause)
        while missing := Counter(self._plan.faults) - self._faults.happened:
            await self._hurt(hurting, [*missing], self._plan.pause)
        self._held_back = await patiently(self._database, SQL.unblock_hot_stream, HOT_STREAM)
        _send(send, last)

    async def _retry_head_of_hot_stream(self) -> None:
        with suppress(DatabaseUnavailable):
            await retry_dead_letters(self._database, Selection(stream=HOT_STREAM))

    async def _hurt(self, hurting: anyio.abc.TaskGroup, kinds: Sequence[str], pause: float) -> None:
        """One fault of these kinds after a pause. What is frozen or silent stays so while other things happen."""
        await anyio.sleep(self._random.random() * pause)
        if not kinds:
            return
        kind = self._random.choice(kinds)
        if kind in {"freeze", "silence"}:
            hurting.start_soon(self._attempt, kind)
        else:
            await self._attempt(kind)

    async def _attempt(self, kind: str) -> None:
        with suppress(DatabaseUnavailable):
            await self._faults.kinds[kind]()

    async def _await_good_order(self) -> None:
        """Until the workers that the log knows are those that live: the dead have been reaped, the new are there."""
        lease = timedelta(seconds=LEASE_SECONDS)
        calm = await patiently(self._database, SQL.moment)
        registered = list[int]()
        while len(registered) < SIZE or registered != self._fleet.pids:
            await anyio.sleep(POLL_SECONDS)
            registered = await patiently(self._database, SQL.registered_pids, calm, lease)

    async def _watch_the_clock(self) -> None:
        await anyio.sleep(self._plan.limit_seconds)
        lines = [*await self._what_is_stuck(), *self._fleet.last_words()]
        raise Stuck("\n".join([f"not done after {self._plan.limit_seconds} s", *lines]))

    async def _what_is_stuck(self) -> list[str]:
        kinds = [kind for kind in SQL if kind.startswith("stuck_")]
        try:
            found = {kind: await self._database.fetch(getattr(SQL, kind)) for kind in kinds}
        except DatabaseUnavailable as error:
            return [error.message]
        return [f"{kind}: {dict(row)}" for kind, rows in found.items() for row in rows]

    async def _show_progress(self) -> None:
        while True:
            await anyio.sleep(_PROGRESS_SECONDS)
            with suppress(DatabaseUnavailable):
                events = await self._log.head_position()
                effects = await self._database.fetchrow(SQL.count_effects)
                assert effects is not None
                _say(f"{events:,} positions, {effects['all']:,} effects, {_list(self._faults.happened)}")

    async def _report(self, seconds: float) -> Report:
        effects = await self._database.fetchrow(SQL.count_effects)
        assert effects is not None
        return Report(
            seconds=seconds,
            faults=self._faults.happened,
            events=await self._database.fetchval(SQL.count_events),
            effects=effects["all"],
            later_effects=effects["later"],
            held_back=self._held_back,
            told=_count_told(self._fleet.logs),
            violations=await find_violations(self._database),
        )


def _send(send: MemoryObjectSendStream[Chunk], share: Iterable[Chunk]) -> None:
    for chunk in share:
        send.send_nowait(chunk)


def _count_told(logs: Iterable[Path]) -> Counter[str]:
    told = Counter[str]()
    for log in logs:
        lines = log.read_text(errors="replace").splitlines()
        told.update(json.loads(line)["event"] for line in lines if line.startswith("{") and line.endswith("}"))
    return Counter({event: told[event] for event in _TOLD})


def _say(line: str) -> None:
    sys.stderr.write(f"{line}\n")


def _list(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{count:,} x {name}" for name, count in counts.items()) or "none"
