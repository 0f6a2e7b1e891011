"""The table and the rows that the benchmark of the event log prints."""

from __future__ import annotations

import pytest

from benchmarks.eventlog.cases import QUICK, Case, cases, cases_by_size
from benchmarks.eventlog.figures import Figure, Latency, Throughput
from benchmarks.eventlog.report import Bar, Figures, json_rows, missed, table


async def measure(_system: object) -> Figure:
    raise AssertionError("nothing is measured here")


APPEND = Case("append", "append", measure, ("ceiling",), (Bar("ours", "ceiling", 0.75),))
HANDLE = Case("handle", "handle", measure, ("ceiling", "peer"), (Bar("ours", "peer", 4),))
DELIVER = Case("deliver", "send", measure, ("ceiling",), (Bar("ours", "ceiling", 1.25),))
FIGURES: Figures = {
    "append": {"ours": Throughput(7500), "ceiling": Throughput(10_000)},
    "handle": {"ours": Throughput(1999), "ceiling": Throughput(4000), "peer": Throughput(500)},
    "deliver": {"ours": Latency(1.25, 7.0), "ceiling": Latency(1.0, 2.0)},
}


def cells(case: Case) -> list[list[str]]:
    return [[cell.strip() for cell in line.split("|")[1:-1]] for line in table([case], FIGURES)[2:]]


def test_each_system_stands_beside_its_ratios_and_its_bar() -> None:
    assert cells(HANDLE) == [
        ["handle", "ours", "1,999/s", "0.50", "4.00", "≥ 4 x peer", "no"],
        ["handle", "ceiling", "4,000/s", "1.00", "8.00", "", ""],
        ["handle", "peer", "500/s", "0.12", "1.00", "", ""],
    ]


def test_a_bar_that_is_just_reached_is_met_for_rates_and_for_latencies() -> None:
    assert cells(APPEND)[0][-2:] == ["≥ 0.75 x ceiling", "yes"]
    assert cells(DELIVER)[0][-2:] == ["≤ 1.25 x ceiling", "yes"]


def test_only_the_bars_that_do_not_hold_are_missed() -> None:
    [line] = missed([APPEND, HANDLE, DELIVER], FIGURES)
    assert line.startswith("handle: ours is 3.998 x peer, not ≥ 4 x peer")


def test_a_latency_above_its_bar_is_missed() -> None:
    slow: Figures = {"deliver": {"ours": Latency(1.3, 1.4), "ceiling": Latency(1.0, 9.0)}}
    assert len(missed([DELIVER], slow)) == 1


def test_a_reference_of_another_case_leaves_its_column_empty() -> None:
    lines = table([APPEND, HANDLE], FIGURES)
    assert lines[2].split("|")[5].strip() == ""
    assert len({len(line) for line in lines}) == 1


def test_a_case_without_figures_has_no_lines() -> None:
    assert len(table([APPEND], {})) == 2
    assert missed([APPEND], {}) == []


def test_the_json_rows_name_case_system_and_figure() -> None:
    rows = json_rows({"append": FIGURES["append"], "deliver": FIGURES["deliver"]})
    assert rows[0] == {"case": "append", "system": "ours", "events_per_second": 7500}
    assert rows[-1] == {"case": "deliver", "system": "ceiling", "p50_ms": 1.0, "p99_ms": 2.0}


def test_every_case_has_a_name_of_its_own_and_a_bar_for_ours() -> None:
    all_of_them = cases(QUICK)
    assert len({case.name for case in all_of_them}) == len(all_of_them)
    assert all(any(bar.system.startswith("ours") for bar in case.bars) for case in all_of_them)


@pytest.mark.parametrize("case", cases_by_size(QUICK, "small", "large"), ids=lambda case: case.name)
def test_the_larger_log_may_cost_a_tenth(case: Case) -> None:
    [bar] = case.bars
    assert (bar.system, bar.against) == ("large", "small")
    if case.name.startswith("latency"):
        assert bar.is_met(Latency(1.09, 5.0), Latency(1.0, 1.0))
        assert not bar.is_met(Latency(1.11, 1.0), Latency(1.0, 1.0))
    else:
        assert bar.is_met(Throughput(91), Throughput(100))
        assert not bar.is_met(Throughput(89), Throughput(100))
