"""Self-containedness: how much of the file is its own, and how much only points elsewhere?"""

from __future__ import annotations

from dataclasses import dataclass

from codelupe import Score, SourceFile
from codelupe_scorers.curves import ramp
from codelupe_scorers.outline import Outline, outline
from codelupe_text.syntax import NotParsed


@dataclass
class SelfContainedness:
    """What can be understood without the files around it.

    ================  =============================================================================================
    own code, 60      the share of the code that imports or exports other modules' things: all points up to 20%, none
                      from 60% on (OpenCoder throws Python files away where more than 30% of the lines import)
    known names, 20   whether names come in without being named, by wildcards: none of the points where half of the
                      imports are such
    done, 20          the share of functions with an empty body: all points up to 5%, none from 50% on
    ================  =============================================================================================
    """

    weight: float
    name = "self-containedness"
    version = 1

    def score(self, file: SourceFile) -> Score | None:
        try:
            it = outline(file)
        except NotParsed:
            return None
        stubs = sum(function.is_stub for function in it.functions)
        return Score(value=round(_points(it, stubs), 1), reasons=tuple(_reasons(it, stubs)))


def _points(it: Outline, stubs: int) -> float:
    own = ramp(_imported_share(it), zero=0.6, one=0.2)
    known = ramp(it.wildcard_imports / max(1, it.imports), zero=0.5, one=0)
    done = ramp(stubs / max(1, len(it.functions)), zero=0.5, one=0.05)
    return 60 * own + 20 * known + 20 * done


def _imported_share(it: Outline) -> float:
    return min(1.0, it.bytes_of_imports / max(1, it.code))


def _reasons(it: Outline, stubs: int) -> list[str]:
    reasons = [f"{it.imports} imports are {_imported_share(it):.0%} of the code"]
    if it.near_imports:
        reasons.append(f"{it.near_imports} of files beside it")
    if it.wildcard_imports:
        reasons.append(f"{it.wildcard_imports} by wildcard")
    if stubs:
        reasons.append(f"{stubs} of {len(it.functions)} functions have an empty body")
    return reasons
