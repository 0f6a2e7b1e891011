from __future__ import annotations

import pytest

from codelupe_scorers.curves import ramp


@pytest.mark.parametrize(("value", "expected"), [(-1, 0), (0, 0), (1, 0.25), (4, 1), (9, 1)])
def test_a_ramp_rises_in_a_straight_line(value: float, expected: float) -> None:
    assert ramp(value, zero=0, one=4) == expected


def test_a_ramp_may_fall() -> None:
    assert [ramp(value, zero=10, one=5) for value in (0, 5, 7.5, 10, 20)] == [1, 1, 0.5, 0, 0]
