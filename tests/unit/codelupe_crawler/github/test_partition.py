"""Parts of a query are disjoint, lose nothing and grow ever smaller; groups of them take the fewest pages."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import pairwise, product
from math import ceil

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from codelupe_crawler.github.partition import (
    MOST_CHARACTERS,
    MOST_RESULTS,
    PAGE,
    Part,
    grouped,
    helps_little,
    joined,
    parts_of,
    ways_to_part,
)
from tests.simulated_github.search import parse

FIRST = int(datetime(2008, 1, 1, tzinfo=UTC).timestamp())
LAST = int(datetime(2026, 11, 30, tzinfo=UTC).timestamp())
LARGEST = 2**31 - 1
GATE = "stars:>=10 forks:>=3 archived:false mirror:false template:false"
AXES = ("created", "pushed", "size", "stars", "forks")


def text(second: int) -> str:
    return datetime.fromtimestamp(second, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def times(axis: str, first: int, last: int) -> str:
    return f"{axis}:{text(first)}..{text(last)}"


def ranges(query: str) -> dict[str, tuple[int, int]]:
    """What the search understands, by axis; an axis named twice would be a mistake."""
    found: dict[str, tuple[int, int]] = {}
    for name, low, high in parse(query).ranges:
        assert name not in found, query
        found[name] = (max(0, int(low)) if low > 0 else 0, min(LARGEST, int(min(high, LARGEST))))
    return found


@dataclass(frozen=True)
class Query:
    text: str
    number: int


@st.composite
def queries(draw: st.DrawFn) -> Query:
    first = draw(st.integers(FIRST, LAST))
    last = draw(st.integers(first, LAST) | st.just(first))
    numbers = {}
    for name in ("size", "stars", "forks"):
        low = draw(st.integers(0, 5) | st.integers(0, 400_000))
        high = draw(st.integers(low, low + 3) | st.integers(low, LARGEST))
        written = (f"{low}..{high}", f"{low}..*", f"*..{high}", f">={low}", f">{low}", f"<={high}", f"{low}")
        numbers[name] = f" {name}:{draw(st.sampled_from(written))}" if draw(st.booleans()) else ""
    words = draw(st.sampled_from(["language:Go ", 'language:"Jupyter Notebook" ', ""]))
    axis = draw(st.sampled_from(["created", "pushed"]))
    span = times(axis, first, last)
    return Query(f"{words}{span}{''.join(numbers.values())} mirror:false", draw(st.integers(1, 60)))


def differing(parts: list[str]) -> str:
    """The one axis along which they differ."""
    names = {name for one, other in pairwise(map(ranges, parts)) for name in AXES if one.get(name) != other.get(name)}
    assert len(names) == 1
    return names.pop()


@given(queries())
def test_parts_are_disjoint_cover_all_and_are_smaller(query: Query) -> None:
    parts = parts_of(query.text, query.number)
    if len(parts) == 1:
        assert parts == [query.text]
        assert all(low == high for low, high in ranges(query.text).values())
    for way in ways_to_part(query.text, query.number):
        assert_parted(query, way)


@given(queries())
def test_each_way_to_part_is_by_another_range_the_first_by_the_usual_one(query: Query) -> None:
    ways = list(ways_to_part(query.text, query.number))
    assert ways[:1] == [parts_of(query.text, query.number)][: len(ways)]
    axes = [differing(way) for way in ways]
    assert axes == [axis for axis in AXES if axis in axes]


def assert_parted(query: Query, parts: list[str]) -> None:
    assert 2 <= len(parts) <= max(2, query.number)
    assert len(set(parts)) == len(parts)
    axis, whole = differing(parts), ranges(query.text)
    spans = [ranges(part)[axis] for part in parts]
    assert (spans[0][0], spans[-1][1]) == whole.get(axis, (0, LARGEST))
    assert all(low <= high for low, high in spans)
    assert all(after[0] == before[1] + 1 for before, after in pairwise(spans))
    for part in parts:
        assert {name: span for name, span in ranges(part).items() if name != axis} == {
            name: span for name, span in whole.items() if name != axis
        }


@settings(max_examples=30)
@given(queries(), st.randoms(use_true_random=False))
def test_parting_a_part_again_and_again_comes_to_an_end(query: Query, random: object) -> None:
    asked, steps = query.text, 0
    while len(parts := parts_of(asked, 50)) > 1:
        asked = random.choice(parts)  # type: ignore[attr-defined]
        steps += 1
        assert len(asked) <= MOST_CHARACTERS
        assert steps <= 60
    assert all(low == high for low, high in ranges(asked).values())


def test_one_second_that_holds_too_much_is_parted_by_size_then_stars_then_forks() -> None:
    asked, axes = f"language:Python {times('created', LAST, LAST)} {GATE}", []
    while len(parts := parts_of(asked, 50)) > 1:
        axis = differing(parts)
        axes += [] if axis in axes else [axis]
        asked = parts[0]
    assert axes == ["size", "stars", "forks"]
    assert ranges(asked)["stars"] == (10, 10)


def test_both_ends_of_a_range_belong_to_it() -> None:
    parts = parts_of(f"{times('created', FIRST, FIRST + 3)} {GATE}", 2)
    assert parts == [f"{times('created', FIRST, FIRST + 1)} {GATE}", f"{times('created', FIRST + 2, FIRST + 3)} {GATE}"]


@pytest.mark.parametrize("number", [2, 3, 50])
def test_two_of_anything_can_be_parted(number: int) -> None:
    for query in ("size:5..6", "size:5 stars:0..1", f"stars:7 size:3..3 {times('pushed', FIRST, FIRST)} forks:8..9"):
        assert len(parts_of(query, number)) == 2


def test_a_qualifier_that_is_left_out_is_no_axis() -> None:
    query = f"-size:5..9 {times('created', FIRST, FIRST)} stars:3 forks:3"
    parts = parts_of(query, 4)
    assert all(part.startswith(query) for part in parts)
    assert differing(parts) == "size"


def test_a_query_that_would_grow_too_long_is_left_whole() -> None:
    query = f"{times('created', FIRST, FIRST)} {GATE} {'x' * 125}"
    assert len(query) < MOST_CHARACTERS
    assert parts_of(query, 50) == [query]


# --- groups ---


def cells(totals: list[int | None]) -> list[Part]:
    """A part of one minute for each total."""
    return [
        Part(f"language:Go {times('created', FIRST + 60 * place, FIRST + 60 * place + 59)} {GATE}", total)
        for place, total in enumerate(totals)
    ]


def places(group: Part) -> range:
    low, high = ranges(group.query)["created"]
    assert (low - FIRST) % 60 == 0
    assert (high + 1 - FIRST) % 60 == 0
    return range((low - FIRST) // 60, (high + 1 - FIRST) // 60)


TOTALS = st.lists(
    st.none() | st.just(0) | st.integers(0, 150) | st.integers(0, 1100) | st.integers(0, 9000), min_size=1, max_size=50
)


@given(TOTALS)
def test_each_part_is_in_exactly_one_group(totals: list[int | None]) -> None:
    """Also those that count nothing: more may be there by the time it is asked for, or was not counted."""
    groups = grouped(cells(totals))
    inside = [place for group in groups for place in places(group)]
    assert inside == ([] if set(totals) == {0} else list(range(len(totals))))


@given(TOTALS)
def test_what_has_nothing_is_a_group_only_beside_one_that_has_all(totals: list[int | None]) -> None:
    groups = grouped(cells(totals))
    empty = [group for group in groups if {totals[place] for place in places(group)} == {0}]
    assert bool(empty) == helps_little(groups)
    assert not empty or len(groups) - len(empty) == 1


@given(TOTALS)
def test_groups_are_small_enough_or_parted_again(totals: list[int | None]) -> None:
    whole = joined(cells(totals)[0].query, cells(totals)[-1].query)
    for group in grouped(cells(totals)):
        held = [totals[place] for place in places(group)]
        if group.total is None:
            assert None in held or sum(filter(None, held)) > MOST_RESULTS - PAGE
            assert len(totals) == 1 or group.query != whole
        else:
            assert group.total == sum(filter(None, held)) <= MOST_RESULTS


@given(TOTALS.filter(lambda totals: len(totals) > 1))
def test_what_is_parted_again_is_smaller_than_what_it_was_parted_from(totals: list[int | None]) -> None:
    for group in grouped(cells(totals)):
        assert group.total is not None or len(places(group)) < len(totals)


def pages(totals: list[int], ends: list[int]) -> int:
    """As planned: a group may have one more by the time it is asked for."""
    sums = [sum(totals[begin:end]) for begin, end in pairwise([0, *ends])]
    return sum(ceil((total + 1) / PAGE) for total in sums if total) if max(sums) <= 990 else 10**9


@settings(max_examples=60)
@given(st.lists(st.integers(1, 500), min_size=1, max_size=9).filter(lambda totals: sum(totals) <= 6000))
def test_groups_take_the_fewest_pages_that_there_can_be(totals: list[int]) -> None:
    groups = grouped(cells(list(totals)))
    cuts = product([False, True], repeat=len(totals) - 1)
    ends = ([place + 1 for place, cut in enumerate(one) if cut] + [len(totals)] for one in cuts)
    assert pages(totals, [places(group).stop for group in groups]) == min(pages(totals, one) for one in ends)


def test_what_has_nothing_needs_no_request() -> None:
    assert grouped(cells([0, 0, 0])) == []


def test_parts_without_a_result_go_with_a_neighbour() -> None:
    [group] = grouped(cells([0, 40, 0, 0, 50, 0]))
    assert (group.total, places(group)) == (90, range(6))


@pytest.mark.parametrize(
    ("totals", "groups"),
    [
        ([2000, 0, 0, 3000], [range(3), range(3, 4)]),
        ([0, 2000, 0, 995, 0], [range(3), range(3, 5)]),
        ([0, 2000, 0, 5, 0, 3000, 0], [range(2), range(2, 5), range(5, 7)]),
        ([0, 7000, 0, 0, 7000, 0], [range(4), range(4, 6)]),
        ([0, 0, 2000, 0], [range(2), range(2, 3), range(3, 4)]),
        ([None, 0], [range(1), range(1, 2)]),
        ([0, 995, 0], [range(3)]),
    ],
)
def test_parts_without_a_result_beside_what_is_large_are_asked_for_too(
    totals: list[int | None], groups: list[range]
) -> None:
    assert [places(group) for group in grouped(cells(totals))] == groups


@pytest.mark.parametrize("axis", ["size", "stars", "forks"])
def test_parts_of_each_axis_are_joined_to_the_whole(axis: str) -> None:
    second = times("created", FIRST, FIRST)
    whole = {"size": second, "stars": f"{second} size:1 stars:>=10", "forks": f"{second} size:1 stars:1 forks:>=3"}[
        axis
    ]
    parts = parts_of(whole, 7)
    assert differing(parts) == axis
    assert {axis: (0, LARGEST)} | ranges(whole) == ranges(joined(parts[0], parts[-1]))
    for first, last in ((0, 2), (1, 6), (3, 5)):
        span = ranges(joined(parts[first], parts[last]))[axis]
        assert span == (ranges(parts[first])[axis][0], ranges(parts[last])[axis][1])
