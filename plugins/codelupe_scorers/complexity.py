"""Complexity: how many ways lead through a function?"""

from __future__ import annotations

from dataclasses import dataclass

from codelupe import Score, SourceFile
from codelupe_scorers.curves import ramp
from codelupe_scorers.outline import NotParsed, outline


@dataclass
class Complexity:
    """McCabe's cyclomatic number of each function: 1 and one more for each decision (branch, loop, case, and, or).

    70 points for the mean, a function counting by its rows: all up to 4, none from 20 on; but only 60% of them where
    no function decides anything. 30 points for the worst function: all up to 10 (McCabe's own limit, 1976), none from
    40 on. A file without functions has no complexity.
    """

    weight: float
    name = "complexity"
    version = 1

    def score(self, file: SourceFile) -> Score | None:
        try:
            it = outline(file)
        except NotParsed:
            return None
        if not it.functions:
            return None
        mean = it.mean_over_functions(lambda function: 1 + function.decisions, default=1)
        worst = max(1 + function.decisions for function in it.functions)
        common = ramp(mean, zero=20, one=4) * (0.6 + 0.4 * ramp(mean, zero=1, one=1.5))
        return Score(
            value=round(70 * common + 30 * ramp(worst, zero=40, one=10), 1),
            reasons=(f"cyclomatic complexity {mean:.1f} on average, {worst} at worst",),
        )
