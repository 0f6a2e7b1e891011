"""Plain bisection, as seart-group/ghs does it: a range that holds more than 1,000 is split in the middle."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import Any
from urllib.parse import urlencode

from tests.simulated_github.clock import ManualClock
from tests.simulated_github.github import Answer, Request, SimulatedGitHub

GATE = "stars:>=10 forks:>=3 archived:false mirror:false template:false"
MOST_RESULTS = 1_000
PAGE = 100
_SPACING = 2.0
SHORTEST_WAIT = 60.0
_MOST_TRIES = 3


@dataclass
class Bisection:
    """Asks for one page after another, for one account."""

    github: SimulatedGitHub
    clock: ManualClock
    token: str
    seen: set[int] = field(default_factory=set)

    def crawl(self, languages: tuple[str, ...], begin: int, end: int) -> None:
        """Find the repositories of these languages that were created within the time, in seconds since 1970."""
        ranges = [(language, begin, end) for language in reversed(languages)]
        while ranges:
            language, low, high = ranges.pop()
            query = f"language:{language} created:{_time(low)}..{_time(high)} {GATE}"
            page = self._page(query, 1)
            if page["total_count"] > MOST_RESULTS and low < high:
                middle = (low + high) // 2
                ranges += [(language, middle + 1, high), (language, low, middle)]
            else:
                self._take_slice(query, page)

    def _take_slice(self, query: str, page: Mapping[str, Any]) -> None:
        """All pages; all again, at most twice, while fewer are seen than there are said to be."""
        found: set[int] = set()
        for tries in range(_MOST_TRIES):
            first = page if tries == 0 else self._page(query, 1)
            shown = min(first["total_count"], MOST_RESULTS)
            found |= {number for each in self._pages(query, first, shown) for number in _ids(each)}
            if len(found) >= shown:
                break
        self.seen |= found

    def _pages(self, query: str, first: Mapping[str, Any], shown: int) -> Iterator[Mapping[str, Any]]:
        yield first
        for number in range(2, -(-shown // PAGE) + 1):
            yield self._page(query, number)

    def _page(self, query: str, number: int) -> Mapping[str, Any]:
        """One page; again, at most twice, while the answer is incomplete."""
        for _ in range(_MOST_TRIES):
            page = self._ask({"q": query, "page": number, "per_page": PAGE, "sort": "updated", "order": "desc"})
            if not page["incomplete_results"]:
                break
        return page

    def _ask(self, parameters: Mapping[str, object]) -> dict[str, Any]:
        headers = {"authorization": f"Bearer {self.token}", "user-agent": "bisection"}
        request = Request("GET", f"https://api.github.com/search/repositories?{urlencode(parameters)}", headers)
        while True:
            began = self.clock.time
            exchange = self.github.open(request)
            self.clock.time += exchange.seconds
            self.github.close(exchange)
            self.clock.time = max(self.clock.time, began + _SPACING)
            self.clock.time += _wait(exchange.answer)
            page = _read(exchange.answer)
            if page is not None:
                return page


def _read(answer: Answer) -> dict[str, Any] | None:
    """The page, if the answer is one."""
    if answer.status != HTTPStatus.OK or answer.cut:
        return None
    try:
        content = json.loads(answer.body)
    except ValueError:
        return None
    return content if "items" in content else None


def _wait(answer: Answer) -> float:
    """Seconds before the next request, by the server's own clock."""
    headers = answer.headers
    if answer.cut or "date" not in headers:
        return 0.0
    now = parsedate_to_datetime(headers["date"]).timestamp()
    waits = [0.0]
    if headers.get("x-ratelimit-remaining") == "0":
        reset = float(headers["x-ratelimit-reset"]) - now
        waits.append(reset if reset > 0 else SHORTEST_WAIT)
    if answer.status in (403, 429):
        after = headers.get("retry-after", str(SHORTEST_WAIT))
        is_date = after.endswith("GMT")
        waits.append(parsedate_to_datetime(after).timestamp() - now if is_date else float(after))
    return max(waits)


def _ids(page: Mapping[str, Any]) -> set[int]:
    return {item["id"] for item in page["items"] if item is not None}


def _time(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
