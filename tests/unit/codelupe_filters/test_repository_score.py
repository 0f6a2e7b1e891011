from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from codelupe import Repository
from codelupe_filters.repository_score import repository_points, repository_score
from codelupe_filters.settings import FiltersSettings

NOW = datetime.now(UTC)
BARE = Repository(source="s", external_id="1", full_name="a/b", url="u", revision="r")
BEST = replace(BARE, stars=50_000, forks=5_000, description="d", topics=("a", "b", "c"), licence="MIT", pushed_at=NOW)
DEFAULTS = FiltersSettings()


def weighing(**criteria: dict[str, Any]) -> FiltersSettings:
    return FiltersSettings.model_validate({"criteria": criteria})


def test_nothing_known_scores_nothing() -> None:
    assert repository_score(BARE, DEFAULTS) == 0


def test_everything_at_its_best_scores_a_hundred() -> None:
    assert repository_score(BEST, DEFAULTS) == 100


@pytest.mark.parametrize(
    ("change", "points"),
    [
        ({"stars": 9}, 10),
        ({"stars": 99}, 20),
        ({"stars": 999}, 30),
        ({"forks": 999}, 20),
        ({"description": "d"}, 10),
        ({"description": "  "}, 0),
        ({"topics": ("a",)}, 3.3),
        ({"licence": "MIT"}, 10),
        ({"licence": "MIT OR Apache-2.0"}, 10),
        ({"pushed_at": NOW - timedelta(days=365)}, 10),
        ({"pushed_at": NOW - timedelta(days=3 * 365)}, 5),
        ({"pushed_at": NOW - timedelta(days=9 * 365)}, 0),
        ({"pushed_at": NOW + timedelta(days=9 * 365)}, 10),
        ({"watchers": 10**6, "size_kib": 10, "default_branch": "main"}, 0),
    ],
)
def test_each_part_of_the_documented_formula(change: dict[str, Any], points: float) -> None:
    assert repository_score(replace(BARE, **change), DEFAULTS) == pytest.approx(points, abs=0.06)


@pytest.mark.parametrize("licence", [None, "", "NOASSERTION", "noassertion", "NONE", "other", "Other", "unknown"])
def test_an_unknown_licence_earns_nothing_whatever_it_is_called(licence: str | None) -> None:
    """github/rest-api-description#4310, hub4j/github-api#797: ``NOASSERTION`` is said of a licence not recognised."""
    assert repository_score(replace(BEST, licence=licence), DEFAULTS) == 90


def test_a_repository_just_over_the_gate_needs_everything_else() -> None:
    least = replace(BEST, stars=10, forks=3)
    assert repository_score(least, DEFAULTS) >= 50
    assert repository_score(replace(least, licence=None), DEFAULTS) < 50


def test_weights_are_shares_whatever_their_sum() -> None:
    unweighted: dict[str, dict[str, Any]] = {
        name.replace("-", "_"): {"weight": 0} for name, _ in DEFAULTS.criteria.each()
    }
    halves = weighing(**unweighted | {"licence": {"weight": 3}, "archived": {"weight": 3}})
    assert repository_score(replace(BARE, licence="MIT"), halves) == 100
    assert repository_score(replace(BARE, licence="MIT", is_archived=True), halves) == 50
    assert [(each.criterion, each.points, each.most) for each in repository_points(BARE, halves)] == [
        ("archived", 50, 50),
        ("licence", 0, 50),
    ]
    with pytest.raises(ValueError, match="no criterion has a weight"):
        weighing(**unweighted)


def test_what_is_unknown_earns_nothing_even_with_a_weight() -> None:
    settings = weighing(language={"weight": 50}, max_size={"weight": 50})
    assert repository_score(BARE, settings) == 0
    assert repository_score(replace(BARE, language="Go", size_kib=5), settings) == 50


@given(
    st.integers(-5, 10**9),
    st.integers(-5, 10**9),
    st.none() | st.datetimes(timezones=st.just(UTC)),
    st.integers(0, 30),
    st.none() | st.text(),
)
def test_any_repository_scores_between_0_and_100(
    stars: int, forks: int, pushed: datetime | None, topics: int, licence: str | None
) -> None:
    repository = replace(BARE, stars=stars, forks=forks, pushed_at=pushed, topics=("t",) * topics, licence=licence)
    assert 0 <= repository_score(repository, DEFAULTS) <= 100
