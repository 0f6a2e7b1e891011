"""Parting what a search finds into slices of at most a thousand, which is as much as GitHub gives out.

A query is parted along one of its ranges: ``created:`` or ``pushed:``, and where one second holds too much ``size:``
and then ``stars:``. GitHub's ranges include both ends, so parts never share one.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import accumulate, pairwise
from math import ceil

MOST_RESULTS = 1000
"""Of one search; "Search" in the documentation of GitHub's REST API."""
PAGE = 100
MOST_CHARACTERS = 256
"""Of one query."""
COUNTS = 50
"""Searches whose results one GraphQL request counts."""
_REGION = 120 * COUNTS
"""As many results can be parted by one request of counts, into parts that are small enough to fill slices with."""
_FULL = MOST_RESULTS - PAGE // 10
"""As full as a slice is planned: some more may come until it is asked for."""
_MORE = 1
"""So many more than counted are reckoned with, for a page of its own is much for one that came meanwhile."""
_LARGEST = 2**31 - 1
_MANY_YEARS = 5 * 365 * 86_400
_TIME = "%Y-%m-%dT%H:%M:%SZ"
_TIMES = re.compile(r"\b(created|pushed):(\S+?)\.\.(\S+)")
_SIZES = re.compile(r"\bsize:(\d+)\.\.(\d+)")
_STARS = re.compile(r"\bstars:(?:(\d+)\.\.(\d+)|>=(\d+))")


@dataclass(frozen=True)
class Part:
    """A part of a query, and how many results it has; None if that could not be told."""

    query: str
    total: int | None


def parts_of(query: str, number: int) -> list[str]:
    """At most so many queries that find what this one does, each of it once; only itself where it cannot be parted."""
    for axis in (_by_time, _by_size, _by_stars):
        parts = axis(query, number)
        if len(parts) > 1:
            return parts
    return [query]


def grouped(parts: Sequence[Part]) -> list[Part]:
    """Neighbouring parts put together so that asking for them takes few pages.

    What is left with a total of at most :data:`MOST_RESULTS` can be asked for; what has more, or an unknown number, is
    to be parted again. Parts without a result go with a neighbour. Each group is as little under full pages as the
    parts allow: the fewest pages, found from the front by the best end of each group (dynamic programming).
    """
    known = [part.total for part in parts if part.total is not None]
    if sum(known) == 0 and len(known) == len(parts):
        return []
    is_coarse = sum(known) > _REGION
    largest = _REGION if is_coarse else _FULL
    groups: list[Part] = []
    run: list[Part] = []
    for part in parts:
        if part.total is None or part.total > largest:
            groups += _closed(run, is_coarse=is_coarse)
            groups.append(Part(part.query, part.total if (part.total or _REGION) <= MOST_RESULTS else None))
            run = []
        else:
            run.append(part)
    return groups + _closed(run, is_coarse=is_coarse)


def _closed(run: Sequence[Part], *, is_coarse: bool) -> list[Part]:
    totals = [part.total or 0 for part in run]
    if sum(totals) == 0:
        return []
    ends = _coarse_ends(totals) if is_coarse else _best_ends(totals)
    groups = []
    for begin, end in pairwise([0, *ends]):
        total = sum(totals[begin:end])
        if total:
            query = joined(run[begin].query, run[end - 1].query)
            groups.append(Part(query, total if total <= _FULL else None))
    return groups


def _coarse_ends(totals: Sequence[int]) -> list[int]:
    """Where groups end that are parted again, each as large as one request can part well."""
    ends, size = [], 0
    for place, total in enumerate(totals):
        if size and size + total > _REGION:
            ends.append(place)
            size = 0
        size += total
    return [*ends, len(totals)]


def _best_ends(totals: Sequence[int]) -> list[int]:
    """Where groups end that take the fewest pages, and of those the fewest groups."""
    sums = [0, *accumulate(totals)]
    best: list[tuple[int, int]] = [(0, 0)]
    before = [0]
    for end in range(1, len(sums)):
        choices = [
            (best[begin][0] + ceil((sums[end] - sums[begin] + _MORE) / PAGE), best[begin][1] + 1, begin)
            for begin in range(end)
            if sums[end] - sums[begin] <= _FULL
        ]
        pages, groups, begin = min(choices)
        best.append((pages, groups))
        before.append(begin)
    ends, end = [], len(totals)
    while end > 0:
        ends.append(end)
        end = before[end]
    return ends[::-1]


def joined(first: str, last: str) -> str:
    """The query from the beginning of one part to the end of a later one of the same axis."""
    for pattern, low, high in ((_STARS, 1, 2), (_SIZES, 1, 2), (_TIMES, 2, 3)):
        ours, theirs = pattern.search(first), pattern.search(last)
        if ours and theirs and ours.group() != theirs.group():
            name = ours.group().partition(":")[0]
            end = theirs.group(high) or ""
            text = f"{name}:{ours.group(low)}..{end}" if end else f"{name}:>={ours.group(low)}"
            return first[: ours.start()] + text + first[ours.end() :]
    return first


def _by_time(query: str, number: int) -> list[str]:
    found = _TIMES.search(query)
    if found is None:
        return [query]
    first, last = (int(datetime.strptime(text, _TIME).replace(tzinfo=UTC).timestamp()) for text in found.group(2, 3))
    texts = [f"{found.group(1)}:{_time(low)}..{_time(high)}" for low, high in _time_ranges(first, last, number)]
    return [query[: found.start()] + text + query[found.end() :] for text in texts]


def _by_size(query: str, number: int) -> list[str]:
    """In KB; sizes are spread over many powers of ten, so parts grow by the same factor."""
    found = _SIZES.search(query)
    first, last = (int(found.group(1)), int(found.group(2))) if found else (0, _LARGEST)
    ranges = _growing_ranges(first, last, number)
    before, after = (query[: found.start()], query[found.end() :]) if found else (f"{query} ", "")
    return [f"{before}size:{low}..{high}{after}" for low, high in ranges]


def _by_stars(query: str, number: int) -> list[str]:
    found = _STARS.search(query)
    if found is None:
        return [query]
    first = int(found.group(1) or found.group(3))
    last = int(found.group(2) or _LARGEST)
    return [
        f"{query[: found.start()]}stars:{low}..{high}{query[found.end() :]}"
        for low, high in _growing_ranges(first, last, number)
    ]


def _time_ranges(first: int, last: int, number: int) -> list[tuple[int, int]]:
    """Disjoint ranges that cover it, equally wide; over many years later ones are narrower, as more came then."""
    width = last - first + 1
    power = 0.5 if width > _MANY_YEARS else 1.0
    edges = {first + round(width * (step / number) ** power) for step in range(number)} | {first, last + 1}
    return [(low, high - 1) for low, high in pairwise(sorted(edges))]


def _growing_ranges(first: int, last: int, number: int) -> list[tuple[int, int]]:
    """Disjoint ranges that cover it, each larger than the one before by about the same factor."""
    width = last - first + 1
    edges = sorted({first + round(width ** (step / number)) - 1 for step in range(number)} | {first, last + 1})
    return [(low, high - 1) for low, high in pairwise(edges)]


def _time(second: int) -> str:
    return datetime.fromtimestamp(second, UTC).strftime(_TIME)
