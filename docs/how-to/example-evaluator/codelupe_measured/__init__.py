"""Two evaluators: functions from their docstrings, and what Python's expressions evaluate to."""

from __future__ import annotations

import ast
import re
from collections.abc import Sequence

from codelupe import Evaluator, Problem, SampleRequest, ScoredText, hookimpl

FUNCTION = re.compile(r'^( *)def .*:\n\1    """[^"]+"""\n+(?P<body>\1    .*\S\n(?:\1    .*\n|\n)*)', re.MULTILINE)
"""One with its signature in one line, and a docstring."""
EXPRESSIONS: dict[str, tuple[str, object]] = {
    "keys": ("sorted({'b': 1, 'a': 2})", ["a", "b"]),
    "slice": ("'lantern'[1:4]", "ant"),
    "split": ("'a,b,,c'.split(',')", ["a", "b", "", "c"]),
    "zip": ("dict(zip('xy', (1, 2, 3)))", {"x": 1, "y": 2}),
    "division": ("(-7 // 2, -7 % 2)", (-4, 1)),
    "comprehension": ("[n * n for n in range(5) if n % 2]", [1, 9]),
    "chained": ("1 < 3 < 2", False),
    "union": ("len({1, 2} | {2, 3})", 3),
}
"""By id: what is to be evaluated, and its value."""


class FunctionBodies:
    """How likely a model finds the body of a Python function, after all that stands before it."""

    name = "function-bodies"
    version = 1
    control_tokens: Sequence[str] = ()

    def text(self, request: SampleRequest) -> ScoredText | None:
        """The first function's body, if the window has all of it."""
        if request.file.language != "Python":
            return None
        window = request.file.content
        found = FUNCTION.search(window)
        if found is None or found.end() == len(window):
            return None
        return ScoredText(prompt=window[: found.start("body")], scored=found["body"].rstrip(), form="text")


class PythonValues:
    """Whether a model knows the value of a Python expression."""

    name = "python-values"
    version = 1
    max_tokens = 24

    def problems(self) -> Sequence[Problem]:
        """An assertion to go on with, for each expression."""
        return [
            Problem(id=name, prompt=f"assert {expression} ==", form="text")
            for name, (expression, _) in EXPRESSIONS.items()
        ]

    def is_solved(self, problem: str, answer: str) -> bool:
        """Whether the first line is a literal of the right value and type. Nothing is executed."""
        try:
            value = ast.literal_eval(answer.strip().partition("\n")[0])
        except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
            return False
        _, wanted = EXPRESSIONS[problem]
        return type(value) is type(wanted) and value == wanted


@hookimpl
def codelupe_evaluators() -> list[Evaluator]:
    return [FunctionBodies(), PythonValues()]
