"""Medians, percentiles and ratios of measurements."""

from __future__ import annotations

import pytest

from benchmarks.eventlog.figures import Latency, Throughput, percentile, ratio, typical


def test_one_slow_round_does_not_move_the_typical_throughput() -> None:
    assert typical([Throughput(100), Throughput(3), Throughput(110)]) == Throughput(100)


def test_each_figure_of_a_latency_has_its_own_median() -> None:
    rounds = [Latency(1.0, 9.0), Latency(3.0, 5.0), Latency(2.0, 70.0)]
    assert typical(rounds) == Latency(2.0, 9.0)


@pytest.mark.parametrize(("percent", "expected"), [(50, 50), (99, 99), (100, 100), (0, 1)])
def test_a_percentile_is_one_of_the_values(percent: float, expected: float) -> None:
    assert percentile(range(100, 0, -1), percent) == expected


def test_the_99th_percentile_of_few_values_is_the_worst() -> None:
    assert Latency.of([5.0, 1.0, 2.0]) == Latency(2.0, 5.0)


def test_throughputs_compare_by_rate_and_latencies_by_their_medians() -> None:
    assert ratio(Throughput(50), Throughput(200)) == 0.25
    assert ratio(Latency(3.0, 8.0), Latency(2.0, 80.0)) == 1.5


def test_a_throughput_and_a_latency_do_not_compare() -> None:
    with pytest.raises(TypeError, match="do not compare"):
        ratio(Throughput(1), Latency(1, 1))
