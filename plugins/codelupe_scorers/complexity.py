"""Complexity: does the code decide anything, and how many ways lead through a function?"""

from __future__ import annotations

from dataclasses import dataclass

from codelupe import Score, SourceFile
from codelupe_scorers.curves import ramp
from codelupe_scorers.outline import Outline, outline
from codelupe_text.syntax import NotParsed

_LOGIC = 1 / 20
"""Decisions per row from which a file has logic enough."""


@dataclass
class Complexity:
    """McCabe's cyclomatic number of each function: 1 and one more for each decision (branch, loop, case, and, or).

    70 points for the mean, a function counting by its rows: all up to 10 (McCabe's own limit, 1976), none from 30 on.
    30 points for the worst function: all up to 20, none from 60 on.

    Both times how much is decided at all, inside functions or outside: 0 where nothing is, as in tables, lists of
    names and code that only passes its arguments on, up to 1 from a decision in 20 rows on. That share told the
    labelled files of the tuning half apart better than anything else that was measured.
    """

    weight: float
    name = "complexity"
    version = 2

    def score(self, file: SourceFile) -> Score | None:
        try:
            it = outline(file)
        except NotParsed:
            return None
        mean = it.mean_over_functions(lambda function: 1 + function.decisions, default=1)
        worst = max((1 + function.decisions for function in it.functions), default=1)
        total = _decisions(it)
        logic = ramp(total / it.rows, zero=0, one=_LOGIC)
        points = 70 * ramp(mean, zero=30, one=10) + 30 * ramp(worst, zero=60, one=20)
        return Score(
            value=round(points * logic, 1),
            reasons=(
                f"cyclomatic complexity {mean:.1f} on average, {worst} at worst",
                f"{total} decisions in {it.rows} rows",
            ),
        )


def _decisions(it: Outline) -> int:
    return it.decisions + sum(function.decisions for function in it.functions)
