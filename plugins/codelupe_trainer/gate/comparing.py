"""From what was measured of two models, window by window, to what the rule looks at."""

from __future__ import annotations

import json
import math
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from statistics import fmean

from codelupe_trainer.gate.measurements import Key, Measurement, Values
from codelupe_trainer.gate.rule import PLAIN, Measurements, Passes
from codelupe_trainer.gate.statistics import PairedNats

Measured = Mapping[Key, Measurement]


@dataclass(frozen=True, kw_only=True)
class HeldOut:
    """A text that models were measured on."""

    hash: str
    group_id: str
    language: str | None
    part: str
    """``decides`` or ``reports``, or ``validation``: of an earlier batch."""
    is_young: bool | None
    """Whether its repository was made after the base's data; None if that is not known."""


def compare(held_out: Iterable[HeldOut], current: Measured, candidate: Measured) -> Measurements:
    """Pair what both models were measured on. Only texts that are still held out count."""
    texts = {one.hash: one for one in held_out}
    decides, reports = defaultdict[str, list[PairedNats]](list), defaultdict[tuple[str, str], list[PairedNats]](list)
    old_batches = list[PairedNats]()
    for measure, text, pair in _pairs(texts, current, candidate):
        match text.part:
            case "decides":
                decides[measure].append(pair)
            case "reports":
                reports[measure, "reports"].append(pair)
            case "validation" if measure == PLAIN:
                old_batches.append(pair)
        if text.is_young:
            reports[measure, "young"].append(pair)
    return Measurements(decides=decides, reports=reports, old_batches=old_batches, anchors=_anchors(current, candidate))


def _pairs(
    texts: Mapping[str, HeldOut], current: Measured, candidate: Measured
) -> Iterator[tuple[str, HeldOut, PairedNats]]:
    for measure, of in sorted(current.keys() & candidate.keys()):
        one, other, text = current[measure, of].values, candidate[measure, of].values, texts.get(of)
        if text is not None and "nats" in one and "nats" in other:
            pair = PairedNats(
                group=text.group_id,
                language=text.language or "unknown",
                bytes=int(one["bytes"]),
                current=one["nats"],
                candidate=other["nats"],
            )
            yield measure, text, pair


def window_lines(held_out: Iterable[HeldOut], current: Measured, candidate: Measured) -> Iterator[str]:
    """What both models were measured on, a JSON text each: the evidence for a decision, without a line of code."""
    texts = {one.hash: one for one in held_out}
    for measure, text, pair in _pairs(texts, current, candidate):
        yield json.dumps({"measure": measure, "window": text.hash, "part": text.part, **asdict(pair)})


def _anchors(current: Measured, candidate: Measured) -> dict[str, Passes]:
    counts = defaultdict[str, dict[tuple[bool, bool], int]](lambda: defaultdict(int))
    for evaluator, of in current.keys() & candidate.keys():
        one, other = current[evaluator, of].values, candidate[evaluator, of].values
        if "solved" in one and "solved" in other:
            counts[evaluator][bool(one["solved"]), bool(other["solved"])] += 1
    return {
        name: Passes(
            both=found[True, True], lost=found[True, False], gained=found[False, True], neither=found[False, False]
        )
        for name, found in sorted(counts.items())
    }


def figures(held_out: Iterable[HeldOut], measured: Measured) -> dict[str, float]:
    """One model's figures: bits per byte by measure on the windows that decide, and shares of all that it wrote.

    What is no number is left out.
    """
    parts = {one.hash: one.part for one in held_out}
    texts, shares = defaultdict[str, list[Values]](list), defaultdict[str, list[float]](list)
    for (measure, of), one in sorted(measured.items()):
        if "nats" in one.values and parts.get(of) == "decides":
            texts[measure].append(one.values)
        elif "solved" in one.values:
            shares[measure].append(one.values["solved"])
        elif "nats" not in one.values and of in parts:
            for name, value in one.values.items():
                shares[name].append(value)
    found = {name: _bits_per_byte(some) for name, some in texts.items()}
    found |= {name: fmean(values) for name, values in shares.items()}
    return {name: value for name, value in found.items() if math.isfinite(value)}


def _bits_per_byte(texts: Iterable[Values]) -> float:
    some = list(texts)
    return sum(one["nats"] for one in some) / sum(one["bytes"] for one in some) / math.log(2)
