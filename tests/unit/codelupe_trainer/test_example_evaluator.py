"""The plugin of docs/how-to/add-an-evaluator.md, as the training process gets it."""

from __future__ import annotations

import pickle
from importlib import import_module
from pathlib import Path
from types import ModuleType

import pytest

from codelupe import LikelihoodEvaluator, ProblemEvaluator, ScoredText
from codelupe.contracts.guards import guard_evaluator
from codelupe_trainer.gate.rule import SIGNIFICANCE
from codelupe_trainer.gate.statistics import mcnemar
from tests.unit.codelupe_trainer.samples.requests import request

EXAMPLE = Path(__file__).parents[3] / "docs" / "how-to" / "example-evaluator"
BEFORE = '''import os


class Folder:
    def names(self, suffix: str) -> list[str]:
        """Those that end so."""
'''
BODY = """        names = os.listdir(self.path)

        return [name for name in names if name.endswith(suffix)]"""
AFTER = "\n\n    path = '.'\n"


@pytest.fixture
def plugin(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(EXAMPLE)
    return import_module("codelupe_measured")


@pytest.fixture
def evaluators(plugin: ModuleType) -> tuple[LikelihoodEvaluator, ProblemEvaluator]:
    """Both, guarded and pickled."""
    offered = [guard_evaluator("measured", each) for each in plugin.codelupe_evaluators()]
    bodies, values = pickle.loads(pickle.dumps(offered))
    assert isinstance(bodies, LikelihoodEvaluator)
    assert isinstance(values, ProblemEvaluator)
    return bodies, values


def test_a_function_s_body_is_scored_after_all_that_stands_before_it(
    evaluators: tuple[LikelihoodEvaluator, ProblemEvaluator],
) -> None:
    text = evaluators[0].text(request(BEFORE + BODY + AFTER))
    assert text == ScoredText(prompt=BEFORE, scored=BODY, form="text")


@pytest.mark.parametrize(
    ("window", "language"),
    [
        *((BEFORE + BODY + AFTER, language) for language in ("Go", None)),
        ("", "Python"),
        ("def one() -> int:\n    return 1\n\n\n", "Python"),
        (BEFORE + BODY + "\n", "Python"),
        (f"{BEFORE}\n\n    path = '.'\n", "Python"),
        (f"{BEFORE}        \n\n    path = '.'\n", "Python"),
    ],
    ids=["go", "unknown", "empty", "undocumented", "cut", "bodiless", "blank"],
)
def test_other_windows_do_not_suit(
    evaluators: tuple[LikelihoodEvaluator, ProblemEvaluator], window: str, language: str | None
) -> None:
    assert evaluators[0].text(request(window, language=language)) is None


def test_the_values_are_those_that_python_finds(
    plugin: ModuleType, evaluators: tuple[LikelihoodEvaluator, ProblemEvaluator]
) -> None:
    _, values = evaluators
    for problem in values.problems():
        expression = problem.prompt.removeprefix("assert ").removesuffix(" ==")
        found = repr(eval(expression))  # the example's own
        assert values.is_solved(problem.id, f" {found}\nassert True")
        assert not values.is_solved(problem.id, f" {found!r}")
    assert len(values.problems()) == len(plugin.EXPRESSIONS)


@pytest.mark.parametrize("answer", ["", "2", "True", " [1, 9", "print(3)", "3.0", "(" * 24, "3\0", "\ud800"])
def test_other_answers_do_not_solve_a_problem(
    evaluators: tuple[LikelihoodEvaluator, ProblemEvaluator], answer: str
) -> None:
    assert not evaluators[1].is_solved("union", answer)


def test_how_many_of_its_problems_a_candidate_must_lose(plugin: ModuleType) -> None:
    """The page's figures."""
    ruled_out = [lost for lost in range(len(plugin.EXPRESSIONS) + 1) if mcnemar(lost, 0) < SIGNIFICANCE]
    assert (len(plugin.EXPRESSIONS), ruled_out[0]) == (8, 6)
