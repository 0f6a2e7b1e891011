"""What the crawler's benchmark prints: ratios to plain bisection of the same run."""

from __future__ import annotations

from benchmarks.crawl.__main__ import Result, report
from tests.simulated_github.limits import Violation
from tests.simulated_github.verdict import Verdict
from tests.simulated_github.world import Shape


def verdict(requests: int, *violations: Violation) -> Verdict:
    return Verdict(requests, found=10_000, there=10_100, missed=101, violations=violations)


def test_a_row_compares_with_plain_bisection() -> None:
    row = Result("CodeLupe", "all", verdict(105), {"ann": 0.954, "bob": 1.0}).as_row(verdict(125))
    assert (row["requests per 100"], row["of plain"], row["recall"], row["violations"]) == (1.05, 0.84, 0.99, 0)
    lines = report(7, Shape(repositories=12_000), [row])
    assert lines[1] == "- 12,000 repositories, six languages, seed 7"
    assert lines[-1] == "| CodeLupe | all | 105 | 10,000 | 1.05 | 0.84 | 99.00% | 0 | ann 95.4%, bob 100.0% |"
    assert len({line.count("|") for line in lines[3:]}) == 1
