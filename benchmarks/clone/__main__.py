"""``make bench-clone``: small repositories over loopback HTTP, by the downloader and by bare git, eight at once."""

from __future__ import annotations

import argparse
import json
import logging
import statistics
import subprocess
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path

import anyio
import structlog

from benchmarks.clone.race import AT_ONCE, Lap, race
from benchmarks.machine import describe_machine


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.clone", description="Measure how fast clones are made.")
    parser.add_argument("--repositories", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", type=Path, help="write the figures there")
    arguments = parser.parse_args()
    structlog.configure(
        wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )
    with tempfile.TemporaryDirectory(prefix="codelupe-bench-") as folder:
        Path(folder).chmod(0o755)
        laps = anyio.run(race, Path(folder), arguments.repositories, arguments.rounds)
    print("\n".join(report(laps)))
    if arguments.json:
        rows = [[asdict(lap) for lap in pair] for pair in laps]
        arguments.json.write_text(json.dumps(rows, indent=2) + "\n", encoding="utf-8")


def report(laps: list[tuple[Lap, Lap]]) -> list[str]:
    """Lines of Markdown: what it was measured on, both ways in each round, and the median ratio of their rates."""
    git = subprocess.check_output(["git", "--version"], text=True).strip()
    return [
        describe_machine(),
        f"- {git}, {AT_ONCE} at once, over loopback HTTP",
        "",
        "| round | way | clones | seconds | clones/s | CPU-seconds |",
        "| --- | --- | --- | --- | --- | --- |",
        *(_row(number, lap) for number, pair in enumerate(laps, start=1) for lap in pair),
        "",
        f"ratio: {statistics.median(ours.rate / bare.rate for bare, ours in laps):.2f}",
    ]


def _row(number: int, lap: Lap) -> str:
    cells = (number, lap.name, lap.clones, f"{lap.wall_seconds:.2f}", f"{lap.rate:.1f}", f"{lap.cpu_seconds:.1f}")
    return "| " + " | ".join(map(str, cells)) + " |"


if __name__ == "__main__":
    main()
