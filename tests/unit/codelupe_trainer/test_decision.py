from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from codelupe_trainer.decision import objections
from codelupe_trainer.jobs import Compared, Measured
from codelupe_trainer.settings import GateSettings

GATE = GateSettings(min_improvement=0.01, max_similarity_drop=0.02)


def measured(loss: float, similarity: float = 0.5) -> Measured:
    return Measured(loss=loss, exact_match=0.1, edit_similarity=similarity, syntax_valid=0.5)


def compared(current: Measured | None, candidate: Measured | None) -> Compared:
    return Compared(samples=8, generations=2, current=current, candidate=candidate)


def rules(current: Measured | None, candidate: Measured | None) -> list[str]:
    return [reason.rule for reason in objections(compared(current, candidate), GATE)]


def test_a_clear_improvement_is_promoted() -> None:
    assert rules(measured(2.0, 0.5), measured(1.9, 0.5)) == []


@pytest.mark.parametrize("loss", [1.995, 2.0, 2.1, math.nan, math.inf])
def test_a_loss_that_falls_too_little_is_no_improvement(loss: float) -> None:
    assert rules(measured(2.0), measured(loss)) == ["held-out-loss"]


def test_worse_code_outweighs_a_better_loss() -> None:
    assert rules(measured(2.0, 0.5), measured(1.5, 0.47)) == ["edit-similarity"]
    assert rules(measured(2.0, 0.5), measured(1.5, 0.49)) == []


def test_all_objections_are_given_with_the_figures() -> None:
    loss, similarity = objections(compared(measured(2.0, 0.5), measured(2.0, 0.1)), GATE)
    assert "2.0000" in loss.detail
    assert "0.01" in loss.detail
    assert "0.100" in similarity.detail
    assert "0.500" in similarity.detail


def test_without_samples_nothing_is_promoted() -> None:
    [reason] = objections(Compared(), GATE)
    assert reason.detail == "no held-out repository to compare on"


@given(st.floats(0, 10), st.floats(0, 1))
def test_a_model_never_replaces_its_equal(loss: float, similarity: float) -> None:
    assert "held-out-loss" in rules(measured(loss, similarity), measured(loss, similarity))
