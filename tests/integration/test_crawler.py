"""The crawler in a real daemon on a real Postgres."""

from __future__ import annotations

import types
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest
from structlog.testing import capture_logs

import codelupe_crawler
from codelupe import Database, Repository, RepositorySource, hookimpl
from codelupe_events import CrawlRequested, CrawlSliceCompleted, Event, RepoDiscovered, TaskDeadLettered
from tests.conftest import RunUntilIdle
from tests.git_server import make_repository

pytestmark = pytest.mark.anyio


class Shop:
    """A third party's source whose repositories change."""

    def __init__(self, name: str, *repositories: Repository, fails: bool = False) -> None:
        self.name = name
        self.repositories = list(repositories)
        self.fails = fails

    async def discover(self) -> AsyncIterator[Repository]:
        for repository in self.repositories:
            yield repository
        if self.fails:
            raise RuntimeError("the shop is on fire")


def offering(*sources: RepositorySource) -> object:
    plugin = types.SimpleNamespace()

    @hookimpl
    def codelupe_repository_sources() -> list[RepositorySource]:
        return list(sources)

    plugin.codelupe_repository_sources = codelupe_repository_sources
    return plugin


def repository(number: int, revision: str = "r1", *, name: str | None = None, source: str = "shop") -> Repository:
    full_name = name or f"owner/repo-{number}"
    url = f"https://host/{full_name}"
    return Repository(source=source, external_id=str(number), full_name=full_name, url=url, revision=revision)


def discovered(events: list[Event]) -> list[tuple[str, str]]:
    return [(event.repository_id, event.revision) for event in events if isinstance(event, RepoDiscovered)]


def slices(events: list[Event]) -> list[tuple[str, int, int]]:
    return [(event.source, event.seen, event.new) for event in events if isinstance(event, CrawlSliceCompleted)]


async def test_what_is_new_is_told_once(run_until_idle: RunUntilIdle, database: Database) -> None:
    shop = Shop("shop", *map(repository, range(120)))
    plugins = {"crawler": codelupe_crawler, "shop": offering(shop)}
    events = await run_until_idle(plugins)
    assert sorted(discovered(events)) == sorted((f"shop:{number}", "r1") for number in range(120))
    assert slices(events) == [("shop", 120, 120)]
    again = await run_until_idle(plugins)
    assert (discovered(again), slices(again)) == (discovered(events), [("shop", 120, 120), ("shop", 120, 0)])
    assert await database.fetchval("select count(*) from repositories where state = 'discovered'") == 120


async def test_what_a_source_says_is_recorded_while_it_goes_on(
    run_until_idle: RunUntilIdle, database: Database
) -> None:
    recorded = []

    class LongStory(Shop):
        async def discover(self) -> AsyncIterator[Repository]:
            for number in range(160):
                recorded.append(await database.fetchval("select count(*) from events where type = 'RepoDiscovered'"))
                yield repository(number)

    await run_until_idle({"crawler": codelupe_crawler, "shop": offering(LongStory("shop"))})
    assert recorded == [0] * 50 + [50] * 50 + [100] * 50 + [150] * 10


async def test_a_new_revision_starts_the_repository_again_even_if_it_is_an_old_one(
    run_until_idle: RunUntilIdle, database: Database
) -> None:
    shop = Shop("shop", repository(1))
    plugins = {"crawler": codelupe_crawler, "shop": offering(shop)}
    await run_until_idle(plugins)
    await database.execute("update repositories set state = 'cloned', score = 3, commit = 'c', path = 'p'")
    shop.repositories = [repository(1, "r2", name="owner/renamed")]
    await run_until_idle(plugins)
    row = await database.fetchrow("select * from repositories")
    assert row is not None
    assert (row["id"], row["full_name"], row["url"]) == ("shop:1", "owner/renamed", "https://host/owner/renamed")
    assert (row["state"], row["score"], row["commit"], row["path"]) == ("discovered", None, "c", "p")
    shop.repositories = [repository(1, "r1", name="owner/renamed")]
    events = await run_until_idle(plugins)
    assert discovered(events) == [("shop:1", "r1"), ("shop:1", "r2"), ("shop:1", "r1")]


async def test_a_source_that_fails_does_not_stop_the_others(run_until_idle: RunUntilIdle) -> None:
    burning = Shop("burning", repository(1, source="burning"), fails=True)
    lying = Shop("lying", Repository(**{**vars(repository(2, source="lying")), "stars": "many"}))
    plugins = {"crawler": codelupe_crawler, "shops": offering(burning, lying, Shop("shop", repository(3)))}
    with capture_logs() as logs:
        events = await run_until_idle(plugins)
    assert sorted(discovered(events)) == [("burning:1", "r1"), ("shop:3", "r1")]
    failures = {entry["source"]: entry["error"] for entry in logs if entry["event"] == "source_failed"}
    assert set(failures) == {"burning", "lying"}
    assert failures["burning"].endswith(
        "'burning' of the plugin 'shops' failed on its discovery: RuntimeError: the shop is on fire"
    )


async def test_hostile_text_is_stored_without_what_postgres_cannot_hold(
    run_until_idle: RunUntilIdle, database: Database
) -> None:
    hostile = Repository(
        source="shop",
        external_id="1\x00",
        full_name="o/\ud800'; drop table repositories; --",
        url="https://host/\x00",
        revision="r\udfff",
        description="\x00" * 5000,
        topics=("a\x00", "{curly}", 'quo"te'),
    )
    events = await run_until_idle({"crawler": codelupe_crawler, "shop": offering(Shop("shop", hostile, hostile))})
    assert discovered(events) == [("shop:1\ufffd", "r\ufffd")]
    row = await database.fetchrow("select * from repositories")
    assert row is not None
    assert row["full_name"] == "o/\ufffd'; drop table repositories; --"
    assert row["topics"] == ["a\ufffd", "{curly}", 'quo"te']


async def test_a_request_crawls_one_source_or_all(run_until_idle: RunUntilIdle, database: Database) -> None:
    sources = [Shop(name, repository(1, source=name)) for name in ("one", "two")]
    requests = types.SimpleNamespace(codelupe_settings=codelupe_crawler.codelupe_settings)
    requests.codelupe_subscriptions = codelupe_crawler.codelupe_subscriptions
    plugins = {"crawler": requests, "shops": offering(*sources)}
    events = await run_until_idle(plugins, events=[CrawlRequested(source="two")])
    assert discovered(events) == [("two:1", "r1")]
    events = await run_until_idle(plugins, events=[CrawlRequested(), CrawlRequested()])
    assert discovered(events) == [("two:1", "r1"), ("one:1", "r1")]
    assert set(slices(events)) == {("one", 1, 1), ("two", 1, 0), ("two", 1, 1)}
    events = await run_until_idle(plugins, events=[CrawlRequested(source="three")])
    [dead_letter] = [event for event in events if isinstance(event, TaskDeadLettered)]
    assert dead_letter.error == "no source is called 'three'; there are: one, two"


async def test_without_sources_the_crawler_says_once_how_to_name_one(run_until_idle: RunUntilIdle) -> None:
    with capture_logs() as logs:
        assert await run_until_idle({"crawler": codelupe_crawler}) == []
    [warning] = [entry for entry in logs if entry["event"] == "no_sources"]
    assert "--source" in warning["hint"]
    assert "[plugins.crawler.github]" in warning["hint"]


async def test_without_git_the_plugin_says_what_it_lacks(
    run_until_idle: RunUntilIdle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with capture_logs() as logs:
        await run_until_idle({"crawler": codelupe_crawler}, {"crawler": {"installed_packages": True}})
    [broken] = [entry for entry in logs if entry["event"] == "plugin_broken"]
    assert "git is not in PATH" in broken["error"]
    assert "apt-get install git" in broken["error"]


async def test_named_sources_and_real_packages_arrive(
    run_until_idle: RunUntilIdle, database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from codelupe_crawler import local
    from codelupe_crawler.packages import installed_packages

    def few(roots: Sequence[str]) -> list[local.Origin]:
        return [package for package in installed_packages(roots) if package.label in {"pluggy", "anyio", "rich"}]

    monkeypatch.setattr(local, "installed_packages", few)
    commit = make_repository(tmp_path / "mine" / "project", {"a.py": b"a = 1\n"}).head.commit.hexsha
    settings = {"installed_packages": True, "sources": [str(tmp_path / "mine" / "project"), str(tmp_path / "no")]}
    with capture_logs() as logs:
        events = await run_until_idle({"crawler": codelupe_crawler}, {"crawler": settings})
    found = dict(discovered(events))
    assert set(found) == {"local:pluggy", "local:anyio", "local:rich", f"local:{tmp_path}/mine/project"}
    assert found[f"local:{tmp_path}/mine/project"] == commit
    assert [entry["source"] for entry in logs if entry["event"] == "source_unavailable"] == [str(tmp_path / "no")]
    row = await database.fetchrow("select * from repositories where id = 'local:pluggy'")
    assert row is not None
    assert row["url"].startswith(f"file://{tmp_path}/state/sources/pluggy-")
    assert (row["licence"], row["language"], row["full_name"]) == ("MIT", "Python", "pypi/pluggy")
