"""How well the score agrees with the labels, as the area under the ROC curve.

That is the chance that of a good and a poor file, taken at random, the good one has the higher score.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from sklearn.metrics import roc_auc_score

from benchmarks.quality.labels import Labelled
from codelupe_scorers.quality import Quality

THRESHOLD = 70
"""From this score on a file is trained on; the batcher's default."""


@dataclass(frozen=True)
class Scored:
    labelled: Labelled
    quality: Quality

    @property
    def is_good(self) -> bool:
        return self.labelled.label.is_good

    @property
    def value(self) -> float | None:
        return self.quality.value

    def in_dimension(self, name: str) -> float | None:
        value: float | None = self.quality.dimensions[name]["value"]
        return value


def auc(scored: Sequence[Scored], value: Callable[[Scored], float | None]) -> float | None:
    """Over the files to which the value applies; None unless both labels are among them."""
    pairs = [(one.is_good, found) for one in scored if (found := value(one)) is not None]
    if len({is_good for is_good, _ in pairs}) < 2:
        return None
    return float(roc_auc_score([is_good for is_good, _ in pairs], [found for _, found in pairs]))


def figures(scored: Sequence[Scored]) -> dict[str, Any]:
    """All that is reported, as JSON."""
    dimensions = list(scored[0].quality.dimensions)
    languages = sorted({one.labelled.label.language for one in scored})
    return {
        "files": len(scored),
        "good": sum(one.is_good for one in scored),
        "auc": auc(scored, lambda one: one.value),
        "halves": {half: auc(_half(scored, half), lambda one: one.value) for half in ("tuning", "test")},
        "dimensions": {name: _dimension(scored, name) for name in dimensions},
        "languages": {language: _language(scored, language) for language in languages},
        "kept": {str(label): _kept(scored, is_good=label == "good") for label in ("good", "poor")},
    }


def _half(scored: Sequence[Scored], half: str) -> list[Scored]:
    return [one for one in scored if one.labelled.label.half == half]


def _dimension(scored: Sequence[Scored], name: str) -> dict[str, float | None]:
    def value(one: Scored) -> float | None:
        return one.in_dimension(name)

    without = [_without(one, name) for one in scored]
    return {
        "auc": auc(scored, value),
        "tuning": auc(_half(scored, "tuning"), value),
        "test": auc(_half(scored, "test"), value),
        "without": auc(without, lambda one: one.value),
    }


def _without(one: Scored, name: str) -> Scored:
    """The score as it were without this dimension."""
    others = {key: dimension for key, dimension in one.quality.dimensions.items() if key != name}
    applied = [(other["weight"], other["value"]) for other in others.values() if other["value"] is not None]
    total = sum(weight for weight, _ in applied)
    value = sum(weight * value for weight, value in applied) / total if total else None
    return Scored(one.labelled, Quality(value=value, dimensions=others))


def _language(scored: Sequence[Scored], language: str) -> dict[str, Any]:
    those = [one for one in scored if one.labelled.label.language == language]
    return {"auc": auc(those, lambda one: one.value), "files": len(those), "good": sum(one.is_good for one in those)}


def _kept(scored: Sequence[Scored], *, is_good: bool) -> float:
    values = [one.value or 0 for one in scored if one.is_good is is_good]
    return sum(value >= THRESHOLD for value in values) / max(1, len(values))


def table(found: dict[str, Any]) -> list[str]:
    """For people, in Markdown; the line with the figure comes last."""
    lines = ["| dimension | ROC AUC | tuning half | test half | score without it |", "| --- | --- | --- | --- | --- |"]
    for name, row in found["dimensions"].items():
        cells = (_two(row[key]) for key in ("auc", "tuning", "test", "without"))
        lines.append(f"| {name} | {' | '.join(cells)} |")
    halves = found["halves"]
    lines += [f"| **all** | {_two(found['auc'])} | {_two(halves['tuning'])} | {_two(halves['test'])} | |", ""]
    lines += ["| language | files | good | ROC AUC |", "| --- | --- | --- | --- |"]
    for language, row in found["languages"].items():
        lines.append(f"| {language} | {row['files']} | {row['good']} | {_two(row['auc'])} |")
    kept = found["kept"]
    lines += ["", f"{THRESHOLD} or more: {kept['good']:.0%} of the good files, {kept['poor']:.0%} of the poor ones", ""]
    return [*lines, f"ROC AUC {_two(found['auc'])}"]


def _two(figure: float | None) -> str:
    return "" if figure is None else f"{figure:.2f}"
