"""Structure: does the file parse, and is it made of functions and types of a size one can take in?"""

from __future__ import annotations

from dataclasses import dataclass

from codelupe import Score, SourceFile
from codelupe_scorers.curves import ramp
from codelupe_scorers.outline import Outline, outline
from codelupe_text.syntax import NoGrammar, NotParsed

_UNKNOWN = 50.0
"""For a language that is not parsed: neither praise nor blame."""


@dataclass
class Structure:
    """The points of three parts, times two factors.

    ========================  =====================================================================================
    substance, 40             the share of rows within functions and types: none at 10%, all at 70%; and half of it
                              where functions have one row on average (declarations, not code), all from 4 rows on
    size, 35                  functions up to 40 rows have all points, from 150 rows on none; by rows
    nesting, 25               up to 2 levels of blocks within a function have all points, from 7 on none; by rows
    times validity            1 if all of it parses; else 0.7 at most, down to 0 where 10% of the bytes fit no rule
    times length              from 0.2 for an empty file to 1 at 30 rows
    ========================  =====================================================================================

    A file without functions has 0.3 of the points of size and nesting: there is little to judge.
    """

    weight: float
    name = "structure"
    version = 2

    def score(self, file: SourceFile) -> Score:
        try:
            it = outline(file)
        except NoGrammar as error:
            return Score(value=_UNKNOWN, reasons=(str(error),))
        except NotParsed as error:
            return Score(value=0.0, reasons=(str(error),))
        points = 40 * _substance(it) + 35 * _size(it) + 25 * _nesting(it)
        return Score(value=round(points * _validity(it) * _length(it), 1), reasons=tuple(_reasons(it)))


def _substance(it: Outline) -> float:
    functions = it.functions
    rows = sum(function.rows for function in functions) / len(functions) if functions else 4
    return ramp(it.rows_in_definitions / it.rows, zero=0.1, one=0.7) * (0.5 + 0.5 * ramp(rows, zero=1, one=4))


def _size(it: Outline) -> float:
    return it.mean_over_functions(lambda function: ramp(function.rows, zero=150, one=40), default=0.3)


def _nesting(it: Outline) -> float:
    return it.mean_over_functions(lambda function: ramp(function.depth, zero=7, one=2), default=0.3)


def _validity(it: Outline) -> float:
    return 0.7 * ramp(it.error_share, zero=0.1, one=0.0) if it.has_errors else 1.0


def _length(it: Outline) -> float:
    return 0.2 + 0.8 * ramp(it.rows, zero=0, one=30)


def _reasons(it: Outline) -> list[str]:
    types = sum(definition.is_type for definition in it.definitions)
    longest = max((function.rows for function in it.functions), default=0)
    deepest = max((function.depth for function in it.functions), default=0)
    reasons = [
        f"{len(it.functions)} functions and {types} types in {it.rows} rows",
        f"{it.rows_in_definitions / it.rows:.0%} of the rows are within them",
    ]
    if it.functions:
        reasons.append(f"the longest function has {longest} rows, the deepest {deepest} levels")
    if it.has_errors:
        reasons.append(f"{it.error_share:.1%} of the bytes fit no rule of the grammar")
    return reasons
