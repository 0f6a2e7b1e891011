"""CodeLupe's deep crawl of the simulated GitHub: real daemons on a real Postgres, by a clock that does not wait."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import anyio
from pydantic import SecretStr

from benchmarks.crawl.bisection import GATE
from codelupe import Database, EventLog
from codelupe.config.sources import Layer, RawSettings, validate
from codelupe.daemon import Daemon
from codelupe.host.discovery import Plugin
from codelupe.host.host import Host
from codelupe.postgres.embedded import embedded_server
from codelupe.postgres.migrate import migrate, own_migrations
from codelupe_crawler.github.settings import GitHubSettings
from codelupe_crawler.github.source import GitHubSource
from codelupe_events import CrawlRequested
from tests.integration.github_daemon import SimulatedTime, crawler_of
from tests.simulated_github.clock import FakeClock
from tests.simulated_github.faults import Faults
from tests.simulated_github.github import SimulatedGitHub
from tests.simulated_github.transport import SimulatedTransport
from tests.simulated_github.verdict import Judge, Verdict
from tests.simulated_github.world import Shape, World

_NOW = 1_790_000_000.0


@dataclass(frozen=True, kw_only=True)
class DeepCrawl:
    """Of all repositories of the languages."""

    seed: int
    shape: Shape
    faults: Faults
    tokens: Mapping[str, str]
    """The account that each belongs to."""
    languages: Sequence[str]
    daemons: int = 1

    async def run(self, folder: Path) -> tuple[Verdict, dict[str, float]]:
        """What it found, and of each account the share of its searches that was used; in a database of its own."""
        clock = FakeClock(_NOW)
        github = SimulatedGitHub(
            World(self.seed, _NOW, self.shape), clock.now, self.tokens, self.faults, seed=self.seed
        )
        judge = Judge(github, [f"language:{language} {GATE}" for language in self.languages])
        async with embedded_server(folder / "postgres") as url, Database(url) as database:
            await migrate(database, own_migrations())
            await EventLog(database).publish(CrawlRequested(mode="deep"))
            async with anyio.create_task_group() as background:
                background.start_soon(clock.run)
                async with anyio.create_task_group() as daemons:
                    for number in range(self.daemons):
                        daemons.start_soon(self._daemon(github, clock, url, folder / str(number)).run)
                background.cancel_scope.cancel()
            rows = await database.fetch("select id from repositories")
        found = [int(row["id"].removeprefix("github:")) for row in rows]
        shares = {name: github.users[name].usage("search") for name in sorted(set(self.tokens.values()))}
        return judge.judge(found), shares

    def _daemon(self, github: SimulatedGitHub, clock: FakeClock, url: str, state: Path) -> Daemon:
        settings = GitHubSettings(tokens=tuple(map(SecretStr, self.tokens)), languages=tuple(self.languages), gate=GATE)
        source = GitHubSource(settings, lambda *_: (), SimulatedTransport(github, clock))
        crawler = crawler_of(source, SimulatedTime(clock))
        host = Host([Plugin(name="crawler", distribution="benchmark", version="0", target=crawler)])
        raw = RawSettings([Layer("command line", {"state_dir": str(state), "database_url": url})])
        return Daemon(validate(raw, host.settings_models(), environment={}).settings, host, until_idle=True)
