"""Faults of the simulated GitHub: each can be had alone, as often as it says, the same for the same seed."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace

import pytest

from tests.simulated_github.client import Client, content, simulated
from tests.simulated_github.faults import ALL, NONE, Faults
from tests.simulated_github.github import Answer
from tests.simulated_github.world import Shape

STARS = range(10, 60)
"""Of so many stars there are at least a few repositories each, and at most some hundreds."""
FEW = Shape(repositories=2_000, largest_burst=1)


def kind(answer: Answer) -> str:
    try:
        body = json.loads(answer.body)
    except json.JSONDecodeError:
        body = None
    if answer.cut is not None:
        return answer.cut
    match answer:
        case Answer(status=200):
            return "answered" if body is not None and "message" not in body else "garbled"
        case Answer(status=502 | 504):
            return f"{answer.status} {'HTML' if body is None else 'JSON'}"
        case _:
            return f"{answer.status}{'' if 'retry-after' in answer.headers else ' bare'}"


def kinds(faults: Faults, requests: int = 2_000, seed: int = 1) -> Counter[str]:
    client = simulated(faults, seed=seed, shape=FEW)
    client.pause = 60
    return Counter(kind(client.get("/user")) for _ in range(requests))


def test_a_github_without_faults_has_none() -> None:
    assert kinds(NONE) == {"answered": 2_000}


@pytest.mark.parametrize(
    ("faults", "expected"),
    [
        (Faults(gateway=0.1), {"502 HTML": 0.025, "502 JSON": 0.025, "504 HTML": 0.025, "504 JSON": 0.025}),
        (Faults(cut=0.1), {"body": 0.05, "reset": 0.05}),
        (Faults(secondary=0.1), {"403 bare": 0.05, "403": 0.025, "429": 0.025}),
        (Faults(garbled=0.1), {"garbled": 0.1}),
    ],
)
def test_each_fault_comes_alone_and_as_often_as_it_says(faults: Faults, expected: dict[str, float]) -> None:
    found = kinds(faults)
    assert found.keys() == {"answered", *expected}
    for each, share in expected.items():
        assert found[each] / 2_000 == pytest.approx(share, rel=0.5)


def test_all_of_them_together_are_as_many_as_the_crawler_is_judged_by() -> None:
    found = kinds(ALL, 4_000)
    bad = {name: count / 4_000 for name, count in found.items() if name != "answered"}
    assert 0.018 < sum(bad.values()) < 0.032
    assert {"body", "reset", "403 bare", "403", "429"} <= bad.keys()


def test_the_same_seed_brings_the_same_faults_and_another_seed_others() -> None:
    assert kinds(ALL, 500) == kinds(ALL, 500)
    assert kinds(ALL, 500) != kinds(ALL, 500, seed=2)


def test_what_befalls_one_account_does_not_depend_on_another() -> None:
    def statuses(client: Client, between: int) -> list[int]:
        found = []
        for _ in range(200):
            client.token = "a1"
            found.append(client.get("/user").status)
            client.token = "b1"
            for _ in range(between):
                client.get("/user")
        return found

    faults = Faults(gateway=0.3)
    assert statuses(simulated(faults, shape=FEW), 0) == statuses(simulated(faults, shape=FEW), 1)


def test_some_searches_are_incomplete_and_say_so() -> None:
    client = simulated(Faults(incomplete=0.2), shape=FEW)
    whole = simulated(shape=FEW).search("stars:>=20")["total_count"]
    pages = [client.search("stars:>=20") for _ in range(300)]
    incomplete = [page for page in pages if page["incomplete_results"]]
    assert 30 < len(incomplete) < 90
    assert all(page["total_count"] < 0.8 * whole for page in incomplete)
    assert {page["total_count"] for page in pages if not page["incomplete_results"]} == {whole}


def slices(client: Client) -> dict[str, list[list[int | None]]]:
    """The pages of ten of each slice."""
    found = {}
    for stars in STARS:
        query = f"stars:{stars}"
        total = client.search(query, per_page=10)["total_count"] if client.github.faults == NONE else len(WHOLE[query])
        found[query] = [
            [item and item["id"] for item in client.search(query, per_page=10, page=page + 1, sort="updated")["items"]]
            for page in range(-(-total // 10))
        ]
    return found


WHOLE: dict[str, list[int]] = {}


@pytest.fixture(autouse=True, scope="module")
def whole() -> None:
    """What each slice holds."""
    client = simulated(shape=FEW)
    for query, pages in slices(client).items():
        WHOLE[query] = [number for page in pages for number in page if number is not None]
    assert sum(map(len, WHOLE.values())) > 1_000


def flat(pages: list[list[int | None]]) -> list[int | None]:
    return [one for page in pages for one in page]


def test_a_page_lacks_items_the_first_time_while_the_total_counts_them() -> None:
    """sourcegraph/sourcegraph#50028; PyGithub/PyGithub#997: no flag tells."""
    client = simulated(Faults(lacking=0.5), shape=FEW)
    first, second = slices(client), slices(client)
    lacking = {query: pages for query, pages in first.items() if len(flat(pages)) < len(WHOLE[query])}
    assert 15 <= len(lacking) <= 35
    for query, pages in lacking.items():
        assert set(flat(pages)) < set(WHOLE[query])
        short = [page for page, full in zip(pages, second[query], strict=True) if len(page) < len(full)]
        assert len(short) == 1
    assert all(flat(pages) == WHOLE[query] for query, pages in second.items())
    fresh = simulated(Faults(lacking=1.0), shape=FEW).search("stars:30", per_page=100)
    assert (fresh["total_count"], fresh["incomplete_results"]) == (len(WHOLE["stars:30"]), False)
    assert len(fresh["items"]) < fresh["total_count"]


def test_a_twentieth_of_the_slices_lacks_something_when_all_faults_are_on() -> None:
    client = simulated(replace(NONE, lacking=ALL.lacking), shape=Shape(repositories=20_000))
    lacking = 0
    for stars in range(12, 112):
        for low in (0, 20, 50, 200):
            page = client.search(f"stars:{stars} size:{low}..{low + 19}", per_page=100)
            lacking += len(page["items"]) < page["total_count"] <= 100
    assert 8 <= lacking <= 32


def test_a_page_may_repeat_another_in_place_of_its_own() -> None:
    client = simulated(Faults(repeating=1.0), shape=FEW)
    first, second = slices(client), slices(client)
    repeating = [query for query, pages in first.items() if len(set(flat(pages))) < len(WHOLE[query])]
    assert len(repeating) > 10
    assert all(len(flat(first[query])) == len(WHOLE[query]) for query in repeating)
    assert all(flat(pages) == WHOLE[query] for query, pages in second.items())


def test_null_stands_for_an_item_the_first_time() -> None:
    """sourcegraph/sourcegraph#45969: at index 0, and at 57."""
    client = simulated(Faults(nulls=1.0))
    places = set()
    for stars in range(10, 30):
        first = client.search(f"stars:{stars}..400", per_page=100)["items"]
        places.add(first.index(None))
        assert None not in client.search(f"stars:{stars}..400", per_page=100)["items"]
    assert places == {0, 57}


def test_graphql_answers_may_be_partial() -> None:
    client = simulated(Faults(partial=1.0))
    ids = [f"R_kg{number:x}" for number in client.github.world.id[:50]]
    answer = content(client.graphql("query($ids: [ID!]!) { nodes(ids: $ids) { id } }", ids=ids))
    missing = [at for at, node in enumerate(answer["data"]["nodes"]) if node is None]
    assert 5 < len(missing) < 30
    assert [one["path"] for one in answer["errors"]] == [["nodes", at] for at in missing]
    assert {one["type"] for one in answer["errors"]} == {"RESOURCE_LIMITS_EXCEEDED"}


@pytest.mark.parametrize(("counts", "is_answered"), [(25, True), (26, False)])
def test_too_many_counts_in_one_request_take_too_long(counts: int, is_answered: bool) -> None:
    client = simulated(Faults(most_counts=25))
    searches = (f'c{n}: search(query: "stars:{n}", type: REPOSITORY) {{ repositoryCount }}' for n in range(counts))
    answer = client.graphql(f"{{ {' '.join(searches)} }}")
    assert answer.status == 200 if is_answered else answer.status in (502, 504)
