"""The verdict on a repository: when it is given, when it turns, and when it is an event."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Sequence
from importlib.resources import files
from itertools import pairwise
from pathlib import Path
from typing import Any, Protocol, TypeVar

import pytest

import codelupe_crawler
import codelupe_downloader
import codelupe_filters
from codelupe import Database, Repository, load_queries
from codelupe.daemon import Daemon
from codelupe.log import EventLog
from codelupe_events import (
    CrawlRequested,
    Event,
    RepoAccepted,
    RepoChanged,
    RepoCloned,
    RepoDescribed,
    RepoDiscovered,
    RepoGone,
    RepoRejected,
)
from tests.conftest import RunUntilIdle
from tests.git_server import make_repository
from tests.integration.stored_files import add_repository
from tests.integration.test_cli import Shell
from tests.integration.test_crawler import Shop, offering

pytestmark = pytest.mark.anyio

E = TypeVar("E", bound=Event)
CRAWLER = load_queries("codelupe_sql", "crawler")
FILTERS: dict[str, object] = {"filters": codelupe_filters}
PIPELINE = FILTERS | {"downloader": codelupe_downloader}
NO_LIMITS = {"filters": {"min_stars": 10, "min_forks": 0, "min_score": 0}}


class Crawled(Protocol):
    def __call__(
        self,
        *events: RepoDescribed | RepoGone,
        plugins: dict[str, object] = ...,
        settings: dict[str, Any] = ...,
    ) -> Awaitable[list[Event]]: ...


@pytest.fixture
def crawled(make_daemon: Callable[..., Daemon], database: Database) -> Crawled:
    """Records descriptions as a crawl does, runs the plugins until nothing is left to do, and returns the whole log."""

    async def run(
        *events: RepoDescribed | RepoGone,
        plugins: dict[str, object] = FILTERS,
        settings: dict[str, Any] = NO_LIMITS,
    ) -> list[Event]:
        log = EventLog(database)
        for event in events:
            await record(database, event)
            await log.publish(event)
        outcome = await make_daemon(plugins, settings).run()
        assert not outcome.failed_jobs
        return [recorded.decode() async for recorded in log.read()]

    return run


async def record(database: Database, event: RepoDescribed | RepoGone) -> None:
    if isinstance(event, RepoGone):
        await database.execute(CRAWLER.mark_gone, [event.repository_id])
    else:
        new = [event.repository_id] if isinstance(event, RepoDiscovered) else []
        await database.execute(CRAWLER.write_repositories, [Repository.from_event(event).to_row()], new)


def described(kind: type[E], name: str = "owner/r", **values: Any) -> E:
    known = {"source": "test", "full_name": name, "url": f"https://host/{name}", "revision": "1", "stars": 500}
    return kind(repository_id="test:1", **known | values)


def verdicts(events: Sequence[Event]) -> list[Event]:
    return [event for event in events if isinstance(event, RepoAccepted | RepoRejected)]


def kinds(events: Sequence[Event]) -> list[str]:
    return [type(event).__name__ for event in verdicts(events)]


async def state_of(database: Database) -> tuple[Any, ...]:
    row = await database.fetchrow("select state, verdict, full_name from repositories where id = 'test:1'")
    assert row is not None
    return tuple(row)


async def test_rising_stars_and_a_new_owner_turn_the_verdict_and_clone_once(
    crawled: Crawled, database: Database, tmp_path: Path
) -> None:
    make_repository(tmp_path / "origin", {"a.py": b"x = 1\n"})
    url = (tmp_path / "origin").as_uri()
    few = described(RepoDiscovered, "old/r", url=url, stars=9)
    assert kinds(await crawled(few, plugins=PIPELINE)) == ["RepoRejected"]
    many = described(RepoChanged, "new/r", url=url, stars=500)
    events = await crawled(many, plugins=PIPELINE)
    assert kinds(events) == ["RepoRejected", "RepoAccepted"]
    accepted = verdicts(events)[-1]
    assert isinstance(accepted, RepoAccepted)
    assert (accepted.full_name, accepted.url, accepted.revision) == ("new/r", url, "1")
    [cloned] = [event for event in events if isinstance(event, RepoCloned)]
    assert cloned.path.startswith("new/r")
    assert await state_of(database) == ("extracted", "accepted", "new/r")

    more = described(RepoChanged, "new/r", url=url, stars=5000)
    events = await crawled(more, plugins=PIPELINE)
    assert kinds(events) == ["RepoRejected", "RepoAccepted"]
    assert len([event for event in events if isinstance(event, RepoCloned)]) == 1
    score = await database.fetchval("select score from repositories")
    assert score > accepted.score


async def test_crawls_that_see_a_repository_rise_move_and_end_clone_it_once(
    run_until_idle: RunUntilIdle, tmp_path: Path
) -> None:
    make_repository(tmp_path / "origin", {"a.py": b"x = 1\n"})
    url = (tmp_path / "origin").as_uri()
    shop = Shop("shop")
    plugins = PIPELINE | {"crawler": codelupe_crawler, "shop": offering(shop)}

    async def crawl(name: str, stars: int, **values: Any) -> list[str]:
        """The types of the events about the repository, and what it is called in the last verdict."""
        shop.repositories = [
            Repository(source="shop", external_id="1", full_name=name, url=url, revision="r", stars=stars, **values)
        ]
        events = await run_until_idle(plugins, NO_LIMITS, [CrawlRequested()])
        return [type(event).__name__ for event in events if event.stream() == "repo/shop:1"]

    first = await crawl("old/r", 9)
    assert first == ["RepoDiscovered", "RepoRejected"]
    cloned = ["RepoChanged", "RepoAccepted", "RepoCloned", "FilesExtracted"]
    assert (risen := await crawl("new/r", 500)) == [*first, *cloned]
    assert await crawl("new/r", 501) == risen  # no news
    assert (more := await crawl("new/r", 5000)) == [*risen, "RepoChanged"]
    assert (archived := await crawl("new/r", 5000, is_archived=True)) == [*more, "RepoChanged", "RepoRejected"]
    assert await crawl("new/r", 5001, is_archived=True) == archived


async def test_a_star_that_turns_the_verdict_is_news_and_others_are_not(run_until_idle: RunUntilIdle) -> None:
    shop = Shop("shop")
    plugins = FILTERS | {"crawler": codelupe_crawler, "shop": offering(shop)}
    settings = {"filters": {**NO_LIMITS["filters"], "min_stars": 100}}
    told = []
    for stars in (98, 99, 101, 102, 99, 98):
        shop.repositories = [
            Repository(source="shop", external_id="1", full_name="o/r", url="https://host/r", revision="r", stars=stars)
        ]
        events = await run_until_idle(plugins, settings, [CrawlRequested()])
        told.append([type(event).__name__ for event in events if event.stream() == "repo/shop:1"])
    news = [later[len(earlier) :] for earlier, later in pairwise([[], *told])]
    accepted, rejected = ["RepoChanged", "RepoAccepted"], ["RepoChanged", "RepoRejected"]
    assert news == [["RepoDiscovered", "RepoRejected"], [], accepted, [], rejected, []]


async def test_archiving_rejects_once_and_its_end_accepts_once(crawled: Crawled, database: Database) -> None:
    await crawled(described(RepoDiscovered))
    await database.execute("update repositories set state = 'scored'")
    archived = described(RepoChanged, is_archived=True)
    events = await crawled(archived)
    assert kinds(events) == ["RepoAccepted", "RepoRejected"]
    rejected = verdicts(events)[-1]
    assert isinstance(rejected, RepoRejected)
    assert [reason.rule for reason in rejected.reasons] == ["archived"]
    assert await state_of(database) == ("rejected", "rejected", "owner/r")

    events = await crawled(described(RepoChanged, is_archived=True, stars=5))
    assert kinds(events) == ["RepoAccepted", "RepoRejected"]
    reasons = await database.fetchval("select reasons from repositories")
    assert [reason["rule"] for reason in reasons] == ["min-stars", "archived"]

    assert kinds(await crawled(described(RepoChanged))) == ["RepoAccepted", "RepoRejected", "RepoAccepted"]
    assert await state_of(database) == ("scored", "accepted", "owner/r")
    assert await database.fetchval("select reasons from repositories") == []


@pytest.mark.parametrize("state", ["accepted", "cloned", "empty", "extracted", "scored"])
async def test_what_is_accepted_stays_where_it_is_whatever_moves(
    crawled: Crawled, database: Database, state: str
) -> None:
    await crawled(described(RepoDiscovered))
    await database.execute("update repositories set state = $1", state)
    moved: dict[str, Any] = {"stars": 700, "topics": ("a",), "licence": "MIT", "description": "new", "watchers": 3}
    events = await crawled(described(RepoChanged, "owner/renamed", **moved), described(RepoDiscovered, **moved))
    # The second one has new content, say; it is judged as such although its revision is known.
    assert kinds(events) == ["RepoAccepted", "RepoAccepted"]
    await database.execute("update repositories set state = $1", state)
    events = await crawled(described(RepoChanged, "owner/again", **moved))
    assert kinds(events) == ["RepoAccepted", "RepoAccepted"]
    assert await state_of(database) == (state, "accepted", "owner/again")


async def test_a_new_revision_is_judged_and_cloned_anew(crawled: Crawled, database: Database) -> None:
    await crawled(described(RepoDiscovered))
    await database.execute("update repositories set state = 'scored'")
    events = await crawled(described(RepoDiscovered, "owner/renamed", revision="2"))
    assert kinds(events) == ["RepoAccepted", "RepoAccepted"]
    assert await state_of(database) == ("accepted", "accepted", "owner/renamed")
    events = await crawled(described(RepoDiscovered, revision="3", is_fork=True))
    assert kinds(events) == ["RepoAccepted", "RepoAccepted", "RepoRejected"]
    events = await crawled(described(RepoDiscovered, revision="4", is_fork=True))
    assert kinds(events) == ["RepoAccepted", "RepoAccepted", "RepoRejected", "RepoRejected"]


async def test_a_clone_that_ends_late_does_not_hide_a_new_revision(crawled: Crawled, database: Database) -> None:
    await crawled(described(RepoDiscovered))
    again = described(RepoDiscovered, revision="2")
    await record(database, again)
    await database.execute("update repositories set state = 'cloned'")  # of revision 1
    await EventLog(database).publish(again)
    assert [event.revision for event in verdicts(await crawled()) if isinstance(event, RepoAccepted)] == ["1", "2"]


async def test_what_is_rejected_before_it_is_cloned_and_read_stays_so_until_it_is_accepted_again(
    crawled: Crawled, database: Database, tmp_path: Path
) -> None:
    make_repository(tmp_path / "origin", {"a.py": b"x = 1\n"})
    url = (tmp_path / "origin").as_uri()
    await crawled(described(RepoDiscovered, url=url), described(RepoChanged, url=url, is_archived=True))
    events = await crawled(plugins=PIPELINE)
    assert [type(event).__name__ for event in events][-2:] == ["RepoCloned", "FilesExtracted"]
    assert await state_of(database) == ("rejected", "rejected", "owner/r")
    events = await crawled(described(RepoChanged, url=url, is_archived=True, stars=900), plugins=PIPELINE)
    assert kinds(events) == ["RepoAccepted", "RepoRejected"]
    await crawled(described(RepoChanged, url=url), plugins=PIPELINE)
    assert await state_of(database) == ("scored", "accepted", "owner/r")  # none of its files is to be scored


STEPS: dict[str, tuple[Any, ...]] = {
    "downloader.record_clone": ("test:1", "c", "owner/r", 1, 7),
    "downloader.record_unmoved": ("test:1", "owner/r", 7),
    "downloader.record_empty": ("test:1", 7),
    "filters.finish_extraction": ("test:1", "c"),
    "scorers.finish_scoring": ("test:1", "c"),
}
"""What stages say when they are through with a repository, with arguments."""
DECISIONS = {"filters.record_verdict", "crawler.mark_gone", "downloader.record_gone", "forget.remember"}
"""What says that a repository is out, or is not any more."""


def test_every_statement_that_moves_a_repository_on_is_known() -> None:
    folder = files("codelupe_sql") / "queries"
    found = set()
    for file in folder.iterdir():
        for name, text in re.findall(r"-- name: (\w+)\n(.*?)(?=-- name: |\Z)", file.read_text(), re.DOTALL):
            if re.search(r"update repositories\b.*\bset\b.*\bstate = ", text, re.DOTALL):
                found.add(f"{file.name.removesuffix('.sql')}.{name}")
    assert found == STEPS.keys() | DECISIONS


@pytest.mark.parametrize("state", ["rejected", "gone", "forgotten"])
@pytest.mark.parametrize("step", STEPS)
async def test_no_stage_that_comes_to_its_end_brings_back_what_is_out(
    database: Database, step: str, state: str
) -> None:
    await add_repository(database, "owner/r", id="test:1", state=state)
    module, name = step.split(".")
    await database.execute(getattr(load_queries("codelupe_sql", module), name), *STEPS[step])
    row = await database.fetchrow("select state, path from repositories")
    assert row is not None
    assert row["state"] == state
    assert state != "forgotten" or row["path"] is None


async def test_what_is_forgotten_is_neither_rejected_nor_gone(crawled: Crawled, database: Database) -> None:
    await add_repository(database, "owner/r", id="test:1", state="scored")
    await EventLog(database).publish(described(RepoChanged))
    await database.execute(load_queries("codelupe_sql", "forget").remember, "test:1", "me", "asked for")
    await crawled()
    assert (await state_of(database))[0] == "forgotten"
    await database.execute(load_queries("codelupe_sql", "downloader").record_gone, "test:1", 7)
    assert (await state_of(database))[0] == "forgotten"


async def test_an_older_description_changes_nothing(crawled: Crawled, database: Database) -> None:
    old, new = described(RepoDiscovered, stars=9), described(RepoDiscovered, "new/name", revision="2")
    await record(database, old)
    await record(database, new)
    log = EventLog(database)
    await log.publish(old)
    assert kinds(await crawled()) == []
    assert await state_of(database) == ("discovered", None, "new/name")
    await log.publish(new)
    assert kinds(await crawled()) == ["RepoAccepted"]


async def test_a_replay_says_nothing_new_and_only_the_last_description_counts(
    crawled: Crawled, database: Database, shell: Shell
) -> None:
    await crawled(described(RepoDiscovered), described(RepoChanged, stars=9), described(RepoChanged, "new/r", stars=30))
    before = await state_of(database), kinds(await crawled())
    assert before[1] == ["RepoAccepted", "RepoRejected", "RepoAccepted"]
    for _ in range(2):
        assert (await shell("replay", "filters.repository-rules", "--yes")).code == 0
        assert (await state_of(database), kinds(await crawled())) == before

    # By other settings the replay judges the last description, once.
    settings = {"filters": {"min_stars": 31, "min_forks": 0, "min_score": 0}}
    assert (await shell("replay", "filters.repository-rules", "--yes")).code == 0
    events = await crawled(settings=settings)
    assert kinds(events) == [*before[1], "RepoRejected"]
    assert await state_of(database) == ("rejected", "rejected", "new/r")


async def test_what_is_gone_is_not_judged_and_starts_again_when_it_is_back(
    crawled: Crawled, database: Database
) -> None:
    gone = RepoGone(repository_id="test:1", full_name="owner/r", url="https://host/owner/r", reason="private")
    await crawled(described(RepoDiscovered))
    changed = described(RepoChanged, is_archived=True)
    await record(database, changed)
    await record(database, gone)
    log = EventLog(database)
    await log.publish(changed)
    await log.publish(gone)
    assert kinds(await crawled()) == ["RepoAccepted"]
    assert (await state_of(database))[0] == "gone"
    assert kinds(await crawled(described(RepoDiscovered))) == ["RepoAccepted", "RepoAccepted"]
    assert (await state_of(database))[0] == "accepted"


async def test_the_forgotten_stays_forgotten_under_any_name(crawled: Crawled, database: Database, shell: Shell) -> None:
    await crawled(described(RepoDiscovered, "owner/r", stars=9))
    assert (await shell("forget", "owner/r", "--yes")).code == 0
    events = await crawled(described(RepoChanged, "other/name", stars=500))
    assert "RepoAccepted" not in kinds(events)
    assert (await state_of(database))[0] == "forgotten"


async def test_repositories_from_before_the_verdicts_keep_theirs(crawled: Crawled, database: Database) -> None:
    """What 0022 makes of a row: a verdict about its revision, so that metadata that moves clones nothing."""
    await add_repository(
        database, "owner/r", id="test:1", state="scored", verdict="accepted", judged_revision="1", stars=20
    )
    assert kinds(await crawled(described(RepoChanged, stars=900))) == []
    assert kinds(await crawled(described(RepoChanged, is_fork=True))) == ["RepoRejected"]


async def test_the_verdict_is_that_of_the_rules_alone(crawled: Crawled, database: Database) -> None:
    """A score too low is a rule's objection, as a crawl needs to compare verdicts."""
    events = await crawled(described(RepoDiscovered), settings={"filters": {"min_score": 90, "min_forks": 0}})
    [rejected] = verdicts(events)
    assert isinstance(rejected, RepoRejected)
    assert [reason.rule for reason in rejected.reasons] == ["min-score"]
    assert rejected.reasons[0].detail == f"score {rejected.score:g}, at least 90 is asked for"


@pytest.fixture
def shell(tmp_path: Path, database_url: str) -> Shell:
    return Shell(tmp_path, CODELUPE_DATABASE_URL=database_url)
