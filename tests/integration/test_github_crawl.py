"""GitHub crawled by the daemon, simulated: see ``tests/simulated_github``.

The real API cannot be had here. Shapes and limits of the simulated one are checked against GitHub's own descriptions in
its own tests; data, faults and time are ours.
"""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest
from pydantic import SecretStr

from codelupe import Database, EventLog
from codelupe.daemon import Daemon
from codelupe_crawler.github.settings import GitHubSettings
from codelupe_crawler.github.source import GitHubSource
from codelupe_events import CrawlRequested, RepoDiscovered
from tests.conftest import RunUntilIdle
from tests.integration.github_daemon import GATE, LANGUAGES, SimulatedTime, crawler_of
from tests.processes import HANGS
from tests.simulated_github.clock import FakeClock, ScaledClock
from tests.simulated_github.faults import ALL, NONE, Faults
from tests.simulated_github.github import SimulatedGitHub
from tests.simulated_github.server import serve
from tests.simulated_github.transport import SimulatedTransport
from tests.simulated_github.verdict import Judge, Verdict
from tests.simulated_github.world import Shape, World

pytestmark = pytest.mark.anyio

BEGAN = 1_790_000_000.0


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
        source = GitHubSource(self.settings, lambda *_: (), SimulatedTransport(self.github, self.clock))
        return crawler_of(source, SimulatedTime(self.clock))

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


async def test_two_daemons_with_three_tokens_of_two_accounts_use_each_limit_to_the_full(
    database: Database, make_daemon: Callable[..., Daemon], tmp_path: Path
) -> None:
    tokens = {"token-a": "ann", "token-b": "ann", "token-c": "bob"}
    hub = Hub(60_000, tokens, NONE)
    await EventLog(database).publish(CrawlRequested(mode="deep"))
    async with running(hub.clock), anyio.create_task_group() as daemons:
        for name in ("one", "other"):
            daemons.start_soon(make_daemon({"crawler": hub.plugin()}, state_dir=str(tmp_path / name)).run)
    verdict = await hub.verdict(database)
    assert not verdict.violations
    assert verdict.recall >= 0.99
    assert verdict.per_hundred <= 1.10
    for account in ("ann", "bob"):
        assert used_share(hub.github.users[account].times["search"]) >= 0.9


def used_share(times: Sequence[float]) -> float:
    """Of the 30 searches a minute, between the first and the last of them."""
    return (len(times) - 1) / ((times[-1] - times[0]) / 60 * 30)


async def test_killed_ten_times_a_crawl_finds_the_same_with_at_most_a_request_more_each_time(
    database: Database, database_url: str, tmp_path: Path
) -> None:
    world = World(1, BEGAN, Shape(repositories=8_000))
    await EventLog(database).publish(CrawlRequested(mode="deep"))
    clock = ScaledClock.start(BEGAN, pace=40)
    github = SimulatedGitHub(world, clock.now, {"token-a": "ann"}, NONE, seed=1)
    judge = Judge(github, [f"language:{one} {GATE}" for one in LANGUAGES])
    with serve(github, clock) as server:
        arguments = [sys.executable, "-m", "tests.integration.github_daemon", database_url, str(tmp_path), server.url]
        arguments += [clock.text(), "token-a"]
        for kill in range(1, 11):
            daemon = await anyio.open_process(arguments, stdout=None, stderr=None)
            with anyio.fail_after(HANGS):
                while github.requests.total() < 6 * kill and daemon.returncode is None:
                    await anyio.sleep(0.005)
            assert daemon.returncode is None
            daemon.kill()
            await daemon.wait()
        with anyio.fail_after(3 * HANGS):
            await anyio.run_process(arguments)
    found = {row["id"] for row in await database.fetch("select id from repositories")}
    verdict = judge.judge([int(each.removeprefix("github:")) for each in found])
    assert verdict.recall >= 0.99
    assert not verdict.violations
    recorded = await database.fetchval("select sum(requests) from crawl_slices")
    assert github.requests.total() - github.requests["core"] <= recorded + 10


async def test_a_crawl_for_changes_asks_for_what_was_pushed_since_and_nothing_else_is_news(
    run_until_idle: RunUntilIdle, database: Database
) -> None:
    hub = Hub(20_000, {"token-a": "ann"}, NONE)
    plugins = {"crawler": hub.plugin()}
    async with running(hub.clock):
        before = await run_until_idle(plugins, events=[CrawlRequested(mode="deep")])
        known = {row["id"] for row in await database.fetch("select id from repositories")}
        asked = hub.github.requests.total()
        hub.clock.move_on(86_400)
        pushed = set()
        for index in range(0, 20_000, 50):
            hub.world.change(index, "pushed")
            if (key := f"github:{hub.world.id[index]}") in known:
                pushed.add(key)
        events = (await run_until_idle(plugins, events=[CrawlRequested(mode="changes")]))[len(before) :]
    told = {event.repository_id for event in events if isinstance(event, RepoDiscovered)}
    assert pushed <= told
    assert not hub.github.violations
    assert hub.github.requests.total() - asked <= 1.5 * len(told) / 100 + 50
    revisions = {event.repository_id: event.revision for event in before if isinstance(event, RepoDiscovered)}
    assert not [
        each
        for each in events
        if isinstance(each, RepoDiscovered) and revisions.get(each.repository_id) == each.revision
    ]
