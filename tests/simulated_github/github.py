"""The endpoints: search, repositories, the user and GraphQL, each under its limits."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from email.utils import formatdate
from typing import Any, Literal
from urllib.parse import parse_qs, unquote, urlencode, urlsplit
from zlib import crc32

import msgspec
import numpy as np

from tests.simulated_github import graphql
from tests.simulated_github.faults import NONE, Fault, Faults
from tests.simulated_github.graphql import Asked, Context, approximate
from tests.simulated_github.limits import SHORTEST_WAIT, Account, Kind, Refusal, Violation, Window
from tests.simulated_github.pages import Pages
from tests.simulated_github.search import MOST_RESULTS, UnprocessableError, in_order, parse, search
from tests.simulated_github.shapes import as_item, as_public_user, as_repository
from tests.simulated_github.world import World

LARGEST_PAGE = 100
API_VERSIONS = ("2022-11-28", "2026-03-10")
_DOCS = "https://docs.github.com/rest"
_RATE_LIMITS = f"{_DOCS}/using-the-rest-api/rate-limits-for-the-rest-api"
_SECONDARY = (
    "You have exceeded a secondary rate limit. Please wait a few minutes before you try again.",
    "You have triggered an abuse detection mechanism. Please wait a few minutes before you try again.",
    "Forbidden",
)
"""The text changed once (octokit/plugin-throttling#437); sometimes only the documentation's address tells."""
_SECONDARY_PAGES = (f"{_RATE_LIMITS}#about-secondary-rate-limits", f"{_DOCS}/overview/resources#abuse-rate-limits")
_HTML = b"<html><head><title>Unicorn!</title></head><body><h1>502 Bad Gateway</h1></body></html>"


@dataclass(frozen=True)
class Request:
    method: str
    url: str
    headers: Mapping[str, str]
    """By their names in lower case."""
    body: bytes = b""


@dataclass(frozen=True)
class Answer:
    status: int
    headers: Mapping[str, str]
    body: bytes
    cut: Literal["body", "reset"] | None = None
    """The connection ends after half of the body, or is reset before the first byte."""


@dataclass(frozen=True)
class Exchange:
    """A request and its answer; the account is busy until the exchange is closed."""

    answer: Answer
    seconds: float
    """How long the answer takes."""
    account: Account | None


@dataclass
class SimulatedGitHub:
    """Answers requests. :meth:`open` and :meth:`close` are around each, so that two at once are seen."""

    world: World
    clock: Callable[[], float]
    """Seconds since 1970."""
    accounts: Mapping[str, str]
    """The login of each token."""
    faults: Faults = NONE
    revoked_at: Mapping[str, float] = field(default_factory=dict)
    """When a token ceases to be good."""
    seed: int = 0
    slowness: float = 1.0
    """Multiplies how long an answer takes: about half a second for a search."""

    def __post_init__(self) -> None:
        self.pages = Pages(self.seed)
        self.unauthorised = Counter[str]()
        """Requests by each token that is not, or no more, good."""
        self.users = {login: Account.named(login) for login in sorted({"", *self.accounts.values()})}

    @property
    def violations(self) -> list[Violation]:
        """Of all accounts, in order."""
        return sorted((one for user in self.users.values() for one in user.violations), key=lambda one: one.at)

    @property
    def requests(self) -> Counter[str]:
        """Of each kind, whatever became of them."""
        total = Counter[str](unauthorised=self.unauthorised.total())
        for user in self.users.values():
            total.update({str(kind): count for kind, count in user.requests.items()})
        return +total

    def handle(self, request: Request) -> Answer:
        """The answer, as if it took no time."""
        exchange = self.open(request)
        self.close(exchange)
        return exchange.answer

    def open(self, request: Request) -> Exchange:
        """Begin an exchange, which the caller closes when the answer's time is over."""
        now = self.clock()
        self.world.advance(now)
        token = request.headers.get("authorization", "").partition(" ")[2]
        if token and (token not in self.accounts or self.revoked_at.get(token, np.inf) <= now):
            self.unauthorised[token] += 1
            answer = self._json(401, {"message": "Bad credentials", "documentation_url": _DOCS, "status": "401"})
            return Exchange(answer, 0.1 * self.slowness, None)
        account = self.users[self.accounts.get(token, "")]
        return _Handling(self, request, account, now).exchange()

    def close(self, exchange: Exchange) -> None:
        if exchange.account is not None:
            exchange.account.end()

    def server_time(self) -> float:
        return self.clock() + self.faults.clock_skew

    def _json(self, status: int, content: Any, headers: Mapping[str, str] | None = None) -> Answer:
        every = {
            "content-type": "application/json; charset=utf-8",
            "date": formatdate(self.server_time(), usegmt=True),
            "server": "github.com",
            "x-github-media-type": "github.v3; format=json",
        }
        return Answer(status, {**every, **(headers or {})}, msgspec.json.encode(content))


class _Handling:
    """One request on its way through limits and faults to its endpoint."""

    def __init__(self, github: SimulatedGitHub, request: Request, account: Account, now: float) -> None:
        self._github, self._request, self._account, self._now = github, request, account, now
        self._world, self._faults = github.world, github.faults
        parts = urlsplit(request.url)
        self._base = f"{parts.scheme}://{parts.netloc}"
        self._path = unquote(parts.path)
        self._query = {name: values[-1] for name, values in parse_qs(parts.query, keep_blank_values=True).items()}
        self._kind: Kind = "graphql" if self._path == "/graphql" else "core"
        if self._path.startswith("/search/"):
            self._kind = "search"
        self._asked = self._read_graphql() if self._kind == "graphql" else None
        # By the account's own count, so that what another account does changes nothing.
        count = sum(len(times) for times in account.times.values())
        self._random = np.random.default_rng([github.seed, crc32(account.login.encode()), count])

    def exchange(self) -> Exchange:
        seconds = self._seconds()
        cost = 0 if self._path == "/rate_limit" else self._asked.cost if self._asked else 1
        refusal = self._account.begin(self._kind, self._now, self._request.url, cost=cost)
        answer = self._malformed() or (self._refused(refusal) if refusal else self._answer())
        return Exchange(answer, seconds, self._account)

    def _read_graphql(self) -> Asked | None:
        try:
            content = msgspec.json.decode(self._request.body)
        except msgspec.DecodeError:
            return None
        return Asked.read(content) if isinstance(content, dict) else None

    def _seconds(self) -> float:
        usual: dict[Kind, float] = {"search": 0.5, "core": 0.15, "graphql": 0.3}
        searches = self._asked.searches if self._asked else 0
        drawn = (usual[self._kind] + 0.03 * searches) * self._random.lognormal(0, 0.3)
        return float(min(drawn, 9.0)) * self._github.slowness

    def _malformed(self) -> Answer | None:
        """What is refused before anything is looked at."""
        headers = self._request.headers
        if not headers.get("user-agent"):
            message = "Request forbidden by administrative rules. Please make sure your request has a User-Agent header"
            return Answer(403, {"content-type": "text/plain"}, message.encode())
        version = headers.get("x-github-api-version", API_VERSIONS[0])
        if version not in API_VERSIONS:
            return self._json(400, {"message": f"{version} is not a supported API version", "documentation_url": _DOCS})
        if self._kind == "graphql" and not self._account.login:
            return self._json(401, {"message": "This endpoint requires you to be authenticated."})
        if self._kind == "graphql" and self._asked is None:
            return self._json(400, {"message": "Problems parsing JSON"})
        return None

    # --- limits and faults ---

    @property
    def _window(self) -> Window:
        return self._account.windows[self._kind]

    def _limit_headers(self) -> dict[str, str]:
        window = self._window
        resets = window.ends + self._faults.clock_skew
        if window.remaining == 0 and self._random.random() < self._faults.stale_resets:
            resets -= 10 * window.seconds
            window.may_ask_at = self._now + SHORTEST_WAIT
        return {
            "x-ratelimit-limit": str(window.limit),
            "x-ratelimit-remaining": str(window.remaining),
            "x-ratelimit-used": str(window.used),
            "x-ratelimit-reset": str(int(np.ceil(resets))),
            "x-ratelimit-resource": self._kind,
        }

    def _json(self, status: int, content: Any, headers: Mapping[str, str] | None = None) -> Answer:
        return self._github._json(status, content, {**self._limit_headers(), **(headers or {})})

    def _refused(self, refusal: Refusal) -> Answer:
        """GraphQL says at HTTP 200 that the primary limit is reached (octokit/plugin-throttling)."""
        if refusal == "secondary":
            return self._block(self._account.blocked_until - self._now, {})
        message = f"API rate limit exceeded for user ID {crc32(self._account.login.encode())}."
        if self._kind == "graphql":
            return self._json(200, {"errors": [{"type": "RATE_LIMITED", "message": message}]})
        status = 403 if self._random.random() < 0.5 else 429
        return self._json(status, {"message": message, "documentation_url": _RATE_LIMITS})

    def _answer(self) -> Answer:
        fault = self._faults.draw(self._random)
        limit = self._faults.most_counts
        if self._asked is not None and limit is not None and self._asked.searches > limit:
            fault = "gateway"
        match fault:
            case None:
                return self._respond()
            case "cut" | "reset":
                return replace(self._respond(), cut="body" if fault == "cut" else "reset")
            case _:
                return self._fault(fault)

    def _fault(self, fault: Fault) -> Answer:
        draw = self._random
        match fault:
            case "gateway":
                status = 502 if draw.random() < 0.5 else 504
                if draw.random() < 0.5:
                    return Answer(status, {"content-type": "text/html"}, _HTML)
                return self._json(status, {"message": "We couldn't respond to your request in time."})
            case "garbled":
                if draw.random() < 0.5:
                    return Answer(200, {"content-type": "text/html"}, _HTML)
                return self._json(200, {"message": "Server Error"})
            case "bare secondary":
                self._account.block(self._now, SHORTEST_WAIT)
                return self._bare_block()
            case _:
                seconds = int(draw.integers(5, 60))
                self._account.block(self._now, seconds)
                return self._block(seconds, {"status": "429"} if fault == "too many" else {})

    def _bare_block(self) -> Answer:
        """Only the body says that it is a secondary limit, at 403 (hub4j#2009, #1805) or, by GraphQL, at 200."""
        draw = self._random
        if self._kind == "graphql" and draw.random() < 0.5:
            return self._json(200, {"errors": [{"type": "RATE_LIMITED", "message": _SECONDARY[0]}]})
        text = _SECONDARY[int(draw.integers(len(_SECONDARY)))]
        body = {"message": text, "documentation_url": _SECONDARY_PAGES[int(draw.integers(len(_SECONDARY_PAGES)))]}
        answer = self._json(403, body)
        if draw.random() < 0.5:
            return answer
        return replace(answer, headers={k: v for k, v in answer.headers.items() if not k.startswith("x-ratelimit")})

    def _block(self, seconds: float, content: Mapping[str, str]) -> Answer:
        """A secondary limit that says how long to wait, in seconds or as a date."""
        wait = int(np.ceil(seconds))
        is_in_seconds = self._random.random() < 0.7
        date = formatdate(np.ceil(self._github.server_time() + wait), usegmt=True)
        headers = {"retry-after": str(wait) if is_in_seconds else date}
        if self._kind == "graphql" and self._random.random() < 0.5:
            return self._json(200, {"errors": [{"type": "RATE_LIMITED", "message": _SECONDARY[0]}]}, headers)
        body = {"message": _SECONDARY[0], "documentation_url": _SECONDARY_PAGES[0]}
        return self._json(int(content.get("status", "403")), body, headers)

    # --- endpoints ---

    def _respond(self) -> Answer:
        method, path = self._request.method, self._path
        if self._asked is not None:
            login, window = self._account.login, self._window
            pages = self._github.pages
            context = Context(self._world, self._random, self._faults, pages, login, window, self._asked.cost)
            return self._json(200, graphql.answer(self._asked, context))
        if method != "GET":
            return self._not_found()
        named = {"/search/repositories": self._search, "/rate_limit": self._rate_limits, "/user": self._user}
        return named[path]() if path in named else self._repository(path)

    def _user(self) -> Answer:
        if self._account.login:
            return self._json(200, as_public_user(self._account.login))
        return self._json(401, {"message": "Requires authentication", "documentation_url": _DOCS})

    def _not_found(self) -> Answer:
        return self._json(404, {"message": "Not Found", "documentation_url": _DOCS, "status": "404"})

    def _rate_limits(self) -> Answer:
        def describe(window: Window) -> dict[str, int]:
            window.roll(self._now)
            resets = int(np.ceil(window.ends + self._faults.clock_skew))
            return {"limit": window.limit, "used": window.used, "remaining": window.remaining, "reset": resets}

        resources = {kind: describe(window) for kind, window in self._account.windows.items()}
        return self._json(200, {"resources": resources, "rate": resources["core"]})

    def _repository(self, path: str) -> Answer:
        if match := re.fullmatch(r"/repositories/(\d+)", path):
            return self._look_up(self._world.index_of(int(match[1])))
        if match := re.fullmatch(r"/repos/([^/]+/[^/]+)", path):
            found = self._world.find(match[1])
            if found is not None and found[1]:
                address = f"{self._base}/repositories/{self._world.id[found[0]]}"
                moved = {"message": "Moved Permanently", "url": address, "documentation_url": _DOCS}
                return self._json(301, moved, {"location": address})
            return self._look_up(None if found is None else found[0])
        return self._not_found()

    def _look_up(self, index: int | None) -> Answer:
        if index is None or self._world.created[index] > self._world.now:
            return self._not_found()
        match self._world.reason.get(index):
            case None:
                return self._json(200, as_repository(self._world, index))
            case "blocked" | "disabled" as reason:
                block = {"reason": "dmca" if reason == "blocked" else "tos", "created_at": "2026-01-01T00:00:00Z"}
                status = 451 if reason == "blocked" else 403
                return self._json(status, {"message": "Repository access blocked", "block": block})
            case _:
                return self._not_found()

    def _search(self) -> Answer:
        try:
            return self._search_page()
        except UnprocessableError as error:
            return self._json(422, {"message": str(error), "documentation_url": f"{_DOCS}/search", "status": "422"})

    def _search_page(self) -> Answer:
        text, page, size = self._query.get("q", ""), self._number("page", 1), self._number("per_page", 30)
        size = min(size, LARGEST_PAGE)
        sort = self._sort()
        if not text.strip():
            raise UnprocessableError("Validation Failed")
        if (page - 1) * size >= MOST_RESULTS:
            raise UnprocessableError("Only the first 1000 search results are available")
        query = parse(text)
        found = search(self._world, query)
        indices, total = found.shown, found.total
        is_incomplete = self._random.random() < self._faults.incomplete
        if is_incomplete:
            indices = indices[self._random.random(len(indices)) < 0.7]
            total = len(indices)
        shuffles = self._faults.shuffles_ties
        ordered = in_order(self._world, indices, sort or query.sort, self._random, shuffles=shuffles)[:MOST_RESULTS]
        shown = self._github.pages.cut(text, ordered, page, size, self._faults, self._random)
        content = {
            "total_count": approximate(total, self._random),
            "incomplete_results": is_incomplete,
            "items": [None if index is None else as_item(self._world, index) for index in shown],
        }
        return self._json(200, content, {"cache-control": "no-cache", **self._links(page, size, len(ordered))})

    def _number(self, name: str, usual: int) -> int:
        """As GitHub does: what is no number of at least one is as good as nothing."""
        text = self._query.get(name, "")
        return int(text) if text.isdecimal() and int(text) > 0 else usual

    def _sort(self) -> str | None:
        sort, order = self._query.get("sort"), self._query.get("order", "desc")
        if sort not in (None, "stars", "forks", "updated", "help-wanted-issues") or order not in ("asc", "desc"):
            raise UnprocessableError("Validation Failed")
        return None if sort in (None, "help-wanted-issues") else f"{sort}-{order}"

    def _links(self, page: int, size: int, shown: int) -> dict[str, str]:
        last = max(1, -(-shown // size))
        if page >= last:
            return {}

        def link(number: int, relation: str) -> str:
            return f'<{self._base}{self._path}?{urlencode({**self._query, "page": number})}>; rel="{relation}"'

        return {"link": f"{link(page + 1, 'next')}, {link(last, 'last')}"}
