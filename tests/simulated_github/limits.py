"""Limits of an account, and what breaks them; each breach is written down."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Literal

Kind = Literal["search", "core", "graphql"]
Refusal = Literal["primary", "secondary"]

PRIMARY: dict[Kind, tuple[int, float]] = {"search": (30, 60.0), "core": (5_000, 3_600.0), "graphql": (5_000, 3_600.0)}
"""Requests (GraphQL: points) in so many seconds, with a token."""
ANONYMOUS: dict[Kind, tuple[int, float]] = {"search": (10, 60.0), "core": (60, 3_600.0), "graphql": (0, 3_600.0)}
REST_POINTS, GRAPHQL_POINTS = 900, 2_000
"""So many requests in a minute are the most, before a secondary limit."""
SHORTEST_WAIT = 60.0
"""How long to wait where an answer does not say, as GitHub's documentation has it."""


@dataclass(frozen=True)
class Violation:
    at: float
    account: str
    kind: Kind
    what: str
    url: str

    def __str__(self) -> str:
        return f"{self.at:.3f} {self.account or 'anonymous'} {self.kind}: {self.what} ({self.url})"


@dataclass
class Window:
    """What of one limit is used, from the first request until it begins again."""

    limit: int
    seconds: float
    used: int = 0
    ends: float = 0.0
    may_ask_at: float | None = None
    """From when on a client may try that was told a reset in the past."""

    def roll(self, now: float) -> None:
        if now >= self.ends:
            self.used, self.ends, self.may_ask_at = 0, now + self.seconds, None

    @property
    def remaining(self) -> int:
        return max(0, self.limit - self.used)


@dataclass
class Account:
    """One user: all of the user's tokens share everything here."""

    login: str
    windows: dict[Kind, Window]
    points: dict[bool, Window]
    """Of a minute; true is GraphQL."""
    blocked_until: float = 0.0
    """No request may come until then, whatever its kind: a secondary limit."""
    blocked_seconds: float = 0.0
    """In all."""
    in_flight: int = 0
    times: dict[Kind, list[float]] = field(default_factory=dict)
    """When a request of each kind came."""
    violations: list[Violation] = field(default_factory=list)

    @classmethod
    def named(cls, login: str) -> Account:
        limits = PRIMARY if login else ANONYMOUS
        return cls(
            login,
            {kind: Window(limit, seconds) for kind, (limit, seconds) in limits.items()},
            {False: Window(REST_POINTS, 60.0), True: Window(GRAPHQL_POINTS, 60.0)},
        )

    @property
    def requests(self) -> Counter[Kind]:
        return Counter({kind: len(times) for kind, times in self.times.items()})

    def begin(self, kind: Kind, now: float, url: str, *, cost: int = 1) -> Refusal | None:
        """Take a request in; which limit refuses it, if one does.

        Args:
            cost: points of the primary limit; 0 for what is free.
        """
        self.times.setdefault(kind, []).append(now)
        window, points = self.windows[kind], self.points[kind == "graphql"]
        window.roll(now)
        points.roll(now)
        for what in self._broken(window, points, now, cost):
            self.violations.append(Violation(now, self.login, kind, what, url))
        self.in_flight += 1
        points.used += 1
        if points.used > points.limit and now >= self.blocked_until:
            self.block(now, SHORTEST_WAIT)
        if now < self.blocked_until:
            return "secondary"
        if cost and window.remaining == 0:
            return "primary"
        window.used += cost
        return None

    def _broken(self, window: Window, points: Window, now: float, cost: int) -> list[str]:
        may_ask = window.may_ask_at is not None and now >= window.may_ask_at
        breaches = {
            "another request is in flight": self.in_flight > 0,
            "within the wait for a secondary limit": now < self.blocked_until,
            "more requests in a minute than the secondary limit allows": points.remaining == 0,
            "beyond the primary limit": bool(cost) and window.remaining == 0 and not may_ask,
        }
        return [what for what, is_broken in breaches.items() if is_broken]

    def block(self, now: float, seconds: float) -> None:
        """A secondary limit begins."""
        self.blocked_seconds += max(0.0, now + seconds - max(now, self.blocked_until))
        self.blocked_until = max(self.blocked_until, now + seconds)

    def usage(self, kind: Kind) -> float:
        """Requests from the first to the last, as a share of what the primary limit allowed in this time.

        The time of secondary limits does not count.
        """
        times, window = self.times[kind], self.windows[kind]
        seconds = times[-1] - times[0] - self.blocked_seconds
        return (len(times) - 1) * window.seconds / (window.limit * seconds)

    def end(self) -> None:
        self.in_flight -= 1
