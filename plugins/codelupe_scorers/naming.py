"""Naming: are new names written as their language writes them, and do they tell something?"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from codelupe import Score, SourceFile
from codelupe_scorers.curves import ramp
from codelupe_scorers.outline import Outline, outline
from codelupe_text.syntax import NotParsed

_TELLING = 3
"""Letters of a function's or type's name that can say something."""
_ENOUGH = 8
"""New names from which their share says something."""


def _core(name: str) -> str:
    """Without the marks for what is private or unused, and a field's quotes."""
    return name.strip("_$#'\"`")


def _snake(name: str) -> bool:
    return name == name.lower()


def _screaming(name: str) -> bool:
    return name == name.upper()


def _mixed(name: str) -> bool:
    return "_" not in _core(name)


def _camel(name: str) -> bool:
    return _mixed(name) and not _core(name)[:1].isupper()


def _pascal(name: str) -> bool:
    return _mixed(name) and not _core(name)[:1].islower()


def _not_camel(name: str) -> bool:
    return _snake(name) or _screaming(name) or _pascal(name)


def _not_snake(name: str) -> bool:
    return _mixed(name) or _screaming(name)


def _go_function(name: str) -> bool:
    return _mixed(name) or name.startswith(("Test", "Example", "Benchmark", "Fuzz"))


_Convention = Callable[[str], bool]
_PYTHON: dict[str, _Convention] = {"function": _snake, "type": _pascal, "variable": _not_camel}
_ECMA: dict[str, _Convention] = {"function": _mixed, "type": _pascal, "variable": _not_snake}
_CONVENTIONS: dict[str, dict[str, _Convention]] = {
    "Python": _PYTHON,
    "Go": {"function": _go_function, "type": _mixed, "variable": _mixed, "constant": _mixed},
    "Rust": {"function": _snake, "type": _pascal, "variable": _snake, "constant": _screaming},
    "Dart": {"function": _camel, "type": _pascal, "variable": _camel, "constant": _camel},
    "JavaScript": _ECMA,
    "TypeScript": _ECMA,
    "TSX": _ECMA,
}


@dataclass
class Naming:
    """The share of new names that follow the language's convention: none at 50%, all points from 95% on.

    Half of the points are lost where functions and types have names of one or two letters: none at 10% or less of
    them, all at 50%. A file that gives no names has no naming.

    ======================  ===========================================================================================
    Python (PEP 8)          functions in lower case, types in CapWords, variables not in mixedCase
    Go (Effective Go)       MixedCaps, no underscores, but in tests' names
    Rust (API Guidelines)   functions and variables in snake_case, types in UpperCamelCase, constants in upper case
    Dart (Effective Dart)   types in UpperCamelCase, all else in lowerCamelCase
    JavaScript, TypeScript  types in UpperCamelCase, no underscores in all else but constants in upper case (what the
                            style guides of Google and Airbnb share)
    ======================  ===========================================================================================

    That names which break conventions go with more faults found is in Butler and others, Exploring the Influence of
    Identifier Names on Code Quality (CSMR 2010); that single letters are understood less, in Lawrie and others, What's
    in a Name? (ICPC 2006). The thresholds are ours.
    """

    weight: float
    name = "naming"
    version = 1

    def score(self, file: SourceFile) -> Score | None:
        try:
            it = outline(file)
        except NotParsed:
            return None
        conventions = _CONVENTIONS[it.language]
        judged = [(name, follows(name)) for kind, follows in conventions.items() for name in it.names[kind]]
        strange = [name for name, follows in judged if not follows]
        share = 1 - len(strange) / max(1, len(judged))
        telling = _telling_share(it)
        evidence = 0.5 + 0.5 * ramp(len(judged), zero=0, one=_ENOUGH)
        reasons = [f"{len(judged) - len(strange)} of {len(judged)} names follow the language's convention"]
        if strange:
            reasons.append(f"not so {', '.join(dict.fromkeys(strange[:3]))}")
        points = 100 * ramp(share, zero=0.5, one=0.95) * (0.5 + 0.5 * ramp(telling, zero=0.5, one=0.9)) * evidence
        return Score(value=round(points, 1), reasons=tuple(reasons))


def _telling_share(it: Outline) -> float:
    names = it.names["function"] + it.names["type"]
    return sum(len(_core(name)) >= _TELLING for name in names) / len(names) if names else 1.0
