"""Search of the simulated GitHub, as GitHub documents it and as people found it to be."""

from __future__ import annotations

from datetime import UTC, datetime

import numpy as np
import pytest

from tests.simulated_github.client import Client, content, simulated
from tests.simulated_github.faults import Faults
from tests.simulated_github.search import parse, search, select
from tests.simulated_github.world import Shape, World, words_of

ANY = "stars:>=0"


def time(seconds: float) -> str:
    return datetime.fromtimestamp(int(seconds), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def count(world: World, query: str) -> int:
    return search(world, parse(query)).total


def ids(page: dict[str, list[dict[str, int]]]) -> list[int]:
    return [item["id"] for item in page["items"]]


def all_pages(client: Client, query: str, **options: object) -> list[int]:
    return [
        number
        for page in range(1, 11)
        for number in ids(client.search(query, page=page, per_page=100, **options))
    ]  # fmt: skip


@pytest.fixture(scope="module")
def world() -> World:
    return simulated().github.world


def test_ranges_include_both_ends_so_halves_that_share_a_second_count_it_twice(world: World) -> None:
    """seart-group/ghs: closed(low, middle) and closed(middle, high)."""
    created = world.created[[500, 1_000, 2_000]]
    low, middle, high = (time(one) for one in created)
    after = time(created[1] + 1)
    at_middle = count(world, f"created:{middle}..{middle} {ANY}")
    whole = count(world, f"created:{low}..{high} {ANY}")
    assert at_middle >= 1
    assert count(world, f"created:{low}..{middle} {ANY}") + count(world, f"created:{after}..{high} {ANY}") == whole
    assert (
        count(world, f"created:{low}..{middle} {ANY}") + count(world, f"created:{middle}..{high} {ANY}")
        == whole + at_middle
    )


@pytest.mark.parametrize(
    ("one", "same"),
    [
        ("created:2020-05-01..2020-05-31", "created:2020-05-01T00:00:00Z..2020-05-31T23:59:59Z"),
        ("created:2024-05-01", "created:2024-05-01T00:00:00Z..2024-05-01T23:59:59Z"),
        ("created:2020-05-01T02:00:00+02:00..*", "created:>=2020-05-01T00:00:00Z"),
        ("created:<2020-05-01", "created:*..2020-04-30T23:59:59Z"),
        ("created:>2020-04-30", "created:2020-05-01..*"),
        ("stars:>10", "stars:11..*"),
        ("stars:<20", "stars:*..19"),
        ("stars:12", "stars:12..12"),
        ("-stars:10..20 stars:>=0", "stars:>20"),
    ],
)
def test_two_ways_to_write_the_same_range(world: World, one: str, same: str) -> None:
    exclude = " -stars:<10" if one.startswith("-") else ""
    assert count(world, one + exclude) == count(world, same + exclude) > 0
    if not exclude:
        assert parse(one).ranges == parse(same).ranges


def test_forks_are_left_out_unless_they_are_asked_for(world: World) -> None:
    usual, too, only = (count(world, f"{ANY}{more}") for more in ("", " fork:true", " fork:only"))
    assert only > 0
    assert usual + only == too


def test_the_gate_is_kept_by_the_server(world: World) -> None:
    found = select(world, parse("language:Go stars:>=10 forks:>=3 archived:false mirror:false template:false"))
    assert len(found) > 100
    assert world.stars[found].min() >= 10
    assert world.forks[found].min() >= 3
    assert not (world.archived | world.mirror | world.template | world.fork)[found].any()
    assert set(world.language[found]) == {3}


@pytest.mark.parametrize("word", ["fastapi", "react", "machine", "rocket", "17", "nothing-of-the-kind"])
def test_words_match_name_description_and_topics(word: str) -> None:
    world = simulated().github.world
    for index in range(0, 200, 2):
        world.rename(index, f"o/react-{index}")
    expected = [index for index in range(len(world.id)) if set(words_of(word)) <= set(words_of(world.text_of(index)))]
    found = select(world, parse(f"{word} fork:true"))
    there = np.searchsorted(world.created, world.now, side="right")
    assert list(found) == [index for index in expected if index < there]


def test_phrases_operators_and_exclusions(world: World) -> None:
    react, django = set(select(world, parse("react"))), set(select(world, parse("django")))
    assert set(select(world, parse("react django"))) == react & django
    assert set(select(world, parse("react AND django"))) == react & django
    assert set(select(world, parse("react OR django"))) == react | django
    assert set(select(world, parse("react NOT django"))) == set(select(world, parse("react -django"))) == react - django
    phrase = select(world, parse('"machine learning"'))
    assert len(phrase) > 100
    assert all("machine learning" in world.text_of(int(index)).replace("-", " ") for index in phrase)
    assert {"web"} <= set(world.topics_of(int(select(world, parse("topic:web"))[0])))
    assert not any("web" in world.topics_of(int(index)) for index in select(world, parse("react -topic:web")))


@pytest.mark.parametrize(
    ("query", "options"),
    [
        ("stars:>=10 " + "x" * 246, {}),
        ("a OR b OR c OR d OR e OR f OR g", {}),
        ("stars:many", {}),
        ("colour:red", {}),
        ("updated:2020-01-01..2021-01-01", {}),
        ("NOT stars:>=10", {}),
        ("", {}),
        ("stars:>=10", {"sort": "banana"}),
        ("stars:>=10", {"order": "up"}),
        ("stars:>=10", {"page": 11, "per_page": 100}),
        ("stars:>=10", {"page": 11, "per_page": 1_000}),
        ("stars:>=10", {"page": 35, "per_page": 30}),
    ],
)
def test_what_is_refused(query: str, options: dict[str, object]) -> None:
    """kowainik/issue-wanted#127: page 11; a query of 257 characters."""
    assert simulated().get("/search/repositories", q=query, **options).status == 422


def test_the_longest_query_and_the_last_page_are_answered() -> None:
    client = simulated()
    assert client.search("stars:>=10 " + "x" * 245)["total_count"] == 0
    assert len(client.search(ANY, page=10, per_page=100)["items"]) == 100
    assert len(client.search(ANY, page=34, per_page=30)["items"]) == 10
    assert client.search("stars:>=300000", page=3)["items"] == []


def test_a_page_holds_a_hundred_at_most_and_thirty_by_default() -> None:
    client = simulated()
    assert len(client.search(ANY, per_page=1_000)["items"]) == 100
    assert len(client.search(ANY, per_page="abc")["items"]) == 30
    answer = client.get("/search/repositories", q=ANY)
    assert len(content(answer)["items"]) == 30
    assert 'page=2>; rel="next"' in answer.headers["link"]


def test_totals_are_exact_up_to_a_thousand_and_guesses_beyond() -> None:
    client = simulated()
    world = client.github.world
    slices = {query: count(world, query) for query in (ANY, "language:Rust " + ANY)}
    assert slices[ANY] > 1_000 > slices["language:Rust " + ANY]
    told = {query: {client.search(query)["total_count"] for _ in range(5)} for query in slices}
    assert told["language:Rust " + ANY] == {slices["language:Rust " + ANY]}
    assert len(told[ANY]) > 1
    assert all(abs(total / slices[ANY] - 1) <= 0.03 for total in told[ANY])


def test_without_a_sort_pages_repeat_and_miss_items() -> None:
    """PyGithub/PyGithub#1748: 950 results, up to half of them duplicates."""
    client = simulated(shape=Shape(repositories=1_100, largest_burst=1))
    total = count(client.github.world, ANY)
    assert 900 < total < 1_100
    unsorted, by_stars = all_pages(client, ANY), all_pages(client, ANY, sort="updated")
    assert len(set(unsorted)) < 0.8 * len(unsorted)
    assert len(set(by_stars)) == len(by_stars) == min(total, 1_000)


def test_ties_may_come_in_another_order_at_each_request() -> None:
    client = simulated(Faults(shuffles_ties=True), shape=Shape(repositories=900, largest_burst=1))
    by_stars = all_pages(client, ANY, sort="stars")
    assert len(set(by_stars)) < len(by_stars)


@pytest.mark.parametrize(("sort", "column"), [("stars", "stars"), ("forks", "forks"), ("updated", "pushed")])
def test_sorted_both_ways(sort: str, column: str) -> None:
    client = simulated()
    world = client.github.world
    for order, sign in (("asc", 1), ("desc", -1)):
        found = ids(client.search(ANY, sort=sort, order=order, per_page=100))
        values = [sign * getattr(world, column)[world.index_of(number)] for number in found]
        assert values == sorted(values)


def test_some_are_shown_only_to_those_who_ask_by_name() -> None:
    """ossf/criticality_score#33: spack/spack never in results by language."""
    client = simulated(shape=Shape(repositories=2_000, invisible=0.1))
    world = client.github.world
    hidden = next(int(index) for index in np.flatnonzero(world.invisible & ~world.fork) if world.stars[index] > 50)
    language = f"language:Python stars:{world.stars[hidden]}"
    assert int(world.id[hidden]) not in ids(client.search(language, per_page=100))
    assert ids(client.search(f"repo:{world.name_of(hidden)}")) == [world.id[hidden]]
    assert count(world, ANY) + (world.invisible[select(world, parse(ANY))]).sum() == len(select(world, parse(ANY)))


def test_some_may_be_counted_and_never_shown() -> None:
    client = simulated(shape=Shape(repositories=900, largest_burst=1, counted=0.1))
    total = client.search(ANY)["total_count"]
    assert 0.8 * total < len(set(all_pages(client, ANY, sort="updated"))) < 0.95 * total


def test_more_than_a_thousand_in_one_second_are_cut_off() -> None:
    """yegor256/cam#186."""
    client = simulated(shape=Shape(repositories=20_000))
    seconds, counts = np.unique(client.github.world.created, return_counts=True)
    second = time(seconds[counts.argmax()])
    query = f"language:Python created:{second}..{second}"
    assert client.search(query)["total_count"] > 1_000
    assert len(all_pages(client, query, sort="updated")) == 1_000


def test_what_moves_during_the_crawl_moves_in_the_pages() -> None:
    client = simulated()
    world = client.github.world
    last = ids(client.search(ANY, sort="updated", order="asc"))[0]
    index = world.index_of(last)
    assert index is not None
    world.change(index, "pushed")
    assert ids(client.search(ANY, sort="updated", order="desc"))[0] == last
    world.change(index, "deleted")
    assert last not in ids(client.search(ANY, sort="updated", order="desc"))
