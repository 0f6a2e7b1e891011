"""The baseline of the crawler's benchmark: it keeps the limits, and its figures are those of plain bisection."""

from __future__ import annotations

from dataclasses import replace

import pytest

from benchmarks.crawl.__main__ import bisect
from tests.simulated_github.faults import ALL, NONE, Faults
from tests.simulated_github.world import Shape

SHAPE = Shape(repositories=20_000, largest_burst=1_500)


@pytest.mark.parametrize("faults", [NONE, ALL, replace(ALL, repeating=0.2, garbled=0.01, cut=0.05)])
def test_it_finds_all_that_is_shown_without_a_violation(faults: Faults) -> None:
    verdict = bisect(5, replace(SHAPE, largest_burst=900), faults)
    assert verdict.violations == ()
    assert 0.99 < verdict.recall < 1
    assert verdict.per_hundred > 1.1


def test_it_loses_what_one_second_holds_beyond_a_thousand() -> None:
    verdict = bisect(5, replace(SHAPE, invisible=0), NONE)
    assert 100 < verdict.missed < 500


@pytest.mark.slow
def test_two_hundred_thousand_repositories_take_as_many_requests_as_were_computed() -> None:
    """1.22 without faults and 1.31 with them; a GitHub that is much easier or harder judges nothing."""
    clean, faulty = (bisect(1, Shape(), faults) for faults in (NONE, ALL))
    assert 1.20 < clean.per_hundred < 1.26
    assert 1.28 < faulty.per_hundred < 1.39
    assert clean.requests > 2_000
    assert clean.violations == faulty.violations == ()
