"""HumanEval's own solutions, and wrong ones, in the sandbox."""

from __future__ import annotations

import os
from itertools import islice

import pytest

from codelupe_trainer.gate import human_eval
from codelupe_trainer.gate.human_eval import HumanEval, read_problems
from codelupe_trainer.gate.sandbox import SandboxMissing, check_sandbox


@pytest.fixture
def _sandbox() -> None:
    try:
        check_sandbox()
    except SandboxMissing as error:
        if os.environ.get("CI"):
            raise
        pytest.skip(str(error))


def solved(answers: dict[str, str]) -> set[str]:
    evaluator = HumanEval()
    return {id_ for id_, answer in answers.items() if evaluator.is_solved(id_, answer)}


@pytest.mark.usefixtures("_sandbox")
def test_the_authors_solutions_pass_and_wrong_ones_do_not() -> None:
    problems = dict(islice(read_problems().items(), 8))
    right = {id_: one["canonical_solution"] for id_, one in problems.items()}
    assert solved(right) == right.keys()
    assert solved(dict.fromkeys(right, "    return None\n")) == set()
    assert solved({"HumanEval/0": "    import sys\n    sys.exit(0)\n"}) == set()


@pytest.mark.usefixtures("_sandbox")
def test_a_whole_function_counts_also_in_a_block_of_code_and_with_what_is_said_about_it() -> None:
    problem = read_problems()["HumanEval/0"]
    function = problem["prompt"] + problem["canonical_solution"]
    for answer in (function, f"```python\n{function}```", f"Here it is:\n\n```python\n{function}\n```\nIt sorts.\n"):
        assert solved({"HumanEval/0": answer}) == {"HumanEval/0"}
    assert solved({"HumanEval/0": f"I cannot do that. {function}"}) == set()


def test_all_problems_are_asked_as_a_chat(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(human_eval, "check_sandbox", lambda: None)
    asked = HumanEval().problems()
    assert len({one.id for one in asked}) == 164
    assert all(f"```python\n{read_problems()[one.id]['prompt']}```" in one.prompt for one in asked)


def test_without_a_sandbox_no_problem_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    with pytest.raises(SandboxMissing, match="install the packages bubblewrap"):
        HumanEval().problems()


@pytest.mark.slow
@pytest.mark.usefixtures("_sandbox")
def test_all_164_solutions_pass() -> None:
    right = {id_: one["canonical_solution"] for id_, one in read_problems().items()}
    assert len(solved(right)) == len(right) == 164
