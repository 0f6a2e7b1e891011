from __future__ import annotations

import pytest

from codelupe_scorers.complexity import Complexity
from tests.unit.codelupe_scorers.samples import source


def points(content: str, language: str = "Python") -> float:
    score = Complexity(1).score(source(content, language))
    assert score is not None
    return score.value


def branching(decisions: int) -> str:
    return "def f(a):\n" + "    if a:\n        b()\n" * decisions + "    return a\n"


def test_a_few_decisions_have_all_points() -> None:
    assert points(branching(1)) == points(branching(3)) == points(branching(9)) == 100


def test_more_decisions_cost_more() -> None:
    series = [points(branching(decisions)) for decisions in (9, 15, 20, 25, 60)]
    assert series == sorted(series, reverse=True)
    assert len(set(series)) == len(series)
    assert series[-1] == 0


def test_where_nothing_is_decided_there_is_nothing_to_learn() -> None:
    assert points(branching(0)) == points("a = 1\n" * 30) == 0


def test_one_decision_in_twenty_rows_is_logic_enough() -> None:
    series = [points("if a:\n    b()\n" + "c()\n" * rows) for rows in (18, 38, 78)]
    assert series == [100, 50, 25]


@pytest.mark.parametrize(
    ("content", "language", "number"),
    [
        ("def f(a):\n    return [b for b in a if b and not c or d]\n", "Python", 4),
        ("def f(a):\n    try:\n        b()\n    except A:\n        c()\n    except B:\n        d()\n", "Python", 3),
        ("function f(a) { return a ? b ?? c : d || e }", "JavaScript", 4),
        ("function f(a) { switch (a) { case 1: b(); case 2: c(); default: d() } }", "JavaScript", 3),
        ("fn f(a: i32) -> i32 { match a { 1 => 2, _ => 3 } }", "Rust", 3),
        ("func f(a int) { switch a { case 1: b(); case 2: c() } }", "Go", 3),
        ("int f(a) => a ? 1 : 2;", "Dart", 2),
    ],
)
def test_decisions_are_counted_as_mccabe_did(content: str, language: str, number: int) -> None:
    score = Complexity(1).score(source(content, language))
    assert score is not None
    assert score.reasons == (
        f"cyclomatic complexity {number:.1f} on average, {number} at worst",
        f"{number - 1} decisions in {len(content.splitlines())} rows",
    )


def test_without_a_tree_it_does_not_apply() -> None:
    assert Complexity(1).score(source("x", "COBOL")) is None
