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

    # --- limits and faults ---

    def _exhausted(self, account: Account, kind: str) -> Answer:
        """The primary limit: GraphQL says it at HTTP 200 (octokit/plugin-throttling)."""
        window = account.windows[kind]
        account.exhausted_until[kind] = window.ends
        headers = self._limit_headers(account, kind)
        if kind == "graphql":
            error = {"type": "RATE_LIMITED", "message": f"API rate limit exceeded for user ID {account.login}."}
            return self._answer(200, {"errors": [error]}, headers)
        status = 403 if self._random.random() < 0.5 else 429
        return self._answer(status, {"message": f"API rate limit exceeded for user ID {account.login}."}, headers)

    def _fault(self, fault: Fault, account: Account, kind: str) -> Answer:
        headers = self._limit_headers(account, kind)
        match fault:
            case "html":
                return Answer(502, b"<html><body><h1>502 Bad Gateway</h1></body></html>", {"content-type": "text/html"})
            case "bad gateway":
                return self._answer(504, {"message": "We couldn't respond to your request in time."}, headers)
            case "cut":
                raise Cut
            case "secondary" | "too many":
                seconds = int(self._random.integers(5, 60))
                account.blocked_until = self.clock() + seconds
                after = str(seconds) if self._random.random() < 0.7 else formatdate(self._now() + seconds, usegmt=True)
                body = {"message": _SECONDARY, "documentation_url": _SECONDARY_PAGE}
                return self._answer(429 if fault == "too many" else 403, body, {**headers, "retry-after": after})
            case "bare secondary":
                account.blocked_until = self.clock() + 60
                body = {"message": _SECONDARY if self._random.random() < 0.5 else "Forbidden"}
                return self._answer(403, {**body, "documentation_url": _SECONDARY_PAGE}, headers)

    def _limit_headers(self, account: Account, kind: str) -> dict[str, str]:
        window = account.windows[kind]
        resets = window.ends + self.faults.clock_skew
        if window.remaining == 0 and self._random.random() < self.faults.stale_resets:
            resets -= 10 * window.seconds
        return {
            "x-ratelimit-limit": str(window.limit),
            "x-ratelimit-remaining": str(window.remaining),
            "x-ratelimit-used": str(window.used),
            "x-ratelimit-reset": str(int(np.ceil(resets))),
            "x-ratelimit-resource": kind,
        }

    def _answer(self, status: int, content: Any, headers: Mapping[str, str]) -> Answer:
        every = {"content-type": "application/json; charset=utf-8", "date": formatdate(self._now(), usegmt=True)}
        return Answer(status, json.dumps(content).encode(), {**every, **headers})

    def _now(self) -> float:
        return self.clock() + self.faults.clock_skew

    # --- endpoints ---

    def _respond(self, method: str, path: str, query: Mapping[str, list[str]], body: bytes) -> tuple[int, Any]:
        if (method, path) == ("POST", "/graphql"):
            return 200, self._graphql.execute(json.loads(body))
        if path == "/search/repositories":
            return self._search({name: values[-1] for name, values in query.items()})
        if path == "/rate_limit":
            return 200, {"resources": {}}
        if match := re.fullmatch(r"/repositories/(\d+)", path):
            return self._look_up(self.world.index_of(int(match[1])))
        if match := re.fullmatch(r"/repos/([^/]+/[^/]+)", path):
            found = self.world.find(match[1])
            if found is not None and found[1]:
                return 301, f"/repositories/{self.world.id[found[0]]}"
            return self._look_up(None if found is None else found[0])
        return 404, {"message": "Not Found"}

    def _look_up(self, index: int | None) -> tuple[int, Any]:
        if index is None or self.world.created[index] > self.world.now:
            return 404, {"message": "Not Found"}
        match self.world.reason.get(index):
            case None:
                return 200, {**describe(self.world, index), "subscribers_count": int(self.world.stars[index]) // 9}
            case "blocked":
                return 451, {"message": "Repository access blocked", "block": {"reason": "dmca"}}
            case "disabled":
                return 403, {"message": "Repository access blocked", "block": {"reason": "tos"}}
            case _:
                return 404, {"message": "Not Found"}

    def _search(self, asked: Mapping[str, str]) -> tuple[int, Any]:
        try:
            text, page = asked["q"], int(asked.get("page", 1))
            size = min(int(asked.get("per_page", 30)), PAGE)
            sort, order = asked.get("sort"), asked.get("order", "desc")
            if sort not in (None, "stars", "forks", "updated") or order not in ("asc", "desc") or page < 1 or size < 1:
                raise Unprocessable("Validation Failed")
            if (page - 1) * size >= MOST_RESULTS:
                raise Unprocessable("Only the first 1000 search results are available")
            found = matches(self.world, parse(text))
        except (KeyError, ValueError, Unprocessable) as error:
            return 422, {"message": str(error), "errors": []}
        total, is_incomplete = len(found), self._random.random() < self.faults.incomplete
        if is_incomplete:
            found = found[self._random.random(len(found)) < 0.7]
            total = len(found)
        shown = in_order(self.world, found, sort, order, self._random)[:MOST_RESULTS][(page - 1) * size : page * size]
        items: list[Any] = [describe(self.world, int(index)) for index in shown]
        return 200, {
            "total_count": approximate(total, self._random),
            "incomplete_results": is_incomplete,
            "items": self._marred(text, page, items),
        }

    def _marred(self, text: str, page: int, items: list[Any]) -> list[Any]:
        """What a page lacks the first time, and a ``null`` that stands for one (sourcegraph#50028, #45969)."""
        which = f"{text} {page}"
        self._asked[which] += 1
        if self._asked[which] > 1 or not items:
            return items
        draw = np.random.default_rng([self.seed, *text.encode()[-64:]])
        if draw.random() < self.faults.lacking and page == 1 + int(draw.integers(3)):
            items = items[: -int(draw.integers(1, 4))]
        if items and self._random.random() < self.faults.nulls:
            items[min(57, len(items) - 1) if self._random.random() < 0.5 else 0] = None
        return items


def approximate(total: int, random: np.random.Generator) -> int:
    """Beyond what can be paged through, a total is a guess."""
    return total if total <= MOST_RESULTS else int(total * random.uniform(0.97, 1.03))


def node_id(number: int) -> str:
    return f"R_kg{number:x}"


def describe(world: World, index: int) -> dict[str, Any]:
    """The repository as an item of a search."""
    name, number, licence = world.name_of(index), int(world.id[index]), world.licence_of(index)
    owner, _, short = name.partition("/")
    pushed = datetime.fromtimestamp(int(world.pushed[index]), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    return {
        "id": number,
        "node_id": node_id(number),
        "name": short,
        "full_name": name,
        "private": False,
        "owner": {"login": owner, "id": number % 5_000, "type": "User"},
        "html_url": f"https://github.com/{name}",
        "clone_url": f"https://github.com/{name}.git",
        "description": world.describe(index),
        "fork": bool(world.fork[index]),
        "created_at": datetime.fromtimestamp(int(world.created[index]), UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "updated_at": pushed,
        "pushed_at": pushed,
        "homepage": None,
        "size": int(world.size[index]),
        "stargazers_count": int(world.stars[index]),
        "watchers_count": int(world.stars[index]),
        "language": LANGUAGES[int(world.language[index])],
        "forks_count": int(world.forks[index]),
        "archived": bool(world.archived[index]),
        "disabled": False,
        "mirror_url": "https://example.org/mirror" if world.mirror[index] else None,
        "is_template": bool(world.template[index]),
        "license": None if licence is None else {
            "key": "other" if licence == "NOASSERTION" else licence.lower(), "spdx_id": licence, "url": None
        },
        "topics": world.topics_of(index),
        "visibility": "public",
        "default_branch": "main",
    }


def _kind_of(path: str) -> str:
    return {"/graphql": "graphql", "/search/repositories": "search"}.get(path, "core")
