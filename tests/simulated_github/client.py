"""A client for tests of the simulated GitHub itself: one request after another, on a clock moved by hand."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

from tests.simulated_github.clock import ManualClock
from tests.simulated_github.faults import NONE, Faults
from tests.simulated_github.github import Answer, Request, SimulatedGitHub
from tests.simulated_github.shapes import API
from tests.simulated_github.world import Shape, World

BEGAN = 1_790_000_000.0
ACCOUNTS = {"a1": "ann", "a2": "ann", "b1": "bob"}
SMALL = Shape(repositories=4_000, largest_burst=50)


@dataclass
class Client:
    """Seconds pass before each request, so that limits are kept unless a test means to break them."""

    github: SimulatedGitHub
    clock: ManualClock
    token: str | None = "a1"
    pause: float = 2.0

    def get(self, path: str, headers: Mapping[str, str] | None = None, /, **query: object) -> Answer:
        url = f"{API}{path}?{urlencode(query)}" if query else API + path
        return self._send("GET", url, headers or {}, b"")

    def search(self, q: str, **query: object) -> dict[str, Any]:
        """The content of an answer to a search, which must be one."""
        answer = self.get("/search/repositories", q=q, **query)
        assert answer.status == 200, answer
        return content(answer)

    def graphql(self, query: str, **variables: object) -> Answer:
        body = json.dumps({"query": query, "variables": variables}).encode()
        return self._send("POST", f"{API}/graphql", {}, body)

    def _send(self, method: str, url: str, headers: Mapping[str, str], body: bytes) -> Answer:
        self.clock.time += self.pause
        authorization = {} if self.token is None else {"authorization": f"Bearer {self.token}"}
        return self.github.handle(Request(method, url, {"user-agent": "test", **authorization, **headers}, body))


def content(answer: Answer) -> dict[str, Any]:
    read: dict[str, Any] = json.loads(answer.body)
    return read


def simulated(
    faults: Faults = NONE, *, seed: int = 1, shape: Shape = SMALL, revoked_at: Mapping[str, float] | None = None
) -> Client:
    """A client of a GitHub that has just begun."""
    clock = ManualClock(BEGAN)
    world = World(seed, BEGAN, shape)
    return Client(SimulatedGitHub(world, clock.now, ACCOUNTS, faults, revoked_at or {}, seed), clock)
