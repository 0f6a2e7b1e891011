"""What a measurement brings, and what is made of several."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median


@dataclass(frozen=True)
class Throughput:
    events_per_second: float

    def __str__(self) -> str:
        return f"{self.events_per_second:,.0f}/s"


@dataclass(frozen=True)
class Latency:
    p50_ms: float
    p99_ms: float

    @classmethod
    def of(cls, delays_ms: Sequence[float]) -> Latency:
        return cls(percentile(delays_ms, 50), percentile(delays_ms, 99))

    def __str__(self) -> str:
        return f"{self.p50_ms:.2f} / {self.p99_ms:.2f} ms"


Figure = Throughput | Latency


def percentile(values: Sequence[float], percent: float) -> float:
    """The smallest of the values that at least so many percent of them do not exceed."""
    ordered = sorted(values)
    rank = -(-len(ordered) * percent // 100)
    return ordered[max(0, int(rank) - 1)]


def typical(figures: Sequence[Figure]) -> Figure:
    """The median of each figure over several rounds."""
    rates = [one.events_per_second for one in figures if isinstance(one, Throughput)]
    if rates:
        return Throughput(median(rates))
    latencies = [one for one in figures if isinstance(one, Latency)]
    return Latency(median(one.p50_ms for one in latencies), median(one.p99_ms for one in latencies))


def ratio(figure: Figure, reference: Figure) -> float:
    """How many times the reference it is, by events a second or by the median latency."""
    if isinstance(figure, Throughput) and isinstance(reference, Throughput):
        return figure.events_per_second / reference.events_per_second
    if isinstance(figure, Latency) and isinstance(reference, Latency):
        return figure.p50_ms / reference.p50_ms
    raise TypeError("a throughput and a latency do not compare")
