"""Limits of an account, and what breaks them; each breach is written down."""

from __future__ import annotations

from dataclasses import dataclass, field

PRIMARY = {"search": (30, 60.0), "core": (5_000, 3_600.0), "graphql": (5_000, 3_600.0)}
"""Requests (GraphQL: points) in so many seconds, with a token."""
ANONYMOUS = {"search": (10, 60.0), "core": (60, 3_600.0), "graphql": (0, 3_600.0)}


@dataclass
class Window:
    """What of one limit is used, from the first request until it begins again."""

    limit: int
    seconds: float
    used: int = 0
    ends: float = 0.0

    def roll(self, now: float) -> None:
        if now >= self.ends:
            self.used, self.ends = 0, now + self.seconds

    @property
    def remaining(self) -> int:
        return max(0, self.limit - self.used)


@dataclass
class Account:
    """One user: his tokens share everything here."""

    login: str
    windows: dict[str, Window]
    blocked_until: float = 0.0
    """No request may come until then, whatever its kind: a secondary limit."""
    exhausted_until: dict[str, float] = field(default_factory=dict)
    in_flight: int = 0
    requests: dict[str, int] = field(default_factory=dict)
    violations: list[str] = field(default_factory=list)

    @classmethod
    def named(cls, login: str) -> Account:
        limits = PRIMARY if login else ANONYMOUS
        return cls(login, {kind: Window(limit, seconds) for kind, (limit, seconds) in limits.items()})

    def begin(self, kind: str, now: float) -> str | None:
        """Take the request in; what it breaks, if it does."""
        self.requests[kind] = self.requests.get(kind, 0) + 1
        self.in_flight += 1
        window = self.windows[kind]
        window.roll(now)
        broken = None
        if self.in_flight > 1:
            broken = "overlap"
        elif now < self.blocked_until:
            broken = "request while blocked"
        elif now < self.exhausted_until.get(kind, 0.0):
            broken = "request while exhausted"
        elif window.remaining == 0:
            broken = "limit crossed"
        if broken is not None:
            self.violations.append(f"{now:.3f} {self.login or 'anonymous'} {kind}: {broken}")
        return broken

    def spend(self, kind: str, points: int = 1) -> None:
        self.windows[kind].used += points

    def end(self) -> None:
        self.in_flight -= 1
