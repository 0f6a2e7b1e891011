"""A simulated GitHub of a few repositories that a test knows, whose answers it changes."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any
from urllib.parse import parse_qs, urlsplit

import anyio
import msgspec
import numpy as np
from pydantic import SecretStr

from codelupe_crawler.github.descriptions import Terms
from codelupe_crawler.github.settings import GitHubSettings
from codelupe_crawler.github.source import GitHubSource
from tests.integration.github_daemon import SimulatedTime, crawler_of
from tests.simulated_github.clock import FakeClock
from tests.simulated_github.faults import NONE, Faults
from tests.simulated_github.github import Answer, Exchange, Request, SimulatedGitHub
from tests.simulated_github.transport import SimulatedTransport
from tests.simulated_github.world import LANGUAGES, Shape, World

BEGAN = 1_790_000_000.0
GO = LANGUAGES.index("Go")
DAY = 86_400


class CountedTime(SimulatedTime):
    """Which counts the sleeps."""

    def __init__(self, clock: FakeClock) -> None:
        super().__init__(clock)
        self.sleeps = 0

    async def sleep(self, duration: timedelta) -> None:
        self.sleeps += 1
        await super().sleep(duration)


@dataclass(frozen=True)
class Asked:
    """A request, as tests look at it."""

    at: float
    path: str
    query: str
    """What is searched for."""
    page: int
    body: bytes
    token: str

    @classmethod
    def read(cls, request: Request, at: float) -> Asked:
        parts = urlsplit(request.url)
        values = parse_qs(parts.query)
        token = request.headers.get("authorization", "").removeprefix("Bearer ")
        return cls(at, parts.path, values.get("q", [""])[0], int(values.get("page", ["0"])[0]), request.body, token)


Tamper = Callable[[Asked, Answer], Answer | None]


class TamperedGitHub(SimulatedGitHub):
    """One whose answers a test changes; ``tamper`` gives another answer, or None to let it stand."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.asked: list[Asked] = []
        self.tamper: Tamper = lambda *_: None

    def open(self, request: Request) -> Exchange:
        asked = Asked.read(request, self.clock())
        self.asked.append(asked)
        exchange = super().open(request)
        return replace(exchange, answer=self.tamper(asked, exchange.answer) or exchange.answer)

    def asked_pages(self) -> Counter[tuple[str, int]]:
        """How often each page of a search was asked for."""
        return Counter((asked.query, asked.page) for asked in self.asked if asked.path == "/search/repositories")


def changed(answer: Answer, change: Callable[[Any], object]) -> Answer:
    """The answer with a body that was changed in place."""
    body = msgspec.json.decode(answer.body)
    change(body)
    return replace(answer, body=msgspec.json.encode(body))


def saying(answer: Answer, status: int, body: object) -> Answer:
    """Another status and body under the same headers."""
    return replace(answer, status=status, body=msgspec.json.encode(body))


def plain_world(repositories: int, *, seed: int = 1) -> World:
    """All in Go, created over years, past the gate, and nothing happens by itself."""
    random = np.random.default_rng(seed)
    world = World(seed, BEGAN, Shape(repositories=repositories, changes_per_day=0, odd_names=0))
    world.created[:] = np.sort(BEGAN - DAY - random.integers(0, 3_000 * DAY, repositories))
    world.pushed[:] = world.created + random.permutation(repositories)
    world.language[:] = GO
    world.stars[:], world.forks[:] = 50, 10
    for column in (world.invisible, world.counted, world.fork, world.archived, world.mirror, world.template):
        column[:] = False
    return world


class Hub:
    """A simulated GitHub, and the crawler's plugin that asks it."""

    def __init__(
        self,
        world: World,
        tokens: Mapping[str, str],
        faults: Faults = NONE,
        *,
        languages: Sequence[str] = ("Go",),
        terms: Terms = lambda *_: (),
        revoked_at: Mapping[str, float] | None = None,
        **settings: Any,
    ) -> None:
        self.clock = FakeClock(BEGAN)
        self.time = CountedTime(self.clock)
        self.world = world
        self._terms = terms
        self.github = TamperedGitHub(world, self.clock.now, tokens, faults, revoked_at or {}, world.seed)
        self.settings = GitHubSettings(tokens=tuple(map(SecretStr, tokens)), languages=tuple(languages), **settings)

    def source(self) -> GitHubSource:
        return GitHubSource(self.settings, self._terms, SimulatedTransport(self.github, self.clock))

    def plugin(self) -> object:
        return crawler_of(self.source(), self.time)


@asynccontextmanager
async def running(clock: FakeClock) -> AsyncIterator[None]:
    """Let the time go on."""
    async with anyio.create_task_group() as background:
        background.start_soon(clock.run)
        yield
        background.cancel_scope.cancel()
