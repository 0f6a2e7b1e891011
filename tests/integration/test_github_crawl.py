"""GitHub crawled by the daemon, simulated: see ``tests/simulated_github``.

The real API cannot be had here. Shapes and limits of the simulated one are checked against GitHub's own descriptions in
its own tests; data, faults and time are ours.
"""

from __future__ import annotations

import types
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import anyio
import pytest
from pydantic import SecretStr

import codelupe_crawler
from codelupe import Database, PagedSource, Subscription, hookimpl
from codelupe_crawler.asking import Asker
from codelupe_crawler.github.settings import GitHubSettings
from codelupe_crawler.github.source import GitHubSource
from codelupe_crawler.planning import Planner
from codelupe_crawler.settings import CrawlerSettings
from codelupe_events import CrawlRequested
from tests.conftest import RunUntilIdle
from tests.simulated_github.clock import FakeClock
from tests.simulated_github.faults import ALL, NONE, Faults
from tests.simulated_github.github import SimulatedGitHub
from tests.simulated_github.transport import SimulatedTransport
from tests.simulated_github.verdict import Judge, Verdict
from tests.simulated_github.world import Shape, World

pytestmark = pytest.mark.anyio

BEGAN = 1_790_000_000.0
GATE = "stars:>=10 forks:>=3 archived:false mirror:false template:false"
LANGUAGES = ("Rust", "Go", "Python", "TypeScript", "JavaScript", "Dart")


class SimulatedTime:
    """The crawler's clock, by the simulated one."""

    patience = timedelta(days=365)

    def __init__(self, clock: FakeClock) -> None:
        self._clock = clock

    def now(self) -> datetime:
        return datetime.fromtimestamp(self._clock.now(), UTC)

    def imposed(self) -> datetime:
        return self.now()

    async def sleep(self, duration: timedelta) -> None:
        await self._clock.sleep(duration.total_seconds())


class Hub:
    """A simulated GitHub, and the crawler's plugin that asks it."""

    def __init__(
        self, repositories: int, tokens: dict[str, str], faults: Faults, *, seed: int = 1, **settings: Any
    ) -> None:
        self.clock = FakeClock(BEGAN)
        self.world = World(seed, self.clock.now(), Shape(repositories=repositories))
        self.github = SimulatedGitHub(self.world, self.clock.now, tokens, faults, seed=seed)
        self._judge = Judge(self.github, [f"language:{one} {GATE}" for one in LANGUAGES])
        self.settings = GitHubSettings(tokens=tuple(map(SecretStr, tokens)), languages=LANGUAGES, gate=GATE, **settings)

    def plugin(self) -> object:
        time = SimulatedTime(self.clock)
        source = GitHubSource(self.settings, lambda *_: (), SimulatedTransport(self.github, self.clock))
        plugin = types.SimpleNamespace(codelupe_settings=codelupe_crawler.codelupe_settings)

        @hookimpl
        def codelupe_repository_sources() -> Sequence[PagedSource]:
            return [source]

        @hookimpl
        def codelupe_subscriptions(settings: CrawlerSettings) -> Sequence[Subscription]:
            handlers: dict[str, Any] = {"crawl-request": Planner(settings, time), "crawl-slices": Asker(time)}
            return [
                Subscription(
                    name=each.name, events=each.events, handler=handlers[each.name], emits=each.emits, timeout=None
                )
                for each in codelupe_crawler.codelupe_subscriptions(settings)
                if each.name in handlers
            ]

        plugin.codelupe_repository_sources = codelupe_repository_sources
        plugin.codelupe_subscriptions = codelupe_subscriptions
        return plugin

    async def verdict(self, database: Database) -> Verdict:
        found = [int(row["id"].removeprefix("github:")) for row in await database.fetch("select id from repositories")]
        return self._judge.judge(found)


@asynccontextmanager
async def running(clock: FakeClock) -> AsyncIterator[None]:
    async with anyio.create_task_group() as background:
        background.start_soon(clock.run)
        yield
        background.cancel_scope.cancel()


@pytest.mark.parametrize(("faults", "most", "least"), [(NONE, 1.10, 0.99), (ALL, 1.18, 0.98)], ids=["clean", "faults"])
async def test_a_deep_crawl_finds_all_with_few_requests_and_within_all_limits(
    run_until_idle: RunUntilIdle, database: Database, faults: Faults, most: float, least: float
) -> None:
    """The bars are those for 200,000 repositories, which ``make bench-crawl`` prints; fewer are harder."""
    hub = Hub(60_000, {"token-a": "ann"}, faults)
    async with running(hub.clock):
        await run_until_idle({"crawler": hub.plugin()}, events=[CrawlRequested(mode="deep")])
    verdict = await hub.verdict(database)
    assert not verdict.violations
    assert verdict.recall >= least
    assert verdict.per_hundred <= most
