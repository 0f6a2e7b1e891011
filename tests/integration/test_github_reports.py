"""What befell other crawlers of GitHub, each by the report that tells of it, in a small simulated GitHub."""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any, TypeVar

import pytest
from structlog.testing import capture_logs

from codelupe import Database
from codelupe_crawler.github.terms import TermMatcher
from codelupe_events import (
    CrawlCompleted,
    CrawlRequested,
    CrawlSliceCompleted,
    Event,
    RepoChanged,
    RepoDiscovered,
    RepoGone,
    TaskDeadLettered,
)
from tests.conftest import RunUntilIdle
from tests.integration.tampered_github import BEGAN, DAY, Asked, Hub, Tamper, changed, plain_world, running, saying
from tests.logged import Logged
from tests.simulated_github.faults import Faults
from tests.simulated_github.github import Answer
from tests.simulated_github.world import World

pytestmark = pytest.mark.anyio

ONE = {"token-a": "ann"}
SEARCH = "/search/repositories"
LIMITS = "https://docs.github.com/rest/using-the-rest-api/rate-limits-for-the-rest-api"
Crawl = Callable[..., Awaitable[list[Event]]]
E = TypeVar("E", bound=Event)


@pytest.fixture
def crawl(run_until_idle: RunUntilIdle) -> Crawl:
    """Runs a daemon until the crawl is done; returns the events that this crawl has brought."""
    seen = 0

    async def run(hub: Hub, mode: str = "deep", **settings: Any) -> list[Event]:
        nonlocal seen
        plugins, asked = {"crawler": hub.plugin()}, [CrawlRequested(mode=mode)]
        async with running(hub.clock):
            events = await run_until_idle(plugins, {"crawler": settings}, asked)
        new, seen = events[seen:], len(events)
        assert not of(new, TaskDeadLettered)
        assert not hub.github.violations
        return new

    return run


def of(events: Iterable[Event], kind: type[E]) -> list[E]:
    return [each for each in events if type(each) is kind]


def found(events: Iterable[Event]) -> Counter[int]:
    """How often each repository was discovered."""
    return Counter(int(each.repository_id.removeprefix("github:")) for each in of(events, RepoDiscovered))


def every(world: World) -> Counter[int]:
    return Counter(map(int, world.id))


def completed(events: Iterable[Event]) -> CrawlCompleted:
    [it] = of(events, CrawlCompleted)
    return it


def once(is_it: Callable[[Asked], bool], change: Callable[[Answer], Answer], times: int = 1) -> Tamper:
    """Changes the answers to the first of such requests."""
    left = times

    def tamper(asked: Asked, answer: Answer) -> Answer | None:
        nonlocal left
        if left and is_it(asked):
            left -= 1
            return change(answer)
        return None

    return tamper


def is_search(asked: Asked) -> bool:
    return asked.path == SEARCH


# --- what a page lacks, or has twice ---


async def test_pygithub_1748_pages_that_shuffle_what_is_equal_lose_nothing(crawl: Crawl) -> None:
    world = plain_world(950)
    world.pushed[:] = world.pushed.max() - world.pushed.argsort() // 5
    hub = Hub(world, ONE, Faults(shuffles_ties=True))
    events = await crawl(hub)
    assert found(events) == every(world)
    assert hub.github.requests["search"] <= 3 * 12


async def test_pygithub_1748_what_never_comes_is_reported_after_three_rounds(crawl: Crawl) -> None:
    world = plain_world(450)
    world.pushed[:] = int(BEGAN) - 5
    hub = Hub(world, ONE, Faults(shuffles_ties=True))
    events = await crawl(hub)
    assert found(events) == every(world) & found(events)
    assert completed(events).missed == 450 - len(found(events))
    assert hub.github.requests["search"] <= 3 * 6


async def test_pygithub_997_hub4j_1507_a_page_that_gives_subsets_is_asked_again(crawl: Crawl) -> None:
    world, draw = plain_world(300), random.Random(1)

    def drop_five(asked: Asked, answer: Answer) -> Answer | None:
        if not is_search(asked):
            return None
        return changed(answer, lambda body: [body["items"].pop(draw.randrange(len(body["items"]))) for _ in range(5)])

    hub = Hub(world, ONE)
    hub.github.tamper = drop_five
    events = await crawl(hub)
    assert found(events) == every(world)
    assert completed(events).missed == 0
    assert {each.error for each in of(events, CrawlSliceCompleted)} == {None}
    assert max(hub.github.asked_pages().values()) <= 3


@pytest.mark.parametrize("is_counted", [True, False])
async def test_criticality_score_33_what_no_range_shows_is_reported_if_it_is_counted(
    crawl: Crawl, *, is_counted: bool
) -> None:
    world = plain_world(300)
    (world.counted if is_counted else world.invisible)[[7, 150, 290]] = True
    hub = Hub(world, ONE)
    events = await crawl(hub)
    assert len(found(events)) == 297
    assert completed(events).missed == (3 if is_counted else 0)
    assert bool([each for each in of(events, CrawlSliceCompleted) if each.error]) == is_counted
    assert hub.github.requests["search"] == len(hub.github.asked_pages()) + (2 if is_counted else 0)


async def test_sourcegraph_50028_a_page_that_lacks_some_the_first_time_costs_one_request(crawl: Crawl) -> None:
    world = plain_world(300)
    hub = Hub(world, ONE)
    hub.github.tamper = once(
        lambda asked: is_search(asked) and asked.page == 2,
        lambda answer: changed(answer, lambda body: body["items"].__delitem__(slice(10, 13))),
    )
    events = await crawl(hub)
    assert found(events) == every(world)
    assert completed(events).missed == 0
    assert hub.github.requests["search"] == len(hub.github.asked_pages()) + 1


@pytest.mark.parametrize("times", [1, 1000], ids=["first", "always"])
@pytest.mark.parametrize("what", [None, {}, {"id": None}, {"id": 5}, "text", []], ids=repr)
async def test_sourcegraph_45969_rest_api_description_4531_items_that_are_null_spoil_nothing_else(
    crawl: Crawl, times: int, what: Any
) -> None:
    world = plain_world(300)

    def lose(body: Any) -> None:
        body["items"][0] = body["items"][57] = what

    hub = Hub(world, ONE)
    hub.github.tamper = once(
        lambda asked: is_search(asked) and asked.page == 1, lambda answer: changed(answer, lose), times
    )
    events = await crawl(hub)
    is_always = times > 1
    assert len(found(events)) == (298 if is_always else 300)
    assert completed(events).missed == (2 if is_always else 0)
    assert completed(events).failed_slices == 0
    assert hub.github.requests["search"] == len(hub.github.asked_pages()) + (2 if is_always else 1)


# --- terms ---


async def test_in_mode_terms_only_what_has_one_of_them_is_recorded(crawl: Crawl, tmp_path: Path) -> None:
    """Of all that was pushed since, too, but for what is known."""
    (tmp_path / "terms.txt").write_text("fastapi\nreact\n", encoding="utf-8")
    matcher, world = TermMatcher(("fastapi", "react")), plain_world(900)
    has = [matcher.matches(world.name_of(i), world.describe(i), world.topics_of(i)) for i in range(900)]
    expected = Counter({int(world.id[index]): 1 for index, terms in enumerate(has) if terms})
    assert 20 < len(expected) < 500
    hub = Hub(world, ONE, terms=matcher.matches)
    events = await crawl(hub, "terms", terms=str(tmp_path / "terms.txt"))
    assert found(events) == expected
    assert {int(each.repository_id[7:]): each.terms for each in of(events, RepoDiscovered)} == {
        int(world.id[index]): terms for index, terms in enumerate(has) if terms
    }
    queries = {query for query, _ in hub.github.asked_pages()}
    assert queries == {f"{term} {hub.settings.gate} is:public" for term in ("fastapi", "react")}
    with_a_term, without = has.index(("react",)), has.index(())
    hub.clock.move_on(60)
    for index in (with_a_term, without):
        world.change(index, "pushed")
    hub.clock.move_on(60)
    events = await crawl(hub, "changes", terms=str(tmp_path / "terms.txt"))
    assert found(events) == Counter([int(world.id[with_a_term])])
    assert completed(events).seen == 2


async def test_of_a_term_no_more_pages_are_asked_for_than_are_set(crawl: Crawl, tmp_path: Path) -> None:
    (tmp_path / "terms.txt").write_text("go\n", encoding="utf-8")
    world = plain_world(900)
    world.names |= {index: f"owner/go-{index}" for index in range(900)}
    hub = Hub(world, ONE, pages_per_term=3)
    events = await crawl(hub, "terms", terms=str(tmp_path / "terms.txt"))
    assert len(found(events)) == 300
    assert hub.github.requests["search"] == 3


def flat(values: dict[str, list[Any]]) -> list[tuple[str, Any]]:
    return [(name, value) for name, each in values.items() for value in each]


HOSTILE = flat(
    {
        "id": [None, "", "x", 1.5, True, -1, [], "\0", 10**400],
        "full_name": [None, 7, ["a"]],
        "html_url": [None, 7, "x" * 200_000],
        "stargazers_count": [None, "many", -1, 2**31, 1.5, []],
        "forks_count": [-5, 2**63],
        "size": ["x", -1, 2**63],
        "pushed_at": [5, "yesterday", "9999-12-31T23:59:59-12:00", "0001-01-01T00:00:00+12:00"],
        "created_at": [5, "2026-13-01T00:00:00Z"],
        "topics": [7, [None, "a"], [{}], ["a", 7]],
        "license": ["MIT", 7, {"spdx_id": 7}],
        "language": [7, {}],
        "description": [7, ["a"]],
        "default_branch": [7, []],
        "subscribers_count": ["x", -1],
        "node_id": [7],
    }
)
ODD = flat(
    {
        "description": [{}, "\0", "\ud800", "x" * 1_000_000, "", None],
        "pushed_at": [{}, "9999-12-31T23:59:59Z", "0001-01-01T00:00:00Z", "2020-01-01T00:00:00", None],
        "topics": [None, ["\0", "\ud800"], {}],
        "license": [None, {}, {"spdx_id": None}, {"spdx_id": "\0"}],
        "language": ["\0", None],
        "owner": [None, 7],
        "size": [{}],
        "full_name": ["\0/\ud800"],
        "id": ["text"],
    }
)


async def test_a_hostile_item_costs_nothing_but_itself(crawl: Crawl, database: Database, logged: Logged) -> None:
    """What is odd is kept as far as the database can hold it, what means nothing is left out; both once and again."""
    world = plain_world(100)
    hub = Hub(world, ONE)
    ids = {int(number): place for place, number in enumerate(world.id)}

    def spoil(body: Any) -> None:
        for item in body["items"]:
            place = ids[item["id"]]
            if place < len(HOSTILE) + len(ODD):
                name, value = (HOSTILE + ODD)[place]
                item[name] = str(item["id"]) if (name, value) == ("id", "text") else value

    def tamper(asked: Asked, answer: Answer) -> Answer | None:
        if not is_search(asked):
            return None
        body = json.loads(answer.body)
        spoil(body)
        return replace(answer, body=json.dumps(body).encode())

    hub.github.tamper = tamper
    events = await crawl(hub)
    assert found(events) == Counter(int(number) for number in world.id[len(HOSTILE) :])
    assert completed(events).failed_slices == 0
    assert completed(events).missed == len(HOSTILE)
    assert logged.count("description_malformed") == 3 * len(HOSTILE)
    rows = await database.fetch("select * from repositories")
    assert len(rows) == 100 - len(HOSTILE)
    hub.clock.move_on(60)
    assert not of(await crawl(hub), RepoDiscovered)
    assert not of(events, RepoChanged)


@pytest.mark.parametrize("total", [None, -1, 1.5, "many", True, 10**12, [], "absent"], ids=str)
async def test_a_total_that_is_none_is_asked_for_again(crawl: Crawl, total: Any) -> None:
    world = plain_world(120)
    hub = Hub(world, ONE)

    def spoil(body: Any) -> None:
        body.pop("total_count") if total == "absent" else body.update(total_count=total)

    hub.github.tamper = once(is_search, lambda answer: changed(answer, spoil))
    events = await crawl(hub)
    assert found(events) == every(world)
    assert completed(events).failed_slices == completed(events).missed == 0


@pytest.mark.parametrize("count", [None, -1, 1.5, "many", [], "absent"], ids=str)
async def test_a_count_that_is_none_is_asked_for_again(crawl: Crawl, count: Any) -> None:
    world = plain_world(120)
    hub = Hub(world, ONE)

    def spoil(body: Any) -> None:
        body["data"]["c3"] = {} if count == "absent" else {"repositoryCount": count}
        body["data"]["c4"] = count

    hub.github.tamper = once(lambda asked: asked.path == "/graphql", lambda answer: changed(answer, spoil))
    events = await crawl(hub)
    assert found(events) == every(world)
    assert completed(events).failed_slices == completed(events).missed == 0


@pytest.mark.parametrize("message", ["\0", "\ud800", {"a": "\0"}, "secondary rate limit \0"], ids=ascii)
@pytest.mark.parametrize("status", [200, 403, 422, 500])
async def test_whatever_an_error_says_it_is_recorded(crawl: Crawl, message: Any, status: int) -> None:
    world = plain_world(120)
    hub = Hub(world, ONE)
    body = json.dumps({"message": message, "errors": [{"message": message}]}).encode()
    hub.github.tamper = once(is_search, lambda answer: replace(answer, status=status, body=body))
    assert found(await crawl(hub)) == every(world)


# --- limits and errors ---

SECONDARY = [
    {"message": "You have exceeded a secondary rate limit. Please wait a few minutes.", "documentation_url": ""},
    {"message": "You have triggered an abuse detection mechanism. Please wait a few minutes."},
    {"message": "Forbidden", "documentation_url": f"{LIMITS}#about-secondary-rate-limits"},
    {"documentation_url": "https://developer.github.com/v3/#abuse-rate-limits"},
]


@pytest.mark.parametrize("body", SECONDARY, ids=["new", "old", "address", "old address"])
@pytest.mark.parametrize("where", [SEARCH, "/graphql"])
async def test_hub4j_2009_1805_1842_plugin_throttling_437_a_bare_403_is_waited_for(
    crawl: Crawl, body: dict[str, str], where: str
) -> None:
    world = plain_world(120)
    hub = Hub(world, ONE)

    def refuse(answer: Answer) -> Answer:
        hub.github.users["ann"].blocked_until = hub.clock.now() + 60
        bare = {name: value for name, value in answer.headers.items() if not name.startswith("retry")}
        return replace(saying(answer, 403, body), headers=bare | {"x-ratelimit-remaining": "29"})

    hub.github.tamper = once(lambda asked: asked.path == where, refuse, times=2)
    events = await crawl(hub)
    assert found(events) == every(world)
    times = [asked.at for asked in hub.github.asked if asked.path == where]
    assert times[1] - times[0] >= 60
    assert times[2] - times[1] >= 120
    assert hub.time.sleeps < 4 * len(hub.github.asked)


@pytest.mark.parametrize("status", [200, 403])
async def test_github_crawler_109_an_error_in_place_of_results_is_no_result(crawl: Crawl, status: int) -> None:
    world = plain_world(120)
    hub = Hub(world, ONE)
    hub.github.tamper = once(is_search, lambda answer: saying(answer, status, {"message": "Server Error"}), times=2)
    events = await crawl(hub)
    assert found(events) == every(world)
    assert completed(events).failed_slices == 0


async def test_github_crawler_109_a_limit_said_at_200_is_waited_for(crawl: Crawl) -> None:
    world = plain_world(120)
    hub = Hub(world, ONE)
    hub.github.tamper = once(is_search, lambda answer: saying(answer, 200, {"message": "API rate limit exceeded"}))
    assert found(await crawl(hub)) == every(world)
    times = [asked.at for asked in hub.github.asked if is_search(asked)]
    assert times[1] - times[0] >= 60


async def test_no_request_is_made_while_another_program_has_used_the_quota_up(crawl: Crawl) -> None:
    world = plain_world(400)
    hub = Hub(world, ONE, Faults(stale_resets=0.5, clock_skew=90))
    window = hub.github.users["ann"].windows["search"]
    window.used, window.ends = 29, BEGAN + 60
    assert found(await crawl(hub)) == every(world)
    times = [asked.at for asked in hub.github.asked if is_search(asked)]
    assert sum(BEGAN <= at < BEGAN + 60 for at in times) == 1


async def test_503_with_retry_after_is_left_alone_for_so_long(crawl: Crawl) -> None:
    world = plain_world(120)
    hub = Hub(world, ONE)
    hub.github.tamper = once(
        is_search,
        lambda answer: replace(answer, status=503, body=b"", headers={**answer.headers, "retry-after": "600"}),
    )
    assert found(await crawl(hub)) == every(world)
    times = [asked.at for asked in hub.github.asked if is_search(asked)]
    assert times[1] - times[0] >= 600


async def test_ghs_a_page_that_always_fails_is_given_up_and_all_else_goes_on(crawl: Crawl) -> None:
    world = plain_world(1_800)
    hub = Hub(world, ONE)

    def fail(asked: Asked, answer: Answer) -> Answer | None:
        return saying(answer, 500, {}) if is_search(asked) and asked.page == 3 and first() == asked.query else None

    def first() -> str:
        return next(asked.query for asked in hub.github.asked if is_search(asked) and asked.page == 3)

    hub.github.tamper = fail
    events = await crawl(hub)
    [failed] = [each for each in of(events, CrawlSliceCompleted) if each.error]
    assert failed.error is not None
    assert "500" in failed.error
    assert failed.missed == (failed.total or 0) - 200 > 0
    assert len(found(events)) == 1_800 - failed.missed
    assert (completed(events).failed_slices, completed(events).missed) == (1, failed.missed)
    times = [asked.at for asked in hub.github.asked if (asked.query, asked.page) == (failed.query, 3)]
    waits = [later - earlier for earlier, later in pairwise(times)]
    assert len(waits) == 4
    assert all(wait >= least for wait, least in zip(waits, (1, 8, 64, 512), strict=True))


# --- more than a search gives ---


@pytest.mark.parametrize("tokens", [ONE, {}], ids=["token", "anonymous"])
async def test_issue_wanted_127_cam_186_of_1500_in_one_second_all_are_found_before_page_11(
    crawl: Crawl, tokens: dict[str, str]
) -> None:
    world = plain_world(1_600)
    world.created[50:1550] = world.created[50]
    hub = Hub(world, tokens)
    events = await crawl(hub)
    assert found(events) == every(world)
    assert max(page for _, page in hub.github.asked_pages()) <= 10
    assert completed(events).missed == 0


async def test_1500_in_one_second_are_counted_by_few_requests(crawl: Crawl) -> None:
    """Parted by size, without ever shorter times around this second."""
    world = plain_world(1_600)
    world.created[50:1550] = world.created[50]
    await crawl(hub := Hub(world, ONE))
    assert hub.github.requests["graphql"] <= 5


async def test_what_a_count_missed_between_two_bursts_is_found(crawl: Crawl) -> None:
    world = plain_world(2_410)
    first = int(BEGAN) - 100 * DAY
    world.created[:1200], world.created[1200:1210], world.created[1210:] = first, first + 9 * DAY, first + 20 * DAY
    hub = Hub(world, ONE)

    def miss(body: Any) -> None:
        for count in body["data"].values():
            count["repositoryCount"] *= count["repositoryCount"] > 10

    hub.github.tamper = lambda asked, answer: changed(answer, miss) if asked.path == "/graphql" else None
    assert found(await crawl(hub)) == every(world)


async def test_what_cannot_be_parted_is_taken_as_far_as_it_goes_and_reported(crawl: Crawl) -> None:
    world = plain_world(1_300)
    world.created[:] = world.created[0]
    world.size[:] = 7
    events = await crawl(hub := Hub(world, ONE))
    [told] = [each for each in of(events, CrawlSliceCompleted) if each.error]
    assert len(found(events)) == 1_000
    assert told.missed == completed(events).missed
    assert 250 <= told.missed <= 350  # such a total is a guess
    assert "1000" in (told.error or "")
    assert max(hub.github.asked_pages().values()) == 1


@pytest.mark.parametrize("number", [1, 99, 100, 101, 250, 1000])
async def test_cli_9749_whatever_the_number_each_comes_once(crawl: Crawl, number: int) -> None:
    world = plain_world(number)
    hub = Hub(world, ONE)
    events = await crawl(hub)
    assert found(events) == every(world)
    assert (completed(events).seen, completed(events).new) == (number, number)
    assert max(hub.github.asked_pages().values()) == 1


async def test_ghs_what_was_created_where_a_slice_ends_is_counted_once(crawl: Crawl) -> None:
    world = plain_world(2_000)
    world.created[:] = int(BEGAN) - 3 * 2_000 + 3 * world.created.argsort()
    hub = Hub(world, ONE)
    events = await crawl(hub)
    assert found(events) == every(world)
    assert sum(each.total or 0 for each in of(events, CrawlSliceCompleted)) == 2_000


# --- names and what becomes of repositories ---


async def test_hound_1128_cla_assistant_779_names_that_are_swapped_follow_the_ids(
    crawl: Crawl, database: Database
) -> None:
    world = plain_world(20)
    hub = Hub(world, ONE)
    await crawl(hub)
    a, b = world.name_of(1), world.name_of(2)
    world.rename(1, "for/now")
    world.rename(2, a)
    world.rename(1, b)
    hub.clock.move_on(60)
    events = await crawl(hub)
    assert {(each.repository_id, each.full_name) for each in of(events, RepoChanged)} == {
        (f"github:{world.id[1]}", b),
        (f"github:{world.id[2]}", a),
    }
    assert not found(events)
    rows = await database.fetch("select id, full_name, url from repositories")
    assert {row["id"]: row["full_name"] for row in rows} == {
        f"github:{world.id[index]}": world.name_of(index) for index in range(20)
    }
    assert all(row["url"] == f"https://github.com/{row['full_name']}.git" for row in rows)


async def test_augur_3056_awesome_local_llms_71_another_under_the_name_of_one_that_is_gone(
    crawl: Crawl, database: Database
) -> None:
    world = plain_world(20)
    world.created[19] = world.pushed[19] = int(BEGAN) + 50
    hub = Hub(world, ONE)
    await crawl(hub)
    name = world.name_of(3)
    world.change(3, "recreated")
    hub.clock.move_on(100)
    events = await crawl(hub)
    assert [each.full_name for each in of(events, RepoDiscovered)] == [name]
    assert found(events) == Counter([int(world.id[19])])
    events = await crawl(hub, "refresh")
    [gone] = of(events, RepoGone)
    assert (gone.repository_id, gone.full_name, gone.reason) == (f"github:{world.id[3]}", name, "deleted")
    states = {row["id"]: row["state"] for row in await database.fetch("select id, state from repositories")}
    assert states.pop(gone.repository_id) == "gone"
    assert set(states.values()) == {"discovered"}


async def test_what_is_no_longer_given_out_ends_once_as_a_fact_with_its_reason(crawl: Crawl) -> None:
    world = plain_world(150)
    hub = Hub(world, ONE)
    await crawl(hub)
    for index, change in enumerate(("deleted", "private", "blocked", "disabled")):
        world.change(index, change)  # type: ignore[arg-type]
    hub.clock.move_on(60)
    events = await crawl(hub, "refresh")
    assert {each.repository_id: each.reason for each in of(events, RepoGone)} == {
        f"github:{world.id[0]}": "deleted",
        f"github:{world.id[1]}": "deleted",
        f"github:{world.id[2]}": "blocked",
        f"github:{world.id[3]}": "disabled",
    }
    assert not found(events)
    asked = hub.github.requests.total()
    hub.clock.move_on(60)
    assert not of(await crawl(hub, "refresh"), RepoGone)
    assert hub.github.requests["core"] == 1 + 4
    assert hub.github.requests.total() - asked == 2


HIDDEN = {"private": True, "visibility": "private", "description": "a secret plan", "full_name": "o/secret-plan"}
ACCESS_BLOCKED = {"message": "Repository access blocked"}
SAML = {"message": "Resource protected by organization SAML enforcement. You must grant your token access to it."}
ADDRESSES = {"message": "The `o` organization has an IP allow list enabled, and your IP address is not permitted."}


@pytest.mark.parametrize(
    ("node", "status", "body", "reason"),
    [
        ("PRIVATE", 200, HIDDEN, "private"),
        ("NOT_FOUND", 200, HIDDEN, "private"),
        ("NOT_FOUND", 404, {"message": "Not Found"}, "deleted"),
        ("NOT_FOUND", 410, {"message": "Gone"}, "deleted"),
        ("NOT_FOUND", 451, ACCESS_BLOCKED | {"block": {"reason": "dmca"}}, "blocked"),
        ("NOT_FOUND", 403, ACCESS_BLOCKED | {"block": {"reason": "dmca"}}, "blocked"),
        ("NOT_FOUND", 403, ACCESS_BLOCKED | {"block": {"reason": "tos"}}, "disabled"),
        ("NOT_FOUND", 403, ACCESS_BLOCKED | {"block": {"reason": "unavailable"}}, "disabled"),
        ("NOT_FOUND", 403, ACCESS_BLOCKED, "disabled"),
        ("FORBIDDEN", 403, SAML, "private"),
        ("FORBIDDEN", 403, ADDRESSES, "private"),
    ],
)
async def test_rest_api_description_3314_pygithub_1015_scorecard_1504_each_answer_has_its_reason(
    crawl: Crawl, database: Database, node: str, status: int, body: dict[str, Any], reason: str
) -> None:
    world = plain_world(3)
    hub = Hub(world, ONE)
    await crawl(hub)
    before = await database.fetchrow("select * from repositories where id = $1", f"github:{world.id[1]}")
    hub.github.tamper = withholding({int(world.id[1])}, node, status, body)
    hub.clock.move_on(60)
    events = await crawl(hub, "refresh")
    [gone] = of(events, RepoGone)
    assert (gone.repository_id, gone.full_name, gone.reason) == (f"github:{world.id[1]}", world.name_of(1), reason)
    assert status == 200 or (gone.detail or "").startswith(f"HTTP {status}: {body['message'][:20]}")
    assert "secret" not in str(events)
    after = await database.fetchrow("select * from repositories where id = $1", f"github:{world.id[1]}")
    assert before is not None
    assert after is not None
    assert {**before, "state": "gone"} == dict(after)
    hub.clock.move_on(60)
    assert not of(await crawl(hub, "refresh"), RepoGone)


async def test_jasper_187_many_that_are_forbidden_do_not_keep_a_refresh_from_the_others(crawl: Crawl) -> None:
    world = plain_world(130)
    hub = Hub(world, ONE)
    await crawl(hub)
    forbidden = sorted(map(int, world.id), key=str)[:110]
    hub.github.tamper = withholding(set(forbidden), "FORBIDDEN", 403, SAML)
    world.stars[:] = 500
    hub.clock.move_on(60)
    events = await crawl(hub, "refresh")
    assert Counter(each.reason for each in of(events, RepoGone)) == {"private": 110}
    assert len(of(events, RepoChanged)) == 20


def withholding(ids: set[int], node: str, status: int, body: dict[str, Any]) -> Tamper:
    """Of these repositories GraphQL says by an error, or ``isPrivate``, that they are not for all, and REST this."""

    def withhold(content: Any) -> None:
        nodes, errors = content["data"]["nodes"], content.setdefault("errors", [])
        for place, each in enumerate(nodes):
            if each is None or each["databaseId"] not in ids:
                continue
            if node == "PRIVATE":
                each |= {"isPrivate": True, "description": "a secret plan"}
            else:
                nodes[place] = None
                errors.append({"type": node, "path": ["nodes", place], "message": "It is not for you."})

    def tamper(asked: Asked, answer: Answer) -> Answer | None:
        if b"nodes" in asked.body:
            return changed(answer, withhold)
        if asked.path not in {f"/repositories/{each}" for each in ids}:
            return None
        return changed(answer, lambda content: content.update(body)) if status == 200 else saying(answer, status, body)

    return tamper


@pytest.mark.parametrize("errors", [[], [{"type": "SOMETHING", "path": ["nodes", 57], "message": "?"}]], ids=len)
async def test_cartography_2008_nodes_that_are_null_are_asked_for_one_by_one_or_again(
    crawl: Crawl, errors: list[Any]
) -> None:
    world = plain_world(100)
    hub = Hub(world, ONE)
    await crawl(hub)

    def lose(body: Any) -> None:
        body["data"]["nodes"][0] = body["data"]["nodes"][57] = None
        body["errors"] = errors

    hub.github.tamper = once(lambda asked: b"nodes" in asked.body, lambda answer: changed(answer, lose))
    hub.clock.move_on(60)
    before = hub.github.requests.copy()
    events = await crawl(hub, "refresh")
    assert not of(events, RepoGone)
    assert hub.github.requests["core"] - before["core"] == 2 - len(errors)
    assert hub.github.requests["graphql"] - before["graphql"] == 1 + len(errors)


async def test_a_refresh_ends_with_its_requests_and_the_next_one_goes_on_with_the_oldest(crawl: Crawl) -> None:
    world = plain_world(250)
    hub = Hub(world, ONE, refresh_requests=1)
    await crawl(hub)
    world.stars[:] = 500
    news = []
    for _ in range(4):
        hub.clock.move_on(60)
        news.append(len(of(await crawl(hub, "refresh"), RepoChanged)))
    assert news == [100, 100, 50, 0]


@pytest.mark.parametrize("nodes", [None, "text", {}, 7, [], ["text", 7, [], {}]], ids=str)
async def test_nodes_that_are_none_are_no_end_of_a_refresh(crawl: Crawl, nodes: Any) -> None:
    world = plain_world(30)
    hub = Hub(world, ONE)
    await crawl(hub)
    hub.github.tamper = once(
        lambda asked: b"nodes" in asked.body,
        lambda answer: changed(answer, lambda body: body["data"].update(nodes=nodes)),
    )
    hub.clock.move_on(60)
    events = await crawl(hub, "refresh")
    assert not of(events, RepoGone)
    assert completed(events).failed_slices == 0


async def test_one_that_is_malformed_does_not_keep_a_refresh_from_the_others(crawl: Crawl) -> None:
    world = plain_world(150)
    hub = Hub(world, ONE)
    await crawl(hub)
    world.change(140, "deleted")
    poison = f"/repositories/{world.id[3]}"

    def spoil(asked: Asked, answer: Answer) -> Answer | None:
        if asked.path == poison:
            return changed(answer, lambda body: body.update(stargazers_count="many"))
        if b"nodes" not in asked.body:
            return None
        return changed(answer, lose)

    def lose(body: Any) -> None:
        for node in filter(None, body["data"]["nodes"]):
            if node["databaseId"] == world.id[3]:
                node["stargazerCount"] = -1

    hub.github.tamper = spoil
    hub.clock.move_on(60)
    events = await crawl(hub, "refresh")
    assert [each.repository_id for each in of(events, RepoGone)] == [f"github:{world.id[140]}"]
    assert completed(events).failed_slices == 0


async def test_nodes_that_are_never_told_of_end_a_refresh(crawl: Crawl) -> None:
    world = plain_world(30)
    hub = Hub(world, ONE)
    await crawl(hub)
    error = {"type": "RESOURCE_LIMITS_EXCEEDED", "path": ["nodes"], "message": "Resource limits exceeded."}
    hub.github.tamper = lambda asked, answer: (
        changed(answer, lambda body: body.update(data={"nodes": None}, errors=[error]))
        if b"nodes" in asked.body
        else None
    )
    hub.clock.move_on(60)
    before = hub.github.requests.total()
    events = await crawl(hub, "refresh")
    assert hub.github.requests.total() - before == 1
    [told] = of(events, CrawlSliceCompleted)
    assert told.error is not None
    assert "30" in told.error


async def test_one_that_always_fails_does_not_keep_a_refresh_from_the_others(crawl: Crawl) -> None:
    world = plain_world(150)
    hub = Hub(world, ONE)
    await crawl(hub)
    world.change(3, "deleted")
    world.change(140, "deleted")
    poison = f"/repositories/{world.id[3]}"
    hub.github.tamper = lambda asked, answer: saying(answer, 500, {}) if asked.path == poison else None
    hub.clock.move_on(60)
    events = await crawl(hub, "refresh")
    assert [each.repository_id for each in of(events, RepoGone)] == [f"github:{world.id[140]}"]
    assert sum(asked.path == poison for asked in hub.github.asked) <= 6
    assert completed(events).failed_slices == 0


async def test_many_that_opted_out_do_not_keep_a_refresh_from_the_others(
    crawl: Crawl, database: Database, tmp_path: Path
) -> None:
    world = plain_world(130)
    hub = Hub(world, ONE)
    await crawl(hub)
    rows = await database.fetch("select id, full_name from repositories order by id")
    opted_out = tmp_path / "opt-out.txt"
    opted_out.write_text("\n".join(row["full_name"] for row in rows[:-1]), encoding="utf-8")
    world.stars[:] = 500
    hub.clock.move_on(60)
    events = await crawl(hub, "refresh", opt_out=[str(opted_out)])
    assert [each.repository_id for each in of(events, RepoChanged)] == [rows[-1]["id"]]
    assert {each.error for each in of(events, CrawlSliceCompleted)} == {None}


# --- tokens ---


@pytest.mark.parametrize(
    "tokens", [{"token-a": "ann", "token-b": "bob"}, {"token-a": "ann", "token-b": "ann"}], ids=["two", "one account"]
)
async def test_a_token_that_is_revoked_leaves_the_others_working(
    crawl: Crawl, logged: Logged, tokens: dict[str, str]
) -> None:
    world = plain_world(900)
    hub = Hub(world, tokens, revoked_at={"token-a": BEGAN + 15})
    assert found(await crawl(hub)) == every(world)
    assert hub.github.unauthorised["token-a"] == 1
    assert logged.count("token_refused") == 1
    assert not any("token-a" in str(record) for record in logged.records("token_refused"))


async def test_ghorg_64_gitpython_1284_the_tokens_of_accounts_are_nowhere_to_be_found(
    crawl: Crawl, database: Database, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """In no log, error, table or file, also of a failure, a limit and a fact in whose words GitHub repeats them."""
    world = plain_world(900)
    hub = Hub(world, {"ghp_planted1": "ann", "ghp_planted2": "bob"}, revoked_at={"ghp_planted1": BEGAN + 15})
    limits = iter((403, 403))

    def repeat(asked: Asked, answer: Answer) -> Answer | None:
        if asked.path.startswith("/repositories/") or (is_search(asked) and asked.page == 2):
            return saying(answer, 422 if asked.page else 451, {"message": f"not for {asked.token}"})
        if is_search(asked) and (status := next(limits, None)):
            return saying(answer, status, {"message": f"secondary rate limit of {asked.token}"})
        return None

    hub.github.tamper = repeat
    with capture_logs() as logs:
        events = await crawl(hub)
        world.change(world.id.tolist().index(min(found(events))), "blocked")
        hub.clock.move_on(60)
        events += await crawl(hub, "refresh")
    assert of(events, RepoGone)
    assert "HTTP 422: not for ***" in str(of(events, CrawlSliceCompleted))
    said = [*map(str, logs), *map(str, events), *capfd.readouterr()]
    for table in await database.fetch("select tablename from pg_tables where schemaname = 'public'"):
        said += [
            row["line"] for row in await database.fetch(f'select t::text as line from "{table["tablename"]}" as t')
        ]
    said += [path.read_bytes().decode(errors="replace") for path in tmp_path.rglob("*") if path.is_file()]
    assert [each[:300] for each in said if "planted" in each] == []


async def test_when_all_tokens_are_revoked_it_goes_on_without(crawl: Crawl, logged: Logged) -> None:
    world = plain_world(300)
    hub = Hub(world, ONE, revoked_at={"token-a": BEGAN + 4})
    assert found(await crawl(hub)) == every(world)
    assert logged.count("no_token") == 1


async def test_without_a_token_it_keeps_to_ten_searches_a_minute_and_says_so(crawl: Crawl, logged: Logged) -> None:
    world = plain_world(1_150)
    hub = Hub(world, {})
    assert found(await crawl(hub)) == every(world)
    assert set(hub.github.requests) == {"search"}
    assert logged.count("no_token", log_level="warning") == 1
    assert hub.time.sleeps <= 2 * len(hub.github.asked)
    assert all(later.at - earlier.at >= 6 for earlier, later in pairwise(hub.github.asked))


async def test_a_refresh_without_a_token_says_that_it_cannot(crawl: Crawl) -> None:
    world = plain_world(20)
    hub = Hub(world, ONE)
    await crawl(hub)
    hub.github.revoked_at = {"token-a": BEGAN}
    hub.clock.move_on(60)
    events = await crawl(hub, "refresh")
    [told] = of(events, CrawlSliceCompleted)
    assert told.error is not None
    assert "token" in told.error
