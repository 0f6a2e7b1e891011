"""HumanEval's own solutions, and wrong ones, in the sandbox."""

from __future__ import annotations

import os
from itertools import islice

import pytest

from codelupe_trainer.gate.human_eval import count_passes, read_problems, solved
from codelupe_trainer.gate.rule import Passes
from codelupe_trainer.gate.sandbox import Limits, SandboxMissing, check_sandbox

LIMITS = Limits(seconds=60)


@pytest.fixture
def _sandbox() -> None:
    try:
        check_sandbox()
    except SandboxMissing as error:
        if os.environ.get("CI"):
            raise
        pytest.skip(str(error))


@pytest.mark.usefixtures("_sandbox")
def test_the_authors_solutions_pass_and_wrong_ones_do_not() -> None:
    right = {id_: one["canonical_solution"] for id_, one in islice(read_problems().items(), 8)}
    assert solved(right, LIMITS) == right.keys()
    empty = dict.fromkeys(right, "    return None\n")
    assert solved(empty, LIMITS) == frozenset()
    early = {"HumanEval/0": "    import sys\n    sys.exit(0)\n"}
    assert solved(early, LIMITS) == frozenset()


@pytest.mark.slow
@pytest.mark.usefixtures("_sandbox")
def test_all_164_solutions_pass() -> None:
    right = {id_: one["canonical_solution"] for id_, one in read_problems().items()}
    assert len(solved(right, LIMITS)) == len(right) == 164


def test_two_models_are_compared_problem_by_problem() -> None:
    found = count_passes(6, frozenset({"a", "b", "c"}), frozenset({"b", "d"}))
    assert found == Passes(both=1, lost=2, gained=1, neither=2)
