"""What a crawl is judged by: requests, recall and violations."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from tests.simulated_github.github import SimulatedGitHub
from tests.simulated_github.limits import Violation
from tests.simulated_github.search import parse, select


@dataclass(frozen=True)
class Verdict:
    requests: int
    """Of every kind, whatever became of them."""
    found: int
    """Distinct repositories that pass the gate."""
    there: int
    """Repositories that passed the gate at the beginning of the crawl and at its end."""
    missed: int
    """Of those, how many were not found."""
    violations: tuple[Violation, ...]

    @property
    def recall(self) -> float:
        return 1 - self.missed / self.there

    @property
    def per_hundred(self) -> float:
        """Requests per 100 repositories found."""
        return 100 * self.requests / self.found

    def __str__(self) -> str:
        return (
            f"{self.requests:,} requests, {self.found:,} found: {self.per_hundred:.3f} per 100, "
            f"{self.recall:.2%} of {self.there:,}, {len(self.violations)} violations"
        )


class Judge:
    """Takes note of what there is when it is made, and judges what was found since."""

    def __init__(self, github: SimulatedGitHub, gates: Collection[str]) -> None:
        """Args: gates are queries; what passes one of them is to be found."""
        self._github, self._gates = github, gates
        github.world.advance(github.clock())
        self._at_first, self._requests = self._passing(), github.requests.total()

    def judge(self, found: Collection[int]) -> Verdict:
        """By the numbers of what was found."""
        passing, found = self._passing(), set(found)
        there = self._at_first & passing
        requests = self._github.requests.total() - self._requests
        right = len(found & (self._at_first | passing))
        return Verdict(requests, right, len(there), len(there - found), tuple(self._github.violations))

    def _passing(self) -> set[int]:
        world = self._github.world
        return {int(world.id[index]) for gate in self._gates for index in select(world, parse(gate))}
