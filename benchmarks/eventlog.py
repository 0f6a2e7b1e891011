"""How fast the event log appends and hands out, beside what the same Postgres does with bare asyncpg in the same run.

``make bench`` prints a table; with ``JSON=path`` it also writes the rows ``{case, events_per_second, ceiling, ratio}``.
Each case is measured several times, in turn with its ceiling, and the medians are compared: the ratio is what counts,
the figures depend on the machine.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Awaitable, Callable
from datetime import timedelta
from pathlib import Path
from statistics import median

import anyio

from codelupe import Directories, HandlerContext, Offers, Subscription
from codelupe.executor import ProcessExecutor
from codelupe.log import Entry, EventLog
from codelupe.log.context import Surroundings
from codelupe.log.event_log import SQL
from codelupe.log.stages import Stage
from codelupe.log.worker import Worker
from codelupe.postgres import Database
from codelupe.postgres.embedded import embedded_server
from codelupe.postgres.migrate import migrate, own_migrations
from codelupe.progress import ProgressBoard
from codelupe.queries import load_queries
from codelupe_events import BatchReady, Event, RepoEmpty

ROUNDS = 5
_BENCH = load_queries("benchmarks", "eventlog")
_COLUMNS = ["stream", "type", "data"]

Measure = Callable[[], Awaitable[float]]


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure the event log.")
    parser.add_argument("--json", type=Path, help="write the rows there, too")
    arguments = parser.parse_args()
    rows = anyio.run(_run)
    print(f"{'case':28}{'events/s':>12}{'ceiling':>12}{'ratio':>8}")
    for row in rows:
        print(f"{row['case']:28}{row['events_per_second']:>12,.0f}{row['ceiling']:>12,.0f}{row['ratio']:>8.2f}")
    if arguments.json:
        arguments.json.write_text(json.dumps(rows, indent=2) + "\n")


async def _run() -> list[dict[str, float | str]]:
    with tempfile.TemporaryDirectory(prefix="codelupe-bench-") as folder:
        Path(folder).chmod(0o755)
        async with embedded_server(Path(folder) / "postgres") as url, Database(url, connections=30) as database:
            await migrate(database, own_migrations())
            await database.execute(_BENCH.create_ceiling_table)
            rows = [await _append(database, size, count) for size, count in ((1, 1000), (100, 20_000), (1000, 50_000))]
            return [*rows, await _handle(database, Path(folder), 3000)]


async def _append(database: Database, size: int, count: int) -> dict[str, float | str]:
    log = EventLog(database)
    entries = [Entry(event=_event(number)) for number in range(size)]
    records = [("stream", "RepoEmpty", "x" * 100)] * size

    async def ours() -> None:
        async with database.transaction() as connection:
            await log.append(connection, entries)

    async def ceiling() -> None:
        async with database.transaction() as connection:
            if size == 1:
                await connection.execute(_BENCH.insert_ceiling, *records[0])
            else:
                await connection.copy_records_to_table("ceiling", records=records, columns=_COLUMNS)

    return await _compare(f"append, {size} a transaction", _rate(ours, count, size), _rate(ceiling, count, size))


async def _handle(database: Database, folder: Path, count: int) -> dict[str, float | str]:
    """Every event is handled in a transaction of its own that also emits an event; the ceiling is that transaction."""

    async def ours() -> float:
        await database.execute(_BENCH.reset_log)
        log = EventLog(database)
        async with database.transaction() as connection:
            batches = [BatchReady(batch_id=n, files=1, characters=1, repositories=1, min_score=1) for n in range(count)]
            await log.append(connection, [Entry(event=batch) for batch in batches])
        return count / await _drain(database, log, folder)

    async def ceiling() -> float:
        began = time.perf_counter()
        async with anyio.create_task_group() as group:
            for _ in range(16):
                group.start_soon(_insert_many, database, count // 16)
        return count / (time.perf_counter() - began)

    return await _compare("handle and emit, 16 at once", ours, ceiling)


async def _drain(database: Database, log: EventLog, folder: Path) -> float:
    async def handle(event: BatchReady, context: HandlerContext) -> None:
        async with context.transaction():
            context.emit(_event(event.batch_id))

    directories = Directories(state=folder, repositories=folder, models=folder, work=folder)
    surroundings = Surroundings(
        log=log,
        offers=Offers(),
        directories=directories,
        executor=ProcessExecutor(),
        search_index=None,
        board=ProgressBoard(),
    )
    subscription = Subscription(name="handle", events=(BatchReady,), handler=handle, concurrency=16)
    await database.execute(SQL.register_subscription, "bench.handle", False)
    worker = Worker(
        [Stage(name="bench.handle", subscription=subscription)],
        surroundings,
        lease=timedelta(minutes=1),
        drain=timedelta(seconds=1),
    )
    began = time.perf_counter()
    async with anyio.create_task_group() as group:
        group.start_soon(worker.run)
        while not await worker.is_quiet():
            await anyio.sleep(0.02)
        seconds = time.perf_counter() - began
        worker.stop()
    return seconds


async def _insert_many(database: Database, count: int) -> None:
    for _ in range(count):
        async with database.transaction() as connection:
            await connection.execute(_BENCH.insert_ceiling, "stream", "RepoEmpty", "x" * 100)


def _event(number: int) -> Event:
    return RepoEmpty(repository_id=f"bench:{number}", url="x" * 100)


def _rate(action: Callable[[], Awaitable[None]], count: int, size: int) -> Measure:
    async def measure() -> float:
        began = time.perf_counter()
        for _ in range(count // size):
            await action()
        return count / (time.perf_counter() - began)

    return measure


async def _compare(case: str, ours: Measure, ceiling: Measure) -> dict[str, float | str]:
    pairs = [(await ours(), await ceiling()) for _ in range(ROUNDS)]
    rate, bare = median(pair[0] for pair in pairs), median(pair[1] for pair in pairs)
    return {"case": case, "events_per_second": rate, "ceiling": bare, "ratio": rate / bare}


if __name__ == "__main__":
    main()
