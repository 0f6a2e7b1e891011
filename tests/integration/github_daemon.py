"""The crawler's plugin with a simulated GitHub for its only source, here or in a daemon of its own.

``python -m tests.integration.github_daemon URL STATE API_URL CLOCK TOKENS`` crawls until idle; TOKENS are separated by
commas, CLOCK is a :class:`ScaledClock` as text.
"""

from __future__ import annotations

import sys
import types
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Protocol

import anyio
from pydantic import SecretStr

import codelupe_crawler
from codelupe import PagedSource, Subscription, hookimpl
from codelupe.config.sources import Layer, RawSettings, validate
from codelupe.daemon import Daemon
from codelupe.host.discovery import Plugin
from codelupe.host.host import Host
from codelupe_crawler.asking import Asker
from codelupe_crawler.clock import Clock
from codelupe_crawler.github.settings import GitHubSettings
from codelupe_crawler.github.source import GitHubSource
from codelupe_crawler.planning import Planner
from codelupe_crawler.settings import CrawlerSettings
from tests.simulated_github.clock import ScaledClock

GATE = "stars:>=10 forks:>=3 archived:false mirror:false template:false"
LANGUAGES = ("Rust", "Go", "Python", "TypeScript", "JavaScript", "Dart")


class SimulatedClock(Protocol):
    def now(self) -> float: ...

    async def sleep(self, seconds: float) -> None: ...


class SimulatedTime:
    """The crawler's clock, by a simulated one."""

    patience = timedelta(days=365)

    def __init__(self, clock: SimulatedClock) -> None:
        self._clock = clock

    def now(self) -> datetime:
        return datetime.fromtimestamp(self._clock.now(), UTC)

    def imposed(self) -> datetime:
        return self.now()

    async def sleep(self, duration: timedelta) -> None:
        await self._clock.sleep(duration.total_seconds())


def crawler_of(source: PagedSource, clock: Clock) -> object:
    """The plugin without its schedule, crawling one source by that clock."""
    plugin = types.SimpleNamespace(codelupe_settings=codelupe_crawler.codelupe_settings)

    @hookimpl
    def codelupe_repository_sources() -> Sequence[PagedSource]:
        return [source]

    @hookimpl
    def codelupe_subscriptions(settings: CrawlerSettings) -> Sequence[Subscription]:
        handlers: dict[str, Any] = {"crawl-request": Planner(settings, clock), "crawl-slices": Asker(settings, clock)}
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


def main() -> None:
    _, url, state, api_url, clock, tokens = sys.argv
    settings = GitHubSettings(
        tokens=tuple(map(SecretStr, tokens.split(","))), languages=LANGUAGES, gate=GATE, api_url=api_url
    )
    plugin = crawler_of(GitHubSource(settings, lambda *_: ()), SimulatedTime(ScaledClock.from_text(clock)))
    host = Host([Plugin(name="crawler", distribution="test", version="0", target=plugin)])
    raw = RawSettings([Layer("command line", {"state_dir": state, "database_url": url})])
    anyio.run(Daemon(validate(raw, host.settings_models(), environment={}).settings, host, until_idle=True).run)


if __name__ == "__main__":
    main()
