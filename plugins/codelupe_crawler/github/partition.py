"""Parting what a search finds into slices of at most a thousand, which is as much as GitHub gives out.

A query is parted along one of its ranges: ``created:`` or ``pushed:``, and where one second holds too much ``size:``,
``stars:`` and ``forks:``. GitHub's ranges include both ends, so parts never share one.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
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
_TIMES = re.compile(r"(?<![-\w])(created|pushed):([\d-]+T[\d:]+Z)\.\.([\d-]+T[\d:]+Z)")
_NUMBERS = {
    name: re.compile(rf"(?<![-\w]){name}:(?:(\d+|\*)\.\.(\d+|\*)|(>=|>|<=|<|)(\d+))(?=\s|$)")
    for name in ("size", "stars", "forks")
}
"""Where one second holds too much, it is parted by these, one after another."""


@dataclass(frozen=True)
class Part:
    """A part of a query, and how many results it has; None if that could not be told."""

    query: str
    total: int | None


def parts_of(query: str, number: int) -> list[str]:
    """At most so many queries, two at least, that find what this one does, each of it once.

    Only itself where it cannot be parted.
    """
    return next(ways_to_part(query, number), [query])


def ways_to_part(query: str, number: int) -> Iterator[list[str]]:
    """The ways to do so, by one of its ranges each: the usual one, then those for where it helps little."""
    number = max(2, number)
    for parts in (_by_time(query, number), *(_by_number(query, name, number) for name in _NUMBERS)):
        if len(parts) > 1 and all(len(part) <= MOST_CHARACTERS for part in parts):
            yield parts


def helps_little(groups: Sequence[Part]) -> bool:
    """Whether all that is to be parted again lies in one group, and nothing in the others."""
    full = [group for group in groups if group.total != 0]
    return len(groups) > len(full) == 1 and full[0].total is None


def grouped(parts: Sequence[Part]) -> list[Part]:
    """Neighbouring parts put together so that asking for them takes few pages; none if nothing is in any.

    The groups cover all that the parts do, for some may be there by the time it is asked for, or was not counted. What
    has a total of at most :data:`MOST_RESULTS` can be asked for; what has more, or an unknown number, is to be parted
    again. Each group is as little under full pages as the parts allow: the fewest pages, found from the front by the
    best end of each group (dynamic programming).
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
    groups += _closed(run, is_coarse=is_coarse)
    fewest = _without_empty(groups)
    is_parted_again_whole = len(fewest) == 1 and fewest[0].total is None
    return groups if is_parted_again_whole else fewest


def _without_empty(groups: Sequence[Part]) -> list[Part]:
    """Those without a result go with the one before, the first with the one after."""
    fewest: list[Part] = []
    for group in groups:
        if fewest and 0 in (group.total, fewest[-1].total):
            total = fewest[-1].total if group.total == 0 else group.total
            fewest[-1] = Part(joined(fewest[-1].query, group.query), total)
        else:
            fewest.append(group)
    return fewest


def _closed(run: Sequence[Part], *, is_coarse: bool) -> list[Part]:
    if not run:
        return []
    totals = [part.total or 0 for part in run]
    ends = _coarse_ends(totals) if is_coarse else _best_ends(totals)
    groups = []
    for begin, end in pairwise([0, *ends]):
        total = sum(totals[begin:end])
        groups.append(Part(joined(run[begin].query, run[end - 1].query), total if total <= _FULL else None))
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
    ours, theirs = _TIMES.search(first), _TIMES.search(last)
    if ours and theirs and ours.group() != theirs.group():
        return _replaced(first, ours, f"{ours.group(1)}:{ours.group(2)}..{theirs.group(3)}")
    for name, pattern in _NUMBERS.items():
        ours, theirs = pattern.search(first), pattern.search(last)
        if ours and theirs and ours.group() != theirs.group():
            return _replaced(first, ours, f"{name}:{_range_of(ours)[0]}..{_range_of(theirs)[1]}")
    return first


def _by_time(query: str, number: int) -> list[str]:
    found = _TIMES.search(query)
    if found is None:
        return [query]
    first, last = (int(datetime.strptime(text, _TIME).replace(tzinfo=UTC).timestamp()) for text in found.group(2, 3))
    ranges = _time_ranges(first, last, number)
    return [_replaced(query, found, f"{found.group(1)}:{_time(low)}..{_time(high)}") for low, high in ranges]


def _by_number(query: str, name: str, number: int) -> list[str]:
    """Sizes and counts are spread over many powers of ten, so parts grow by the same factor."""
    found = _NUMBERS[name].search(query)
    ranges = _growing_ranges(*(_range_of(found) if found else (0, _LARGEST)), number)
    texts = [f"{name}:{low}..{high}" for low, high in ranges]
    if len(texts) < 2:
        return [query]
    return [_replaced(query, found, text) if found else f"{query} {text}" for text in texts]


def _replaced(query: str, found: re.Match[str], text: str) -> str:
    return query[: found.start()] + text + query[found.end() :]


def _range_of(found: re.Match[str]) -> tuple[int, int]:
    """Both ends included."""
    low, high, sign, value = found.groups()
    if low is not None:
        return 0 if low == "*" else int(low), _LARGEST if high == "*" else int(high)
    number = int(value)
    return {
        ">=": (number, _LARGEST),
        ">": (number + 1, _LARGEST),
        "<=": (0, number),
        "<": (0, number - 1),
        "": (number, number),
    }[sign]


def _time_ranges(first: int, last: int, number: int) -> list[tuple[int, int]]:
    """Disjoint ranges that cover it, equally wide; over many years later ones are narrower, as more came then."""
    width = max(1, last - first + 1)
    power = 0.5 if width > _MANY_YEARS else 1.0
    edges = {first + round(width * (step / number) ** power) for step in range(number)} | {first + width}
    return [(low, high - 1) for low, high in pairwise(sorted(edges))]


def _growing_ranges(first: int, last: int, number: int) -> list[tuple[int, int]]:
    """Disjoint ranges that cover it, each larger than the one before by about the same factor."""
    width = max(1, last - first + 1)
    edges = sorted({first + ceil(width ** (step / number)) - 1 for step in range(number)} | {first + width})
    return [(low, high - 1) for low, high in pairwise(edges)]


def _time(second: int) -> str:
    return datetime.fromtimestamp(second, UTC).strftime(_TIME)
