"""``make bench-eventlog``: measure, print the tables, and write them where one is asked to."""

from __future__ import annotations

import argparse
import json
import logging
import sys
import tempfile
from collections.abc import Sequence
from contextlib import nullcontext
from functools import partial
from pathlib import Path

import anyio
import structlog

from benchmarks.eventlog.cases import QUICK, Case, Effort, cases, cases_by_size
from benchmarks.eventlog.databases import Databases
from benchmarks.eventlog.ours import Ours
from benchmarks.eventlog.report import Figures, json_rows, missed, table
from benchmarks.eventlog.rounds import Subject, measure_rounds
from benchmarks.eventlog.systems import SYSTEMS
from benchmarks.machine import describe_machine, describe_packages
from codelupe.postgres.embedded import embedded_server

_SMALL = 50_000
_PACKAGES = ("codelupe", "asyncpg", "pgqueuer", "procrastinate", "eventsourcing", "psycopg")
_SETTINGS = ("server_version", "synchronous_commit", "fsync", "full_page_writes", "shared_buffers", "max_wal_size")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.eventlog", description="Measure the event log.")
    parser.add_argument("--rounds", type=int, default=5, help="the medians of so many are reported")
    parser.add_argument("--events", type=int, help="also compare ours with this many events in the log to 50,000")
    parser.add_argument("--case", help="only cases with this in their name")
    parser.add_argument("--quick", action="store_true", help="one short round, to see that everything works")
    parser.add_argument("--json", type=Path, help="write the figures there")
    parser.add_argument("--markdown", type=Path, help="write the tables there")
    arguments = parser.parse_args()
    structlog.configure(
        wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )
    anyio.run(_run, arguments)


async def _run(arguments: argparse.Namespace) -> None:
    effort, rounds = (QUICK, 1) if arguments.quick else (Effort(), arguments.rounds)
    with tempfile.TemporaryDirectory(prefix="codelupe-bench-") as folder:
        Path(folder).chmod(0o755)
        async with embedded_server(Path(folder) / "postgres") as url:
            databases = Databases(url)
            lines = [*await _describe(databases), f"- Medians of {rounds} rounds", ""]
            found = [await _compare_systems(databases, effort, rounds, arguments.case)]
            if arguments.events:
                found.append(await _compare_sizes(databases, effort, rounds, arguments.case, arguments.events))
    for comparisons, figures in found:
        lines += [*table(comparisons, figures), ""]
    print("\n".join(lines))
    for line in (line for comparisons, figures in found for line in missed(comparisons, figures)):
        print(f"missed: {line}")
    if arguments.markdown:
        arguments.markdown.write_text("\n".join(lines), encoding="utf-8")
    if arguments.json:
        rows = [row for _, figures in found for row in json_rows(figures)]
        arguments.json.write_text(json.dumps(rows, indent=2) + "\n", encoding="utf-8")


async def _describe(databases: Databases) -> list[str]:
    """The machine, the server's settings, the packages.

    Raises:
        RuntimeError: the server does not wait for the disk, so nothing measured on it would count.
    """
    settings = await databases.settings(*_SETTINGS)
    if (settings["synchronous_commit"], settings["fsync"]) != ("on", "on"):
        raise RuntimeError("the server's synchronous_commit and fsync must be on")
    server = f"- PostgreSQL: {', '.join(f'{name} {value}' for name, value in settings.items())}"
    return [describe_machine(), server, describe_packages(*_PACKAGES)]


async def _compare_systems(
    databases: Databases, effort: Effort, rounds: int, wanted: str | None
) -> tuple[Sequence[Case], Figures]:
    """Each measurement in a fresh database."""
    subjects = []
    for number, (name, system) in enumerate(SYSTEMS.items()):
        database = f"bench_{number}"
        await system(await databases.create(database)).install()
        subjects.append(Subject(name, system, partial(databases.copy_of, database)))
    chosen = _chosen(cases(effort), wanted)
    return chosen, await measure_rounds(chosen, subjects, rounds)


async def _compare_sizes(
    databases: Databases, effort: Effort, rounds: int, wanted: str | None, events: int
) -> tuple[Sequence[Case], Figures]:
    """In a copy of the small log each time, and in the large one itself, which grows."""
    small, large = (f"ours at {count:,}" for count in (_SMALL, events))
    template, lasting = [await _prefilled(databases, count) for count in (_SMALL, events)]
    subjects = [
        Subject(small, Ours, lambda: databases.copy_of(template)),
        Subject(large, Ours, lambda: nullcontext(databases.url(lasting))),
    ]
    chosen = _chosen(cases_by_size(effort, small, large), wanted)
    return chosen, await measure_rounds(chosen, subjects, rounds)


async def _prefilled(databases: Databases, count: int) -> str:
    """The name of a database whose log holds that many events."""
    name = f"bench_of_{count}"
    ours = Ours(await databases.create(name))
    await ours.install()
    async with ours:
        await ours.prefill(count)
    return name


def _chosen(all_cases: Sequence[Case], wanted: str | None) -> list[Case]:
    return [case for case in all_cases if wanted is None or wanted in case.name]


if __name__ == "__main__":
    main()
