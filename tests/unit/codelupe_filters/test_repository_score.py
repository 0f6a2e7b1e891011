from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from codelupe import Repository
from codelupe_filters.repository_score import repository_score

NOW = datetime(2026, 6, 1, tzinfo=UTC)
BARE = Repository(source="s", external_id="1", full_name="a/b", url="u", revision="r")


def test_nothing_known_scores_nothing() -> None:
    assert repository_score(BARE, NOW) == 0


def test_everything_at_its_best_scores_a_hundred() -> None:
    best = replace(
        BARE, stars=50_000, forks=5_000, description="d", topics=("a", "b", "c"), licence="MIT", pushed_at=NOW
    )
    assert repository_score(best, NOW) == 100


@pytest.mark.parametrize(
    ("change", "points"),
    [
        ({"stars": 9}, 10),
        ({"stars": 99}, 20),
        ({"stars": 999}, 30),
        ({"forks": 999}, 20),
        ({"description": "d"}, 10),
        ({"topics": ("a",)}, 3.3),
        ({"licence": "MIT"}, 10),
        ({"pushed_at": NOW - timedelta(days=365)}, 10),
        ({"pushed_at": NOW - timedelta(days=3 * 365)}, 5),
        ({"pushed_at": NOW - timedelta(days=9 * 365)}, 0),
    ],
)
def test_each_part_of_the_documented_formula(change: dict[str, object], points: float) -> None:
    assert repository_score(replace(BARE, **change), NOW) == pytest.approx(points, abs=0.05)  # type: ignore[arg-type]


def test_a_repository_just_over_the_gate_needs_everything_else() -> None:
    least = replace(BARE, stars=10, forks=3, description="d", topics=("a", "b", "c"), licence="MIT", pushed_at=NOW)
    assert repository_score(least, NOW) >= 50
    assert repository_score(replace(least, licence=None), NOW) < 50


@given(st.integers(-5, 10**9), st.integers(-5, 10**9), st.datetimes(), st.integers(0, 30))
def test_any_repository_scores_between_0_and_100(stars: int, forks: int, pushed: datetime, topics: int) -> None:
    repository = replace(BARE, stars=stars, forks=forks, pushed_at=pushed.replace(tzinfo=UTC), topics=("t",) * topics)
    assert 0 <= repository_score(repository, NOW) <= 100
