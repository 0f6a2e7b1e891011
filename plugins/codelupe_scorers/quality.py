"""A file's quality from 0 to 100: the weighted mean of its dimensions. Runs in worker processes.

Calibrated on labelled files: ``docs/explanation/quality-score.md`` says how, how well the score agrees with the labels
and where it errs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from codelupe import Score, Scorer, SourceFile


@dataclass(frozen=True, slots=True, kw_only=True)
class Quality:
    """A file's score and what it rests on."""

    value: float | None
    """None if no dimension applies."""
    dimensions: dict[str, dict[str, Any]]
    """By name: value (None where it does not apply), version, weight, reasons."""


def score_files(files: Sequence[SourceFile], scorers: Sequence[Scorer]) -> list[Quality]:
    """The quality of each file."""
    return [score_file(file, scorers) for file in files]


def score_file(file: SourceFile, scorers: Sequence[Scorer]) -> Quality:
    """The quality of one file; scorers of weight 0 are not asked."""
    scores = [(scorer, scorer.score(file)) for scorer in scorers if scorer.weight > 0]
    return Quality(
        value=_weighted_mean([(scorer.weight, score) for scorer, score in scores if score is not None]),
        dimensions={scorer.name: _describe(scorer, score) for scorer, score in scores},
    )


def _weighted_mean(scores: Sequence[tuple[float, Score]]) -> float | None:
    if not scores:
        return None
    total = sum(weight * _bounded(score.value) for weight, score in scores)
    return total / sum(weight for weight, _ in scores)


def _describe(scorer: Scorer, score: Score | None) -> dict[str, Any]:
    return {
        "value": None if score is None else _bounded(score.value),
        "version": scorer.version,
        "weight": scorer.weight,
        "reasons": [] if score is None else list(score.reasons),
    }


def _bounded(value: float) -> float:
    """Within 0 and 100, whatever a scorer says, also by a number of a library's; not a number counts as 0."""
    return min(100.0, max(0.0, float(value)))
