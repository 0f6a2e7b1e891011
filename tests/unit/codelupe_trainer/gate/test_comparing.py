"""Which windows decide, which only report, and what each model is said to do."""

from __future__ import annotations

import json
import math

import pytest

from codelupe_trainer.gate.comparing import HeldOut, compare, figures, window_lines
from codelupe_trainer.gate.measurements import Key, Measurement, Values
from codelupe_trainer.gate.rule import Passes
from codelupe_trainer.gate.statistics import PairedNats

TEXTS = [
    HeldOut(hash="1", group_id="g1", language="Go", part="decides", is_young=False),
    HeldOut(hash="2", group_id="g2", language=None, part="decides", is_young=True),
    HeldOut(hash="3", group_id="g3", language="Go", part="reports", is_young=True),
    HeldOut(hash="4", group_id="g4", language="Go", part="validation", is_young=None),
]


def measured(*known: tuple[str, str, Values]) -> dict[Key, Measurement]:
    return {(by, of): Measurement(by=by, of=of, values=values) for by, of, values in known}


def text(by: str, of: str, nats: float, size: int = 10) -> tuple[str, str, Values]:
    return by, of, {"nats": nats, "bytes": size}


CURRENT = measured(
    *(text("plain", of, 20.0) for of in "1234"), text("chat", "1", 8.0), text("chat", "4", 8.0), text("plain", "9", 1.0)
)
CANDIDATE = measured(
    *(text("plain", of, 10.0) for of in "1234"), text("chat", "1", 9.0), text("chat", "4", 9.0), text("plain", "9", 1.0)
)


def test_each_text_counts_where_it_belongs() -> None:
    found = compare(TEXTS, CURRENT, CANDIDATE)
    assert {name: len(pairs) for name, pairs in found.decides.items()} == {"plain": 2, "chat": 1}
    assert found.decides["plain"][1] == PairedNats(group="g2", language="unknown", bytes=10, current=20, candidate=10)
    assert {key: [one.group for one in pairs] for key, pairs in found.reports.items()} == {
        ("plain", "reports"): ["g3"],
        ("plain", "young"): ["g2", "g3"],
    }
    assert [one.group for one in found.old_batches] == ["g4"]


def test_what_was_measured_of_one_model_only_says_nothing() -> None:
    without = {key: one for key, one in CANDIDATE.items() if key != ("plain", "1")} | measured(("plain", "2", {}))
    assert {name: len(pairs) for name, pairs in compare(TEXTS, CURRENT, without).decides.items()} == {"chat": 1}


def test_problems_are_counted_by_who_solves_them() -> None:
    def solving(*ids: str) -> dict[Key, Measurement]:
        known: list[tuple[str, str, Values]] = [("he", of, {"solved": float(of in ids)}) for of in "abcdef"]
        return measured(*known)

    found = compare(TEXTS, solving("a", "b", "c"), solving("b", "d")).anchors
    assert found == {"he": Passes(both=1, lost=2, gained=1, neither=2)}


def test_the_figures_of_a_model_are_of_what_decides_and_of_all_it_wrote() -> None:
    known = measured(
        text("plain", "1", 20.0, 10),
        text("plain", "2", 10.0, 30),
        text("plain", "3", 99.0),
        ("generation", "1", {"ends": 1.0, "next_line": 0.0}),
        ("generation", "3", {"ends": 0.0, "next_line": 1.0, "syntax_valid": 1.0}),
        ("generation", "9", {"ends": 0.0}),
        ("he", "a", {"solved": 1.0}),
        ("he", "b", {"solved": 0.0}),
    )
    assert figures(TEXTS, known) == {
        "plain": pytest.approx(30 / 40 / math.log(2)),
        "ends": 0.5,
        "next_line": 0.5,
        "syntax_valid": 1.0,
        "he": 0.5,
    }


def test_a_figure_that_is_no_number_is_left_out() -> None:
    assert figures(TEXTS, measured(text("plain", "1", math.nan))) == {}


def test_the_evidence_has_a_line_for_each_pair() -> None:
    lines = [json.loads(line) for line in window_lines(TEXTS, CURRENT, CANDIDATE)]
    assert [(one["measure"], one["window"], one["part"]) for one in lines] == [
        *(("chat", of, part) for of, part in (("1", "decides"), ("4", "validation"))),
        *(("plain", one.hash, one.part) for one in TEXTS),
    ]
    assert lines[0] == {
        "measure": "chat",
        "window": "1",
        "part": "decides",
        "group": "g1",
        "language": "Go",
        "bytes": 10,
        "current": 8.0,
        "candidate": 9.0,
    }
