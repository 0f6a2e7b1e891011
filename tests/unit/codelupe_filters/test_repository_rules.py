from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

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
)


def objections(repository: Repository, **settings: object) -> list[str]:
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
        ({"full_name": "owner/rust-tutorial"}, "teaching"),
        ({"topics": ("parser", "demo")}, "teaching"),
        ({"description": "My Homework, week 3"}, "teaching"),
    ],
)
def test_each_rule_has_its_objection(change: dict[str, object], rule: str) -> None:
    assert objections(replace(GOOD, **change)) == [rule]  # type: ignore[arg-type]


def test_all_rules_are_asked() -> None:
    assert objections(replace(GOOD, stars=0, forks=0, is_fork=True)) == ["min-stars", "min-forks", "fork"]


@pytest.mark.parametrize("language", [None, "rust", "Rust", "GO", "TypeScript"])
def test_wanted_and_unknown_languages_pass(language: str | None) -> None:
    assert objections(replace(GOOD, language=language)) == []


@pytest.mark.parametrize("description", [None, "", "Democracy for parsers", "Undemonstrative"])
def test_only_whole_words_count(description: str | None) -> None:
    assert objections(replace(GOOD, description=description)) == []


def test_settings_move_every_threshold() -> None:
    small = replace(GOOD, stars=0, forks=0, is_fork=True, full_name="owner/demo", language="Java")
    allowed = {"min_stars": 0, "min_forks": 0, "accept_forks": True, "excluded_words": [], "languages": ["java"]}
    assert objections(small, **allowed) == []
    assert objections(GOOD, max_size_kib=9) == ["max-size"]
    archived = replace(GOOD, is_archived=True)
    assert objections(archived) == []
    assert objections(archived, accept_archived=False) == ["archived"]


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
    for rule in repository_rules(FiltersSettings(accept_archived=False)):
        reason = rule.check(repository)
        assert reason is None or (reason.rule == rule.name and reason.detail)
