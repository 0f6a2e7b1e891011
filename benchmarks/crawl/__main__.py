"""Crawl a simulated GitHub by plain bisection, and say how many requests it took and how much was found."""

from __future__ import annotations

import argparse

from benchmarks.crawl.bisection import GATE, Bisection
from benchmarks.machine import describe_machine
from tests.simulated_github.clock import ManualClock
from tests.simulated_github.faults import ALL, NONE, Faults
from tests.simulated_github.github import SimulatedGitHub
from tests.simulated_github.verdict import Judge, Verdict
from tests.simulated_github.world import BEGINNING, Shape, World

LANGUAGES = ("Python", "JavaScript", "TypeScript", "Go", "Rust", "Dart")
_NOW = 1_790_000_000.0
_TOKEN = "token"  # noqa: S105 - of a GitHub that is simulated


def bisect(seed: int, shape: Shape, faults: Faults) -> Verdict:
    """A crawl of all six languages, for one account."""
    clock = ManualClock(_NOW)
    github = SimulatedGitHub(World(seed, _NOW, shape), clock.now, {_TOKEN: "account"}, faults, seed=seed)
    judge = Judge(github, [f"language:{language} {GATE}" for language in LANGUAGES])
    bisection = Bisection(github, clock, _TOKEN)
    bisection.crawl(LANGUAGES, BEGINNING, int(_NOW))
    return judge.judge(bisection.seen)


def main() -> None:
    """Print a line for each crawl."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--repositories", type=int, default=Shape().repositories)
    arguments = parser.parse_args()
    print(describe_machine())
    for name, faults in (("no faults", NONE), ("all faults", ALL)):
        print(f"- bisection, {name}: {bisect(arguments.seed, Shape(repositories=arguments.repositories), faults)}")


if __name__ == "__main__":
    main()
