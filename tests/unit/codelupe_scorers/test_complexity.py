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
    assert points(branching(1)) == points(branching(3)) == 100


def test_more_decisions_cost_more() -> None:
    series = [points(branching(decisions)) for decisions in (3, 8, 15, 30, 60)]
    assert series == sorted(series, reverse=True)
    assert series[-1] == 0


def test_deciding_nothing_costs_a_little() -> None:
    assert points(branching(0)) == pytest.approx(72)


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
    assert score.reasons == (f"cyclomatic complexity {number:.1f} on average, {number} at worst",)


@pytest.mark.parametrize(("content", "language"), [("x = 1\n", "Python"), ("x", "COBOL"), ("", "Go")])
def test_without_functions_it_does_not_apply(content: str, language: str) -> None:
    assert Complexity(1).score(source(content, language)) is None
