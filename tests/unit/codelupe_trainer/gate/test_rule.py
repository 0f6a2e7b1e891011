"""What is promoted, what is rejected, and what waits."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import replace
from statistics import fmean
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from codelupe_trainer.gate.rule import Decision, Limits, Measurements, Passes, decide
from codelupe_trainer.gate.statistics import PairedNats

LIMITS = Limits()


def windows(
    gain: float = 0.1, *, spread: float = 0.02, groups: int = 24, per_group: int = 10, seed: int = 1, **values: Any
) -> list[PairedNats]:
    """A set whose groups gain so many bits per byte on average; the model in use needs one bit for each."""
    draw = np.random.default_rng(seed)
    nats = 1000 * math.log(2)
    return [
        PairedNats(
            **{"group": f"g{group}", "language": "Python", "bytes": 1000, **values},
            current=nats,
            candidate=nats * (1 - gain - offset),
        )
        for group, offset in enumerate(draw.normal(0, spread, groups))
        for _ in range(per_group)
    ]


def measured(
    plain: Sequence[PairedNats] | None = None, chat: Sequence[PairedNats] | None = None, **values: Any
) -> Measurements:
    return Measurements(
        decides={
            "plain": windows() if plain is None else plain,
            "chat": windows(seed=2) if chat is None else chat,
            **values.pop("decides", {}),
        },
        **values,
    )


def judged(*args: Any, **values: Any) -> tuple[str, list[str]]:
    decision = decide(measured(*args, **values), LIMITS)
    return decision.outcome, [reason.rule for reason in decision.reasons]


def test_a_sure_gain_in_plain_code_and_in_chat_is_promoted() -> None:
    assert judged() == ("promoted", [])


def test_a_gain_in_chat_alone_is_form() -> None:
    assert judged(windows(0)) == ("rejected", ["gain-plain"])
    assert judged(windows(-0.1)) == ("rejected", ["gain-plain", "language-plain"])
    assert judged(chat=windows(0, seed=2)) == ("rejected", ["gain-chat"])


def test_a_gain_that_chance_explains_is_none() -> None:
    assert judged(windows(0.02, spread=0.2)) == ("rejected", ["gain-plain"])


@given(st.integers(0, 2**32))
@settings(deadline=None, max_examples=20)
def test_a_model_never_replaces_its_equal(seed: int) -> None:
    equal = [replace(one, candidate=one.current) for one in windows(seed=seed)]
    assert judged(equal, equal) == ("rejected", ["gain-plain", "gain-chat"])


@pytest.mark.parametrize("nats", [math.nan, math.inf, -math.inf])
def test_what_is_no_number_is_not_promoted(nats: float) -> None:
    odd = [replace(windows()[0], candidate=nats), *windows()[1:]]
    assert judged(odd) == ("rejected", ["gain-plain"])


@pytest.mark.parametrize(("groups", "per_group"), [(19, 20), (20, 9), (1, 500), (0, 0)])
def test_too_little_to_measure_on_waits_however_good_or_bad_it_looks(groups: int, per_group: int) -> None:
    for gain in (0.1, -0.1):
        few = windows(gain, groups=groups, per_group=per_group)
        outcome, rules = judged(few, few)
        assert outcome == "waits"
        assert set(rules) == {"held-out"}


def test_just_enough_is_enough() -> None:
    enough = windows(groups=20, per_group=10)
    assert judged(enough, enough) == ("promoted", [])


def test_too_few_windows_in_one_measure_wait() -> None:
    decision = decide(measured(chat=windows(groups=12)), LIMITS)
    assert decision.outcome == "waits"
    assert [reason.detail for reason in decision.reasons] == [
        "chat has 12 groups and 120 windows; at least 20 groups and 200 windows are needed"
    ]


def test_one_language_that_is_forgotten_outweighs_the_others() -> None:
    forgotten = windows(-0.05, groups=5, per_group=4, language="Go")
    assert judged([*windows(0.2), *forgotten]) == ("rejected", ["language-plain"])


def test_a_language_of_few_files_has_no_say() -> None:
    assert judged([*windows(0.2), *windows(-0.05, groups=5, per_group=3, language="Go")]) == ("promoted", [])


def test_a_language_that_is_a_little_worse_or_not_surely_worse_is_let_pass() -> None:
    little = windows(-0.015, spread=0.001, groups=5, per_group=4, language="Go")
    unsure = windows(-0.05, spread=0.2, groups=5, per_group=4, language="Go", seed=4)
    assert -1 < fmean(1 - one.candidate / one.current for one in unsure) < -0.02
    assert judged([*windows(0.2), *little]) == ("promoted", [])
    assert judged([*windows(0.2), *unsure]) == ("promoted", [])


def test_what_was_learned_first_must_stay() -> None:
    assert judged(old_batches=windows(-0.05)) == ("rejected", ["old-batches"])
    assert judged(old_batches=windows(-0.01, spread=0.001)) == ("promoted", [])
    assert judged(old_batches=windows(0.05)) == ("promoted", [])


def test_tests_may_be_lost_as_far_as_chance_does() -> None:
    """Of eight tests on which the models differ, one may be gained for seven lost, but not none for eight."""
    assert judged(anchors={"human-eval": Passes(both=60, lost=7, gained=1)}) == ("promoted", [])
    assert judged(anchors={"human-eval": Passes(both=60, lost=8)}) == ("rejected", ["anchor-human-eval"])
    assert judged(anchors={"human-eval": Passes(both=60, gained=8)}) == ("promoted", [])


def test_what_only_reports_decides_nothing_and_is_shown() -> None:
    worse = windows(-0.5)
    decision = decide(
        measured(decides={"infill": worse}, reports={("plain", "reports"): worse, ("plain", "young"): worse}), LIMITS
    )
    assert decision.outcome == "promoted"
    assert [(row.measure, row.over) for row in decision.table] == [
        ("plain", "all"),
        ("chat", "all"),
        ("infill", "all"),
        ("plain", "Python"),
        ("chat", "Python"),
        ("plain", "reports"),
        ("plain", "young"),
    ]
    assert decision.table[5].gain.gain == pytest.approx(-0.5, abs=0.03)


def test_reasons_give_the_figures() -> None:
    [reason] = decide(measured(windows(0, spread=0)), LIMITS).reasons
    assert reason.detail == (
        "a gain is not sure: 1.0000 to 1.0000 bits per byte, a gain of +0.0000 (+0.0000 to +0.0000) "
        "over 24 groups and 240 windows"
    )


def test_lower_limits_let_fewer_groups_decide_but_never_one() -> None:
    low = Limits(min_groups=1, min_windows=1)

    def decided(groups: int) -> Decision:
        few = windows(groups=groups, per_group=1, spread=0.001)
        return decide(measured(few, few), low)

    assert decided(3).outcome == "promoted"
    assert decided(1).outcome == "rejected"


def test_the_order_of_windows_does_not_matter() -> None:
    shuffled = windows(0.01, spread=0.05)
    expected = decide(measured(shuffled), LIMITS)
    random.Random(3).shuffle(shuffled)
    assert decide(measured(shuffled), LIMITS) == expected
