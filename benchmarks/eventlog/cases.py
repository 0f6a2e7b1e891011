"""What is measured, how much of it, and the ratios that must hold."""

from __future__ import annotations

import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from typing import Any

import anyio

from benchmarks.eventlog.databases import connected
from benchmarks.eventlog.figures import Figure, Latency, Throughput
from benchmarks.eventlog.pace import at_rate
from benchmarks.eventlog.report import Bar
from benchmarks.eventlog.system import (
    Appends,
    Delivers,
    DeliversBeside,
    Handles,
    HandlesBatches,
    Reads,
    Seen,
    Sends,
    System,
)
from codelupe.postgres.queries import load_queries

EFFECTS = load_queries("benchmarks", "effects")
PER_SECOND = 50
_WARM_UP = PER_SECOND
"""So many of the delivered events are not counted: those of the first second."""


@dataclass(frozen=True)
class Effort:
    """How long each measurement of appends takes, and how many events the others are about."""

    append_seconds: float = 1.5
    handled: int = 3000
    handled_in_batches: int = 20_000
    read: int = 100_000
    delivered: int = 150
    waiting: int = 100_000


QUICK = Effort(append_seconds=0.3, handled=300, handled_in_batches=2000, read=10_000, delivered=25, waiting=3000)


@dataclass(frozen=True)
class Case:
    """One comparison. Systems that have the method ``needs`` take part."""

    name: str
    needs: str
    measure: Callable[[Any], Awaitable[Figure]]
    references: tuple[str, ...]
    bars: tuple[Bar, ...] = ()


def cases(effort: Effort) -> list[Case]:
    return [
        _appends("append x1, 1 connection", effort, size=1, connections=1),
        _appends("append x1, 16 connections", effort, size=1, connections=16),
        _appends("append x100", effort, size=100, connections=1),
        _appends("append x1000", effort, size=1000, connections=1),
        _handles(effort),
        _handles_batches(effort),
        _reads(effort),
        _delivers("latency at 50/s", effort, _send_here),
        _delivers("latency at 50/s, two processes", effort, _send_from_another_process),
        *_backlogs(effort),
    ]


def cases_by_size(effort: Effort, small: str, large: str) -> list[Case]:
    """The same for one system in two databases of different size: the larger may cost a tenth."""
    return [
        Case(case.name, case.needs, case.measure, (small,), (Bar(large, small, 1.1 if _is_latency(case) else 0.9),))
        for case in cases(effort)
    ]


def _is_latency(case: Case) -> bool:
    return case.needs.startswith("consuming")


def _appends(name: str, effort: Effort, *, size: int, connections: int) -> Case:
    async def measure(system: Appends) -> Figure:
        return Throughput(await system.append(size, connections, effort.append_seconds))

    return Case(name, "append", measure, ("ceiling",), (Bar("ours", "ceiling", 0.75),))


def _handles(effort: Effort) -> Case:
    async def measure(system: Handles) -> Figure:
        async with _effects(system, effort.handled):
            return Throughput(await system.handle(effort.handled))

    bars = (Bar("ours", "pgqueuer", 4),)
    return Case("handle, claim 1, 16 at once", "handle", measure, ("ceiling", "pgqueuer"), bars)


def _handles_batches(effort: Effort) -> Case:
    async def measure(system: HandlesBatches) -> Figure:
        async with _effects(system, effort.handled_in_batches):
            return Throughput(await system.handle_batches(effort.handled_in_batches, 100))

    bars = (Bar("ours", "pgqueuer", 3),)
    return Case("handle, claim 100", "handle_batches", measure, ("ceiling", "pgqueuer"), bars)


@asynccontextmanager
async def _effects(system: System, expected: int) -> AsyncIterator[None]:
    """Make sure that the handlers write that many rows inside the block, and none of them twice."""
    async with connected(system.url) as connection:
        before = await connection.fetchval(EFFECTS.count_effects)
        yield
        found = await connection.fetchval(EFFECTS.count_effects) - before
    if found != expected:
        raise RuntimeError(f"{system.name} wrote {found:,} effects for {expected:,} events")


def _reads(effort: Effort) -> Case:
    async def measure(system: Reads) -> Figure:
        return Throughput(await system.read(effort.read, 1000))

    return Case("ordered read x1000 + checkpoint", "read", measure, ("ceiling",), (Bar("ours", "ceiling", 0.9),))


def _delivers(name: str, effort: Effort, send: Callable[[Delivers, int], Awaitable[None]]) -> Case:
    async def measure(system: Delivers) -> Figure:
        return await _delays(system, effort, send, system.consuming)

    bars = (Bar("ours", "ceiling", 1.25), Bar("ours, batch handler", "ceiling", 1.25))
    return Case(name, "consuming", measure, ("ceiling",), bars)


async def _delays(
    system: Sends,
    effort: Effort,
    send: Callable[[Any, int], Awaitable[None]],
    consuming: Callable[[Seen], AbstractAsyncContextManager[None]],
) -> Latency:
    count = _WARM_UP + effort.delivered
    delays: list[float] = []

    def seen(sent_ns: int) -> None:
        delays.append((time.monotonic_ns() - sent_ns) / 1e6)

    async with consuming(seen):
        await send(system, count)
        with anyio.fail_after(60):
            while len(delays) < count:
                await anyio.sleep(0.05)
    return Latency.of(delays[_WARM_UP:])


def _backlogs(effort: Effort) -> list[Case]:
    """What much that waits costs what can be handled now."""
    few, many = "ours, 100 waiting", "ours, many waiting"

    def beside(name: str, needs: str, least: float = 1 / 1.5) -> Case:
        async def measure(system: Any) -> Figure:
            return Throughput(await getattr(system, needs)(effort.waiting))

        return Case(f"{name}, {effort.waiting:,} wait", needs, measure, (few,), (Bar(many, few, least),))

    async def latency(system: DeliversBeside) -> Figure:
        return await _delays(system, effort, _send_here, lambda seen: system.consuming_beside(seen, effort.waiting))

    alone, by_a_dead_letter = "ours, nothing beside", "ours, beside a dead letter"
    name = f"latency at 50/s, {effort.waiting:,} wait behind a dead letter"
    return [
        beside("one stream's events", "handle_waiting"),
        beside("claims in one stream", "claim_waiting"),
        beside("pages of dead letters", "list_dead_letters", 0.2),
        Case(name, "consuming_beside", latency, (alone,), (Bar(by_a_dead_letter, alone, 1.25),)),
    ]


async def _send_here(system: Sends, count: int) -> None:
    await at_rate(system.send, count, PER_SECOND)


async def _send_from_another_process(system: Delivers, count: int) -> None:
    command = [sys.executable, "-m", "benchmarks.eventlog.sender", system.name, system.url, str(count)]
    await anyio.run_process(command, stderr=None)
