"""``make bench-files TREE=folder``: send a tree of clones through, and say what each step costs."""

from __future__ import annotations

import argparse
import json
import logging
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import anyio
import structlog

from benchmarks.files.pipeline import Passage, find_clones, measure
from benchmarks.files.steps import Step, measure_steps
from benchmarks.machine import describe_machine, describe_packages

_PACKAGES = ("codelupe", "enry-python", "kingfisher-secret-scanner", "rensa", "tree-sitter")


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.files", description="Measure what becomes of a tree of repositories."
    )
    parser.add_argument("tree", type=Path, help="a folder with git repositories in it")
    parser.add_argument("--repositories", type=int, help="take so many of them")
    parser.add_argument("--no-steps", action="store_true", help="measure the whole only")
    parser.add_argument("--json", type=Path, help="write the figures there")
    parser.add_argument("--markdown", type=Path, help="write the table there")
    arguments = parser.parse_args()
    structlog.configure(
        wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )
    tree = arguments.tree.resolve()
    try:
        clones = find_clones(tree, arguments.repositories)
    except LookupError as error:
        sys.exit(f"{error}\nClone some there, each with git clone --depth 1.")
    with tempfile.TemporaryDirectory(prefix="codelupe-bench-") as folder:
        Path(folder).chmod(0o755)
        passage = anyio.run(measure, tree, clones, Path(folder))
        steps = [] if arguments.no_steps else measure_steps(tree, clones, Path(folder))
    lines = report(passage, steps)
    print("\n".join(lines))
    if arguments.markdown:
        arguments.markdown.write_text("\n".join(lines) + "\n", encoding="utf-8")
    if arguments.json:
        rows = {"total": asdict(passage), "steps": [asdict(step) for step in steps]}
        arguments.json.write_text(json.dumps(rows, indent=2) + "\n", encoding="utf-8")


def report(passage: Passage, steps: Sequence[Step]) -> list[str]:
    """Lines of Markdown: what it was measured on, the whole, and the steps with what they leave unexplained."""
    outcomes = ", ".join(f"{name} {count:,}" for name, count in passage.outcomes.items())
    return [
        describe_machine(),
        describe_packages(*_PACKAGES),
        f"- {passage.files:,} files, {passage.bytes / 1e6:.1f} MB, {passage.repositories} repositories: {outcomes}",
        f"- {passage.scored:,} scored, {passage.trainable:,} of them with 70 or more",
        (
            f"- {passage.files_per_cpu_second:,.0f} files and {passage.bytes / 1e6 / passage.cpu_seconds:.2f} MB"
            f" per CPU-second ({passage.cpu_seconds:.1f} CPU-seconds, {passage.postgres_cpu_seconds:.1f} of them"
            f" Postgres), {passage.wall_seconds:.1f} s on the clock"
        ),
        f"- {passage.peak_memory_bytes / 2**20:,.0f} MiB of memory at most, Postgres aside",
        *_table(passage, steps),
    ]


def _table(passage: Passage, steps: Sequence[Step]) -> list[str]:
    if not steps:
        return []
    known = sum(step.cpu_seconds for step in steps) + passage.postgres_cpu_seconds
    rest = [
        Step("Postgres", passage.files, passage.bytes, passage.postgres_cpu_seconds),
        Step("between processes, and what else is left", passage.files, passage.bytes, passage.cpu_seconds - known),
    ]
    rows = [
        (
            step.name,
            f"{step.files:,}",
            f"{step.cpu_seconds:.2f}",
            f"{step.cpu_seconds / passage.cpu_seconds:.0%}",
            f"{step.files / step.cpu_seconds:,.0f}" if step.cpu_seconds > 0 else "",
            f"{step.bytes / 1e6 / step.cpu_seconds:,.1f}" if step.cpu_seconds > 0 else "",
        )
        for step in (*steps, *rest)
    ]
    header = ("step", "files", "CPU-seconds", "share", "files/CPU-s", "MB/CPU-s")
    widths = [max(map(len, column)) for column in zip(header, *rows, strict=True)]
    rule = tuple("-" * width for width in widths)
    return ["", *("| " + " | ".join(map(str.ljust, row, widths)) + " |" for row in (header, rule, *rows))]


if __name__ == "__main__":
    main()
