from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from codelupe import Repository
from codelupe_filters.repository_rules import repository_rules
from codelupe_filters.settings import FiltersSettings

GOOD = Repository(
    source="github",
    external_id="1",
    full_name="owner/parser",
    url="https://example.org/owner/parser",
    revision="1",
    description="A fast parser",
    language="Rust",
    stars=10,
    forks=3,
    size_kib=10,
    licence="MIT",
    topics=("parser", "grammar", "fast"),
    pushed_at=datetime.now(UTC),
)


def objections(repository: Repository, **settings: Any) -> list[str]:
    rules = repository_rules(FiltersSettings.model_validate(settings))
    return [reason.rule for rule in rules if (reason := rule.check(repository))]


def test_a_good_repository_passes() -> None:
    assert objections(GOOD) == []


@pytest.mark.parametrize(
    ("change", "rule"),
    [
        ({"stars": 9}, "min-stars"),
        ({"forks": 2}, "min-forks"),
        ({"language": "COBOL"}, "language"),
        ({"size_kib": 1024 * 1024 + 1}, "max-size"),
        ({"is_fork": True}, "fork"),
        ({"is_mirror": True}, "mirror"),
        ({"is_template": True}, "template"),
        ({"is_archived": True}, "archived"),
        ({"is_disabled": True}, "disabled"),
        ({"full_name": "owner/rust-tutorial"}, "teaching"),
        ({"topics": ("parser", "demo", "fast")}, "teaching"),
        ({"description": "My Homework, week 3"}, "teaching"),
        ({"licence": None}, "min-score"),
    ],
)
def test_each_rule_has_its_objection(change: dict[str, Any], rule: str) -> None:
    assert objections(replace(GOOD, **change)) == [rule]


def test_all_rules_are_asked() -> None:
    assert objections(replace(GOOD, stars=0, forks=0, is_fork=True)) == ["min-stars", "min-forks", "fork", "min-score"]


@pytest.mark.parametrize("language", [None, "rust", "Rust", "GO", "TypeScript"])
def test_wanted_and_unknown_languages_pass(language: str | None) -> None:
    assert objections(replace(GOOD, language=language)) == []


def test_what_a_source_does_not_say_turns_nothing_down() -> None:
    unknown = {"language": None, "watchers": None, "created_at": None, "default_branch": None, "size_kib": 0}
    assert objections(replace(GOOD, **unknown)) == []  # type: ignore[arg-type]
    assert objections(replace(GOOD, licence=None, pushed_at=None), min_score=0) == []


def test_the_detail_says_what_was_seen() -> None:
    [reason] = [
        reason for rule in repository_rules(FiltersSettings()) if (reason := rule.check(replace(GOOD, stars=9)))
    ]
    assert (reason.rule, reason.detail) == ("min-stars", "9 stars, at least 10 are asked for")


def test_settings_move_every_threshold() -> None:
    small = replace(GOOD, stars=0, forks=0, is_fork=True, full_name="owner/demo", language="Java")
    criteria = {"fork": {"required": False}}
    allowed = {"min_stars": 0, "min_forks": 0, "min_score": 40, "excluded_words": [], "languages": ["java"]}
    assert objections(small, criteria=criteria, **allowed) == []
    assert objections(small, criteria=criteria, **allowed | {"min_score": 40.1}) == ["min-score"]
    assert objections(GOOD, max_size_kib=9) == ["max-size"]


def test_any_criterion_can_be_required_or_not() -> None:
    for name, criterion in FiltersSettings().criteria.each():
        settings = {"criteria": {name.replace("-", "_"): {"required": not criterion.required}}}
        rules = [rule.name for rule in repository_rules(FiltersSettings.model_validate(settings))]
        assert (name in rules) is not criterion.required
        assert rules[-1] == "min-score"
    bare = replace(GOOD, description=None, topics=(), licence="NOASSERTION", pushed_at=datetime(2001, 1, 1, tzinfo=UTC))
    required = {name: {"required": True} for name in ("description", "topics", "licence", "recency")}
    assert objections(bare, criteria=required, min_score=0) == list(required)


def test_what_is_left_out_of_a_criterion_stays_as_it_is() -> None:
    settings = FiltersSettings.model_validate({"criteria": {"min_stars": {"reason": "we want it so"}}})
    assert settings.criteria.min_stars.model_dump() == {"required": True, "weight": 40, "reason": "we want it so"}


@pytest.mark.parametrize(
    "criteria",
    [{"stars": {}}, {"min_stars": {"wieght": 1}}, {"min_stars": {"weight": -1}}, {"fork": {"reason": ""}}, {"fork": 1}],
)
def test_criteria_that_do_not_exist_or_make_no_sense_are_refused(criteria: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        FiltersSettings.model_validate({"criteria": criteria})


@given(
    st.builds(
        Repository,
        source=st.text(),
        external_id=st.text(),
        full_name=st.text(),
        url=st.text(),
        revision=st.text(),
        description=st.none() | st.text(),
        language=st.none() | st.text(),
        stars=st.integers(),
        forks=st.integers(),
        size_kib=st.integers(),
        topics=st.lists(st.text(), max_size=3).map(tuple),
    )
)
def test_any_repository_gets_a_decision(repository: Repository) -> None:
    for rule in repository_rules(FiltersSettings()):
        reason = rule.check(repository)
        assert reason is None or (reason.rule == rule.name and reason.detail)
