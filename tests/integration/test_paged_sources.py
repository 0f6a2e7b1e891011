"""Sources that are asked page by page: what is asked, by whom, and what stands when a daemon is killed."""

from __future__ import annotations

import time
import types
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest

import codelupe_crawler
from codelupe import (
    Database,
    Gone,
    Page,
    PagedSource,
    Reject,
    Repository,
    RetryLater,
    Slice,
    SourceContext,
    SourceMode,
    SourceSession,
    Want,
    hookimpl,
    load_queries,
)
from codelupe_events import (
    CrawlCompleted,
    CrawlRequested,
    CrawlSliceCompleted,
    CrawlSlicesOpened,
    Event,
    RepoChanged,
    RepoDiscovered,
    RepoGone,
    TaskDeadLettered,
)
from tests.conftest import RunUntilIdle

pytestmark = pytest.mark.anyio

SQL = load_queries("codelupe_sql", "crawler")
PAGE = 10
Answer = Callable[[Slice, str | None], Page | None]


class Catalogue:
    """A source of slices ``a``, ``b`` …, each with pages of ten repositories."""

    name = "catalogue"

    def __init__(self, *sizes: int, accounts: Sequence[str] = ("one",)) -> None:
        self.slices = {
            chr(ord("a") + place): [repository(f"{place}-{n}") for n in range(size)] for place, size in enumerate(sizes)
        }
        self.names = list(accounts)
        self.asked: list[tuple[str, str | None, str]] = []
        self.wanted: list[Want] = []
        self.answers: list[Answer] = []
        """Asked one after another for something else than the usual page."""

    async def accounts(self, context: SourceContext) -> Sequence[str]:
        return self.names

    async def plan(self, want: Want, context: SourceContext) -> Sequence[Slice]:
        self.wanted.append(want)
        return [] if want.mode == SourceMode.REFRESH else [Slice(query=query) for query in self.slices]

    @asynccontextmanager
    async def open(self, account: str, context: SourceContext) -> AsyncIterator[SourceSession]:
        yield Session(self, account)


class Session:
    def __init__(self, catalogue: Catalogue, account: str) -> None:
        self._catalogue = catalogue
        self._account = account

    async def ask(self, slice: Slice, cursor: str | None) -> Page:  # noqa: A002 - as in the contract
        self._catalogue.asked.append((slice.query, cursor, self._account))
        for answer in self._catalogue.answers:
            if (page := answer(slice, cursor)) is not None:
                return page
        return page_of(self._catalogue.slices[slice.query], cursor)


def page_of(repositories: Sequence[Repository], cursor: str | None) -> Page:
    begin = int(cursor or 0)
    end = begin + PAGE
    following = str(end) if end < len(repositories) else None
    return Page(repositories=repositories[begin:end], next=following, total=len(repositories))


def repository(name: str, revision: str = "r1", source: str = "catalogue") -> Repository:
    url = f"https://host/{name}"
    return Repository(source=source, external_id=name, full_name=name, url=url, revision=revision, stars=100)


def offering(source: PagedSource) -> dict[str, object]:
    plugin = types.SimpleNamespace()

    @hookimpl
    def codelupe_repository_sources() -> Sequence[PagedSource]:
        return [source]

    plugin.codelupe_repository_sources = codelupe_repository_sources
    return {"crawler": codelupe_crawler, "shop": plugin}


def once(query: str, cursor: str | None, outcome: Page | Exception, times: int = 1) -> Answer:
    """For the first ``times`` that this is asked, the outcome."""
    left = [outcome] * times

    def answer(slice: Slice, at: str | None) -> Page | None:  # noqa: A002 - as in the contract
        if (slice.query, at) != (query, cursor) or not left:
            return None
        given = left.pop()
        if isinstance(given, Exception):
            raise given
        return given

    return answer


def completed(events: Sequence[Event]) -> list[CrawlSliceCompleted]:
    return [event for event in events if isinstance(event, CrawlSliceCompleted)]


def kinds(events: Sequence[Event]) -> Counter[str]:
    return Counter(type(event).__name__ for event in events)


def woken(events: Sequence[Event]) -> Counter[str]:
    """How often each account was told that there are slices to ask for."""
    return Counter(event.account for event in events if isinstance(event, CrawlSlicesOpened))


async def test_each_page_is_asked_for_once(run_until_idle: RunUntilIdle) -> None:
    catalogue = Catalogue(25, 5)
    events = await run_until_idle(offering(catalogue))
    assert sorted(catalogue.asked, key=str) == [
        ("a", "10", "one"),
        ("a", "20", "one"),
        ("a", None, "one"),
        ("b", None, "one"),
    ]
    assert kinds(events)["RepoDiscovered"] == 30
    assert {
        (each.query, each.seen, each.new, each.total, each.missed, each.requests) for each in completed(events)
    } == {
        ("a", 25, 25, 25, 0, 3),
        ("b", 5, 5, 5, 0, 1),
    }
    [crawl] = [event for event in events if isinstance(event, CrawlCompleted)]
    assert (crawl.slices, crawl.failed_slices, crawl.seen, crawl.new, crawl.requests) == (2, 0, 30, 30, 4)


async def test_a_slice_that_lacks_some_is_asked_again_until_they_have_come(run_until_idle: RunUntilIdle) -> None:
    catalogue = Catalogue(25)
    short = page_of(catalogue.slices["a"], "10")
    catalogue.answers = [once("a", "10", replace(short, repositories=short.repositories[3:]))]
    events = await run_until_idle(offering(catalogue))
    assert [cursor for _, cursor, _ in catalogue.asked] == [None, "10", "20", None, "10"]  # and no further than needed
    [done] = completed(events)
    assert (done.seen, done.total, done.missed, done.requests) == (25, 25, 0, 5)


async def test_what_never_comes_is_reported_after_the_third_time(run_until_idle: RunUntilIdle) -> None:
    catalogue = Catalogue(25)
    short = page_of(catalogue.slices["a"], "10")
    catalogue.answers = [once("a", "10", replace(short, repositories=short.repositories[3:]), times=9)]
    events = await run_until_idle(offering(catalogue))
    assert len(catalogue.asked) == 9
    [done] = completed(events)
    assert (done.seen, done.total, done.missed, done.error) == (22, 25, 3, None)


async def test_a_slice_that_is_too_large_is_replaced(run_until_idle: RunUntilIdle) -> None:
    catalogue = Catalogue(25, 5, accounts=("one", "two"))
    parts = [Slice(query=query) for query in catalogue.slices]
    catalogue.answers = [once("large", None, Page(instead=parts))]
    catalogue.slices["large"] = []
    catalogue.slices = {"large": [], **{name: catalogue.slices[name] for name in ("a", "b")}}

    async def plan(want: Want, context: SourceContext) -> Sequence[Slice]:
        return [Slice(query="large")]

    catalogue.plan = plan  # type: ignore[method-assign]
    events = await run_until_idle(offering(catalogue))
    assert kinds(events)["RepoDiscovered"] == 30
    assert sorted(each.query for each in completed(events)) == ["a", "b"]
    assert len(catalogue.asked) == 5
    [(_, _, replacer), *_] = catalogue.asked
    assert woken(events) == Counter(["one", "two", *({"one", "two"} - {replacer})])


async def test_a_page_that_fails_is_tried_again_and_given_up_in_the_end_while_all_else_goes_on(
    run_until_idle: RunUntilIdle,
) -> None:
    catalogue = Catalogue(25, 5, 5)
    catalogue.answers = [once("a", "10", ValueError("no page today")), once("b", None, Reject("never"), times=9)]
    events = await run_until_idle(offering(catalogue))
    done = {each.query: each for each in completed(events)}
    assert {query: each.seen for query, each in done.items()} == {"a": 25, "b": 0, "c": 5}
    assert done["a"].error is None
    assert done["a"].requests == 4
    assert "never" in (done["b"].error or "")
    assert kinds(events)["TaskDeadLettered"] == 0


async def test_a_limit_is_waited_for_and_no_failure(run_until_idle: RunUntilIdle) -> None:
    catalogue = Catalogue(5)
    catalogue.answers = [once("a", None, RetryLater("a moment", after=timedelta(0), counts=False), times=9)]
    events = await run_until_idle(offering(catalogue))
    [done] = completed(events)
    assert (done.seen, done.error, done.requests) == (5, None, 10)


async def test_a_source_is_left_alone_for_as_long_as_it_says(run_until_idle: RunUntilIdle) -> None:
    catalogue = Catalogue(5)
    asked_at: list[float] = []

    def limit(slice: Slice, cursor: str | None) -> Page | None:  # noqa: A002 - as in the contract
        asked_at.append(time.monotonic())
        if len(asked_at) < 3:
            raise RetryLater("a moment", after=timedelta(seconds=0.2), counts=False)
        return None

    catalogue.answers = [limit]
    await run_until_idle(offering(catalogue))
    assert len(asked_at) == 3
    assert all(later - earlier >= 0.2 for earlier, later in pairwise(asked_at))


@pytest.mark.parametrize("cursors", [["10"], ["x", "10"]], ids=len)
async def test_a_source_whose_pages_go_round_comes_to_an_end_that_says_so(
    run_until_idle: RunUntilIdle, cursors: list[str]
) -> None:
    catalogue = Catalogue(25, 5)

    def go_round(slice: Slice, cursor: str | None) -> Page | None:  # noqa: A002 - as in the contract
        if slice.query != "a" or cursor is None:
            return None
        return Page(repositories=catalogue.slices["a"][10:20], next=cursors[len(catalogue.asked) % len(cursors)])

    catalogue.answers = [go_round]
    events = await run_until_idle(offering(catalogue))
    done = {each.query: each for each in completed(events)}
    assert (done["a"].seen, done["b"].seen, done["b"].error) == (20, 5, None)
    assert "asked for already" in (done["a"].error or "")
    assert len(catalogue.asked) <= 6


async def test_a_slice_in_its_own_place_is_given_up_and_reported(run_until_idle: RunUntilIdle) -> None:
    catalogue = Catalogue(25, 5)
    catalogue.answers = [once("a", None, Page(instead=[Slice(query="a"), Slice(query="c")]), times=99)]
    done = {each.query: each for each in completed(await run_until_idle(offering(catalogue)))}
    assert (done["b"].seen, done["b"].error) == (5, None)
    assert "the slice itself" in (done["a"].error or "")


@pytest.mark.parametrize(
    "error", [ValueError("a\0b"), Reject("a\0b"), RetryLater("a\0b", after=timedelta(0))], ids=ascii
)
async def test_whatever_a_failure_says_it_is_recorded(run_until_idle: RunUntilIdle, error: Exception) -> None:
    catalogue = Catalogue(25, 5)
    catalogue.answers = [once("a", "10", error)]
    done = {each.query: each for each in completed(await run_until_idle(offering(catalogue)))}
    assert done["a"].requests == (2 if isinstance(error, Reject) else 4)
    assert done["b"].seen == 5


async def test_accounts_share_the_slices_and_each_is_asked_for_once(run_until_idle: RunUntilIdle) -> None:
    catalogue = Catalogue(*[15] * 12, accounts=("one", "two", "three"))
    events = await run_until_idle(offering(catalogue))
    assert kinds(events)["RepoDiscovered"] == 180
    assert max(Counter((query, cursor) for query, cursor, _ in catalogue.asked).values()) == 1
    assert len(catalogue.asked) == 24


async def test_when_an_account_is_out_the_others_finish_its_slices(run_until_idle: RunUntilIdle) -> None:
    catalogue = Catalogue(25, 25, 25, accounts=("one", "two"))

    def lose(slice: Slice, cursor: str | None) -> Page | None:  # noqa: A002 - as in the contract
        if "one" not in catalogue.names:
            return None
        if catalogue.asked[-1][2] == "two":
            raise RetryLater("not yet", after=timedelta(0), counts=False)
        if cursor == "10":
            catalogue.names = ["two"]
            raise RetryLater("the token is refused", after=timedelta(0), counts=False)
        return None

    catalogue.answers = [lose]
    events = await run_until_idle(offering(catalogue))
    assert kinds(events)["RepoDiscovered"] == 75
    assert [each.missed for each in completed(events)] == [0, 0, 0]
    assert woken(events) == Counter(one=1, two=2)


async def test_what_comes_after_a_slice_was_taken_over_is_dropped(
    run_until_idle: RunUntilIdle, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    catalogue, ask = Catalogue(25), Session.ask

    async def ask_for_long(session: Session, slice: Slice, cursor: str | None) -> Page:  # noqa: A002 - as in the contract
        page = await ask(session, slice, cursor)
        if len(catalogue.asked) == 2:
            await database.execute("update crawl_slices set account = 'another'")
        return page

    monkeypatch.setattr(Session, "ask", ask_for_long)
    events = await run_until_idle(offering(catalogue))
    assert [cursor for _, cursor, _ in catalogue.asked] == [None, "10", "10", "20"]
    assert kinds(events)["RepoDiscovered"] == 25
    [done] = completed(events)
    assert (done.seen, done.new, done.requests) == (25, 25, 3)


async def test_an_account_waits_for_no_slice_that_another_is_to_try_again(
    database: Database, run_until_idle: RunUntilIdle
) -> None:
    """It would look for it again and again until the other, which is at work on something else, comes back to it."""
    await run_until_idle({})
    crawl = await database.fetchval(SQL.open_crawl, "catalogue", "deep", [], datetime.now(UTC), True)
    await database.execute(SQL.open_slices, crawl, [{"query": "a", "budget": "search", "total": None}])
    accounts = ["one", "two"]
    failed = await database.fetchrow(SQL.take_slice, "catalogue", "one", accounts, None)
    assert failed is not None
    long_ago = datetime.now(UTC) - timedelta(hours=1)
    assert await database.fetchrow(SQL.fail_slice, failed["id"], "one", "no page today", False, long_ago)

    async def wait_of(account: str) -> timedelta | None:
        wait: timedelta | None = await database.fetchval(SQL.next_try, "catalogue", account, accounts, None)
        return wait

    due = await wait_of("one")
    assert due is not None
    assert due < timedelta(0)
    assert await database.fetchrow(SQL.take_slice, "catalogue", "two", accounts, None) is None
    assert await wait_of("two") is None
    await database.execute(SQL.close_budget, "catalogue", "one", "search", timedelta(minutes=5), "limited", None)
    assert await wait_of("two") is not None
    assert await database.fetchrow(SQL.take_slice, "catalogue", "two", accounts, None) is not None


async def test_metadata_that_moved_is_told_apart_from_new_content(
    run_until_idle: RunUntilIdle, database: Database
) -> None:
    catalogue = Catalogue(1)
    plugins = offering(catalogue)

    async def crawled(**changed: object) -> list[type[Event]]:
        before = len(await run_until_idle(plugins))
        [known] = catalogue.slices["a"]
        catalogue.slices["a"] = [replace(known, **changed)]  # type: ignore[arg-type]
        events = await run_until_idle(plugins)
        return [type(event) for event in events[before:] if type(event) in (RepoDiscovered, RepoChanged, RepoGone)]

    assert await crawled() == []
    assert await crawled(full_name="new/name") == [RepoChanged]
    assert await crawled(stars=105) == []
    assert await crawled(stars=111) == [RepoChanged]
    assert await crawled(is_archived=True) == [RepoChanged]
    assert await crawled(licence="MIT") == [RepoChanged]
    assert await crawled(revision="r2", stars=112) == [RepoDiscovered]
    row = await database.fetchrow("select full_name, stars, is_archived, licence, revision from repositories")
    assert row is not None
    assert tuple(row) == ("new/name", 112, True, "MIT", "r2")


async def test_drift_is_counted_from_what_was_told_last(run_until_idle: RunUntilIdle) -> None:
    catalogue = Catalogue(1)
    for stars in (100, 104, 108, 112):
        catalogue.slices["a"] = [replace(catalogue.slices["a"][0], stars=stars)]
        events = await run_until_idle(offering(catalogue))
    assert [event.stars for event in events if isinstance(event, RepoDiscovered | RepoChanged)] == [100, 112]


async def test_one_that_is_gone_is_told_once_and_again_when_it_is_back(
    run_until_idle: RunUntilIdle, database: Database
) -> None:
    catalogue = Catalogue(1)
    plugins = offering(catalogue)
    await run_until_idle(plugins)
    known = catalogue.slices["a"]
    lost = Gone(external_id="0-0", reason="blocked", detail="HTTP 451")
    catalogue.answers = [once("a", None, Page(gone=[lost]), times=2)]
    await run_until_idle(plugins)
    events = await run_until_idle(plugins)
    assert kinds(events)["RepoGone"] == 1
    assert await database.fetchval("select state from repositories") == "gone"
    catalogue.answers = []
    catalogue.slices["a"] = known
    events = await run_until_idle(plugins)
    assert kinds(events)["RepoDiscovered"] == 2
    assert not [event for event in events if isinstance(event, TaskDeadLettered)]


async def test_an_unknown_mode_or_source_is_refused(run_until_idle: RunUntilIdle) -> None:
    events = await run_until_idle(
        offering(Catalogue(1)), events=[CrawlRequested(mode="wild"), CrawlRequested(source="moon")]
    )
    errors = sorted(event.error for event in events if isinstance(event, TaskDeadLettered))
    assert errors == [
        "no mode is called 'wild'; there are: terms, deep, changes, refresh",
        "no source is called 'moon'; there are: catalogue",
    ]


async def test_a_crawl_for_terms_of_a_request_stands_for_no_complete_one(run_until_idle: RunUntilIdle) -> None:
    """What is due stays due, and changes are asked for since the last crawl that would have found them."""
    catalogue = Catalogue(1)
    unscheduled = types.SimpleNamespace(codelupe_settings=codelupe_crawler.codelupe_settings)
    unscheduled.codelupe_subscriptions = codelupe_crawler.codelupe_subscriptions
    plugins = {**offering(catalogue), "crawler": unscheduled}
    by_hand, due = CrawlRequested(mode="terms", terms=("orm",)), CrawlRequested()
    for request in (by_hand, due, by_hand, by_hand, due, due):
        await run_until_idle(plugins, events=[request])
    terms, changes = SourceMode.TERMS, SourceMode.CHANGES
    wanted = [want for want in catalogue.wanted if want.mode != SourceMode.REFRESH]
    assert [want.mode for want in wanted] == [terms, terms, terms, terms, changes, changes]
    _, complete, _, _, first, second = wanted
    assert len(complete.terms) > 200
    assert (first.since, second.since) == (complete.at - timedelta(minutes=10), first.at - timedelta(minutes=10))
