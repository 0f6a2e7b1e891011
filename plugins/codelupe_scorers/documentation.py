"""Documentation: do functions and types say what they are for, and is there a sensible amount of comment?"""

from __future__ import annotations

from dataclasses import dataclass

from codelupe import Score, SourceFile
from codelupe_scorers.curves import ramp
from codelupe_scorers.outline import Definition, outline
from codelupe_text.syntax import NotParsed

_LONGEST = 20
"""Rows of a definition that count: beyond, a longer one needs no more documentation."""


@dataclass
class Documentation:
    """The points of two parts.

    ====================  =========================================================================================
    definitions, 65       the share of functions and types with a docstring inside or a comment right above, by rows
                          up to 20; those within functions do not count. All points at 80%.
    comment, 35           the share of comments and docstrings in the text: none at 0%, all from 10% to 50%, none
                          again at 80% (OpenCoder's limit for code that is mostly comment)
    ====================  =========================================================================================

    A licence at the top is no documentation. Without any definition there is nothing to document, and the comments'
    part remains.
    """

    weight: float
    name = "documentation"
    version = 2

    def score(self, file: SourceFile) -> Score | None:
        try:
            it = outline(file)
        except NotParsed:
            return None
        share = it.documentation / max(1, it.characters)
        comment = ramp(share, zero=0, one=0.1) * ramp(share, zero=0.8, one=0.5)
        reasons = [f"{share:.0%} of the text is comment"]
        definitions = [definition for definition in it.definitions if not definition.is_nested]
        if not definitions:
            return Score(value=round(35 * comment, 1), reasons=tuple(reasons))
        documented = sum(definition.is_documented for definition in definitions)
        reasons.append(f"{documented} of {len(definitions)} functions and types are documented")
        points = 65 * ramp(_documented_share(definitions), zero=0, one=0.8) + 35 * comment
        return Score(value=round(points, 1), reasons=tuple(reasons))


def _documented_share(definitions: list[Definition]) -> float:
    rows = [(min(definition.rows, _LONGEST), definition.is_documented) for definition in definitions]
    return sum(weight for weight, is_documented in rows if is_documented) / sum(weight for weight, _ in rows)
