"""Crawl a simulated GitHub, plainly and as CodeLupe does: how many requests it takes, and how much is found."""

from __future__ import annotations

import argparse
import json
import logging
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anyio
import structlog

from benchmarks.crawl.bisection import GATE, Bisection
from benchmarks.crawl.ours import DeepCrawl
from benchmarks.machine import describe_machine
from tests.simulated_github.clock import ManualClock
from tests.simulated_github.faults import ALL, NONE, Faults
from tests.simulated_github.github import SimulatedGitHub
from tests.simulated_github.verdict import Judge, Verdict
from tests.simulated_github.world import BEGINNING, Shape, World

LANGUAGES = ("Python", "JavaScript", "TypeScript", "Go", "Rust", "Dart")
_NOW = 1_790_000_000.0
_TOKEN = "token"  # noqa: S105 - of a GitHub that is simulated
_ONE = {_TOKEN: "ann"}
_THREE = {"token-a": "ann", "token-b": "ann", "token-c": "bob"}
_CASES = {"none": NONE, "all": ALL}


@dataclass(frozen=True)
class Result:
    crawl: str
    faults: str
    verdict: Verdict
    used: dict[str, float]
    """Of each account, the share of its searches."""

    def as_row(self, plain: Verdict) -> dict[str, Any]:
        """With the requests per 100 as a share of those of plain bisection in the same run."""
        it = self.verdict
        return {
            "crawl": self.crawl,
            "faults": self.faults,
            "requests": it.requests,
            "found": it.found,
            "requests per 100": round(it.per_hundred, 3),
            "of plain": round(it.per_hundred / plain.per_hundred, 3),
            "recall": round(it.recall, 4),
            "violations": len(it.violations),
            "limits used": {name: round(share, 3) for name, share in self.used.items()},
        }


def bisect(seed: int, shape: Shape, faults: Faults) -> Verdict:
    """A plain crawl of all six languages, for one account."""
    clock = ManualClock(_NOW)
    github = SimulatedGitHub(World(seed, _NOW, shape), clock.now, _ONE, faults, seed=seed)
    judge = Judge(github, [f"language:{language} {GATE}" for language in LANGUAGES])
    bisection = Bisection(github, clock, _TOKEN)
    bisection.crawl(LANGUAGES, BEGINNING, int(_NOW))
    return judge.judge(bisection.seen)


def measure(seed: int, shape: Shape) -> list[dict[str, Any]]:
    """A row for each crawl."""
    rows = []
    for name, faults in _CASES.items():
        plain = bisect(seed, shape, faults)
        results = [Result("plain bisection", name, plain, {})]
        for crawl, tokens, daemons in (("CodeLupe", _ONE, 1), ("CodeLupe, 2 daemons, 3 tokens", _THREE, 2)):
            deep = DeepCrawl(seed=seed, shape=shape, faults=faults, tokens=tokens, languages=LANGUAGES, daemons=daemons)
            results.append(Result(crawl, name, *_in_a_folder(deep)))
        rows += [result.as_row(plain) for result in results]
        print(*(_line(row) for row in rows[-len(results) :]), sep="\n", file=sys.stderr)
    return rows


def _in_a_folder(crawl: DeepCrawl) -> tuple[Verdict, dict[str, float]]:
    with tempfile.TemporaryDirectory(prefix="codelupe-bench-") as folder:
        Path(folder).chmod(0o755)  # the embedded server drops root's rights
        return anyio.run(crawl.run, Path(folder))


def report(seed: int, shape: Shape, rows: Sequence[dict[str, Any]]) -> list[str]:
    """Lines of Markdown."""
    return [
        describe_machine(),
        f"- {shape.repositories:,} repositories, six languages, seed {seed}",
        "",
        f"| {' | '.join(rows[0])} |",
        f"| {' | '.join('---' for _ in rows[0])} |",
        *map(_line, rows),
    ]


def _line(row: dict[str, Any]) -> str:
    used = ", ".join(f"{name} {share:.1%}" for name, share in row["limits used"].items())
    shown = {
        **row,
        "requests": f"{row['requests']:,}",
        "found": f"{row['found']:,}",
        "recall": f"{row['recall']:.2%}",
        "limits used": used,
    }
    return f"| {' | '.join(str(value) for value in shown.values())} |"


def main() -> None:
    """Print a line for each crawl."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.crawl", description=__doc__)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--repositories", type=int, default=Shape().repositories)
    parser.add_argument("--json", type=Path, help="write the figures there")
    parser.add_argument("--markdown", type=Path, help="write the table there")
    arguments = parser.parse_args()
    structlog.configure(
        wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL),  # faults are meant here
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )
    shape = Shape(repositories=arguments.repositories)
    rows = measure(arguments.seed, shape)
    lines = report(arguments.seed, shape, rows)
    print("\n".join(lines))
    if arguments.markdown:
        arguments.markdown.write_text("\n".join(lines) + "\n", encoding="utf-8")
    if arguments.json:
        arguments.json.write_text(json.dumps(rows, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
