"""The table: every system's figure, its ratios, and whether the bars are met."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Protocol

from benchmarks.eventlog.figures import Figure, Throughput, ratio

Figures = Mapping[str, Mapping[str, Figure]]
"""By case, then by system."""


@dataclass(frozen=True)
class Bar:
    """A ratio that must hold: at least ``limit`` times the reference's events a second, at most times its latency."""

    system: str
    against: str
    limit: float

    def is_met(self, figure: Figure, reference: Figure) -> bool:
        found = ratio(figure, reference)
        return found >= self.limit if isinstance(figure, Throughput) else found <= self.limit

    def describe(self, figure: Figure) -> str:
        return f"{'≥' if isinstance(figure, Throughput) else '≤'} {self.limit:.3g} x {self.against}"


class Comparison(Protocol):
    """One case of the table: what its figures are compared with, and the bars."""

    @property
    def name(self) -> str: ...
    @property
    def references(self) -> tuple[str, ...]: ...
    @property
    def bars(self) -> tuple[Bar, ...]: ...


def json_rows(figures: Figures) -> list[dict[str, Any]]:
    return [
        {"case": case, "system": system, **asdict(figure)}
        for case, by_system in figures.items()
        for system, figure in by_system.items()
    ]


def table(comparisons: Sequence[Comparison], figures: Figures) -> list[str]:
    """Lines of Markdown, aligned so that they can be read as they are."""
    references = tuple(dict.fromkeys(name for one in comparisons for name in one.references))
    header = ("case", "system", "events/s or p50 / p99", *(f"x {name}" for name in references), "bar", "met")
    rows = [row for one in comparisons for row in _rows(one, figures.get(one.name, {}), references)]
    widths = [max(map(len, column)) for column in zip(header, *rows, strict=True)]
    rule = tuple("-" * width for width in widths)
    return ["| " + " | ".join(map(str.ljust, row, widths)) + " |" for row in (header, rule, *rows)]


def missed(comparisons: Sequence[Comparison], figures: Figures) -> list[str]:
    """The bars that do not hold, in words."""
    return [
        f"{one.name}: {bar.system} is {ratio(by_system[bar.system], by_system[bar.against]):.3f} x {bar.against}, "
        f"not {bar.describe(by_system[bar.system])}"
        for one in comparisons
        if (by_system := figures.get(one.name))
        for bar in one.bars
        if not bar.is_met(by_system[bar.system], by_system[bar.against])
    ]


def _rows(comparison: Comparison, figures: Mapping[str, Figure], references: Sequence[str]) -> list[tuple[str, ...]]:
    return [
        (
            comparison.name,
            system,
            str(figure),
            *(_ratio(figure, figures.get(name)) if name in comparison.references else "" for name in references),
            *_verdict([bar for bar in comparison.bars if bar.system == system], figures),
        )
        for system, figure in figures.items()
    ]


def _ratio(figure: Figure, reference: Figure | None) -> str:
    return "" if reference is None else f"{ratio(figure, reference):.2f}"


def _verdict(bars: Sequence[Bar], figures: Mapping[str, Figure]) -> tuple[str, str]:
    met = all(bar.is_met(figures[bar.system], figures[bar.against]) for bar in bars)
    described = ", ".join(bar.describe(figures[bar.system]) for bar in bars)
    return described, "" if not bars else "yes" if met else "no"
