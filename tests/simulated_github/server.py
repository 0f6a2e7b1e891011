"""The endpoints: search, repositories, the user and GraphQL, each under its limits."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import formatdate
from typing import Any
from urllib.parse import parse_qs, urlsplit

import numpy as np

from tests.simulated_github.faults import NONE, Fault, Faults
from tests.simulated_github.graphql import GraphQL
from tests.simulated_github.limits import Account
from tests.simulated_github.search import Unprocessable, in_order, matches, parse
from tests.simulated_github.world import LANGUAGES, World

PAGE = 100
MOST_RESULTS = 1_000
_SECONDARY = "You have exceeded a secondary rate limit. Please wait a few minutes before you try again."
_SECONDARY_PAGE = "https://docs.github.com/rest/using-the-rest-api/rate-limits-for-the-rest-api#about-secondary-rate-limits"


class Cut(Exception):
    """The connection ends within the body of the answer."""


@dataclass(frozen=True)
class Answer:
    status: int
    body: bytes
    headers: Mapping[str, str]


@dataclass
class SimulatedGitHub:
    """Answers requests; :meth:`begin` and :meth:`end` are around each, so that two at once are seen."""

    world: World
    clock: Callable[[], float]
    accounts: Mapping[str, str]
    """The login of each token."""
    faults: Faults = NONE
    revoked_at: Mapping[str, float] = field(default_factory=dict)
    """When a token ceases to be good."""
    seed: int = 0

    def __post_init__(self) -> None:
        self._random = np.random.default_rng(self.seed)
        self._graphql = GraphQL(self.world, self._random)
        self._asked = Counter[str]()
        self.users = {login: Account.named(login) for login in {"", *self.accounts.values()}}

    @property
    def violations(self) -> list[str]:
        return [one for account in self.users.values() for one in account.violations]

    @property
    def requests(self) -> Counter[str]:
        """Of every kind."""
        total = Counter[str]()
        for account in self.users.values():
            total.update(account.requests)
        return total

    def begin(self, method: str, url: str, headers: Mapping[str, str], body: bytes) -> Answer:
        """The answer to a request; the account is busy until :meth:`end`."""
        now = self.clock()
        self.world.advance(now)
        token = headers.get("authorization", "").partition(" ")[2]
        parts = urlsplit(url)
        kind = _kind_of(parts.path)
        if token and (token not in self.accounts or self.revoked_at.get(token, np.inf) <= now):
            return self._answer(401, {"message": "Bad credentials"}, {})
        account = self.users[self.accounts.get(token, "")]
        broken = account.begin(kind, now)
        if "user-agent" not in headers:
            return self._answer(403, {"message": "Request forbidden by administrative rules."}, {})
        if broken == "limit crossed" or account.windows[kind].remaining == 0:
            return self._exhausted(account, kind)
        account.spend(kind)
        if (fault := self.faults.draw(self._random)) is not None:
            return self._fault(fault, account, kind)
        status, content = self._respond(method, parts.path, parse_qs(parts.query), body)
        if status == 301:
            return self._answer(301, {"message": "Moved Permanently", "url": content}, {"location": content})
        return self._answer(status, content, self._limit_headers(account, kind))

    def end(self, headers: Mapping[str, str]) -> None:
        token = headers.get("authorization", "").partition(" ")[2]
        if not token or token in self.accounts:
            account = self.users[self.accounts.get(token, "")]
            account.in_flight = max(0, account.in_flight - 1)
