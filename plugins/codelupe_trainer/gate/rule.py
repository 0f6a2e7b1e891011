"""The rule by which a candidate replaces the model in use: a function of what was measured, and of nothing else."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, TypeVar

from codelupe_events import Reason
from codelupe_trainer.gate.statistics import SEED, Gain, PairedNats, estimate_by_language, estimate_gain, mcnemar

PLAIN, CHAT = "plain", "chat"
DECISIVE = (PLAIN, CHAT)
"""Measures in which a candidate must gain: in one alone, it may have learned the form and nothing else."""
SIGNIFICANCE = 0.05
ALL, OLD_BATCHES = "all", "first batches"

Outcome = Literal["promoted", "rejected", "waits"]
K = TypeVar("K")


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What the evidence must reach."""

    min_groups: int = 20
    """With fewer groups the interval's level is not what it says: see tests of the statistics."""
    min_windows: int = 200
    max_loss: float = 0.02
    """Share of the bits per byte by which a language or an old batch may become worse."""
    min_files_of_language: int = 20
    """Windows in a language from which on it has a say; a window is one file's."""


@dataclass(frozen=True, kw_only=True)
class Passes:
    """Tests that both models were put to, by how they ended."""

    both: int = 0
    lost: int = 0
    """Passed by the model in use, and not by the candidate."""
    gained: int = 0
    """The opposite."""
    neither: int = 0


@dataclass(frozen=True, kw_only=True)
class Measurements:
    """Both models on one evaluation set."""

    decides: Mapping[str, Sequence[PairedNats]]
    """The windows of the groups that decide, by measure; :data:`DECISIVE` ones, and others that are only shown."""
    reports: Mapping[tuple[str, str], Sequence[PairedNats]] = field(default_factory=dict)
    """What is only shown, by the measure and by what it is over, such as the groups that only report."""
    old_batches: Sequence[PairedNats] = ()
    """What was kept out of the first batches, in plain code."""
    anchors: Mapping[str, Passes] = field(default_factory=dict)
    """Tests against forgetting, such as ``human-eval``."""


@dataclass(frozen=True, kw_only=True)
class Row:
    """One line of the table: a measure over some windows."""

    measure: str
    over: str
    """:data:`ALL` windows that decide, those of a language, or others."""
    gain: Gain


@dataclass(frozen=True, kw_only=True)
class Decision:
    """What is to be done, why, and all that was looked at."""

    outcome: Outcome
    reasons: tuple[Reason, ...]
    """Why it is not promoted; none if it is."""
    table: tuple[Row, ...]
    anchors: Mapping[str, Passes]


def decide(measured: Measurements, limits: Limits, *, seed: int = SEED) -> Decision:
    """Promote the candidate, reject it, or wait for more to measure on.

    It waits only for what stays missing whatever the candidate is: too few groups or windows. Otherwise each objection
    rejects it.
    """
    overall = _estimates(measured.decides, seed)
    reports = _estimates(measured.reports, seed)
    languages = {name: estimate_by_language(measured.decides.get(name, ()), seed=seed) for name in DECISIVE}
    old = estimate_gain(measured.old_batches, seed=seed)
    missing = tuple(_too_little(overall, limits))
    objections = [
        *_no_gain(overall),
        *_worse_languages(languages, limits),
        *(_worse_old_batches(old, limits) if old else ()),
        *_lost_tests(measured.anchors),
    ]
    return Decision(
        outcome="waits" if missing else "rejected" if objections else "promoted",
        reasons=missing or tuple(objections),
        table=tuple(_rows(overall, languages, reports, old)),
        anchors=measured.anchors,
    )


def _estimates(windows: Mapping[K, Sequence[PairedNats]], seed: int) -> dict[K, Gain]:
    gains = {key: estimate_gain(some, seed=seed) for key, some in windows.items()}
    return {key: gain for key, gain in gains.items() if gain is not None}


def _too_little(overall: Mapping[str, Gain], limits: Limits) -> Iterator[Reason]:
    for name in DECISIVE:
        groups = overall[name].groups if name in overall else 0
        windows = overall[name].windows if name in overall else 0
        if groups < limits.min_groups or windows < limits.min_windows:
            needed = f"at least {limits.min_groups:,} groups and {limits.min_windows:,} windows are needed"
            yield Reason(rule="held-out", detail=f"{name} has {groups:,} groups and {windows:,} windows; {needed}")


def _no_gain(overall: Mapping[str, Gain]) -> Iterator[Reason]:
    for name in DECISIVE:
        if name in overall and not _is_above_zero(overall[name].low):
            yield Reason(rule=f"gain-{name}", detail=f"a gain is not sure: {describe(overall[name])}")


def _is_above_zero(bound: float | None) -> bool:
    return bound is not None and bound > 0


def _worse_languages(languages: Mapping[str, Mapping[str, Gain]], limits: Limits) -> Iterator[Reason]:
    for name, by_language in languages.items():
        for language, gain in by_language.items():
            if gain.windows >= limits.min_files_of_language and _is_worse(gain, limits):
                yield Reason(rule=f"language-{name}", detail=f"{language} is worse: {describe(gain)}")


def _worse_old_batches(gain: Gain, limits: Limits) -> Iterator[Reason]:
    if _is_worse(gain, limits):
        yield Reason(rule="old-batches", detail=f"what was learned first is worse: {describe(gain)}")


def _is_worse(gain: Gain, limits: Limits) -> bool:
    """By more than the share that is allowed, and surely worse: its whole interval lies below zero."""
    return gain.high is not None and gain.high < 0 and -gain.gain > limits.max_loss * gain.current


def _lost_tests(anchors: Mapping[str, Passes]) -> Iterator[Reason]:
    for name, passes in sorted(anchors.items()):
        chance = mcnemar(passes.lost, passes.gained)
        if passes.lost > passes.gained and chance < SIGNIFICANCE:
            detail = f"{passes.lost:,} tests are lost and {passes.gained:,} gained (McNemar p = {chance:.4f})"
            yield Reason(rule=f"anchor-{name}", detail=detail)


def _rows(
    overall: Mapping[str, Gain],
    languages: Mapping[str, Mapping[str, Gain]],
    reports: Mapping[tuple[str, str], Gain],
    old: Gain | None,
) -> Iterator[Row]:
    yield from (Row(measure=name, over=ALL, gain=gain) for name, gain in overall.items())
    for name, by_language in languages.items():
        yield from (Row(measure=name, over=language, gain=gain) for language, gain in by_language.items())
    yield from (Row(measure=name, over=over, gain=gain) for (name, over), gain in reports.items())
    if old is not None:
        yield Row(measure=PLAIN, over=OLD_BATCHES, gain=old)


def describe(gain: Gain) -> str:
    """Both models' bits per byte and the gain with its interval, in a line."""
    interval = "no interval" if gain.low is None or gain.high is None else f"{gain.low:+.4f} to {gain.high:+.4f}"
    return (
        f"{gain.current:.4f} to {gain.candidate:.4f} bits per byte, a gain of {gain.gain:+.4f} ({interval}) "
        f"over {gain.groups:,} groups and {gain.windows:,} windows"
    )
