"""The repositories: what there is at a time, and what becomes of it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal

import numpy as np
import numpy.typing as npt

Indices = npt.NDArray[np.int64]
Change = Literal["pushed", "starred", "renamed", "deleted", "private", "blocked", "disabled", "archived"]

LANGUAGES = ("Python", "JavaScript", "TypeScript", "Go", "Rust", "Dart")
_SHARES = (0.34, 0.27, 0.19, 0.11, 0.07, 0.02)
BEGINNING = 1_199_145_600
"""2008-01-01, in seconds since 1970."""
TOPICS = ("api", "async", "cli", "database", "docker", "ml", "react", "testing", "web", "flutter", "pytorch", "kubernetes")
_WORDS = (
    "fast small simple modern typed tiny async reactive portable secure native embedded distributed streaming parser "
    "client server framework library toolkit runtime compiler database cache queue scheduler editor renderer model "
    "fastapi angular pytorch tokio django react flutter kubernetes terraform postgres redis kafka"
).split()
_ODD = ("\N{ROCKET} launch", "nul\0inside", "\u202eright to left\u202c", "e\u0301clair", "<script>alert(1)</script>")
_LICENCES = ("MIT", "Apache-2.0", "GPL-3.0", "BSD-3-Clause", "NOASSERTION", None)


@dataclass(frozen=True, kw_only=True)
class Shape:
    """How the repositories are spread; a held-out test changes these."""

    repositories: int = 200_000
    language_shares: tuple[float, ...] = _SHARES
    growth: float = 3.0
    """The creation rate rises with the years to this power."""
    bursts: float = 0.03
    """The share that was created within a few seconds."""
    largest_burst: int = 1_500
    """So many in one second and one language."""
    tail: float = 0.9
    """Exponent of the stars' power law."""
    invisible: float = 0.005
    """The share that no query by a range shows or counts (ossf/criticality_score#33)."""
    changes_per_day: float = 0.02
    """The share that is pushed to in a day; others are starred, renamed or vanish more rarely."""


@dataclass
class World:
    """All repositories in the order of their creation, as columns; ``now`` says which there are."""

    seed: int
    now: float
    """Seconds since 1970, at which the simulation begins."""
    shape: Shape = field(default_factory=Shape)

    def __post_init__(self) -> None:
        self._random = np.random.default_rng(self.seed)
        shape, random, count = self.shape, self._random, self.shape.repositories
        self.created = self._creation_times()
        self.id = 1_000 + np.cumsum(random.integers(1, 400, count))
        self.language = random.choice(len(LANGUAGES), count, p=np.array(shape.language_shares))
        self._make_largest_burst()
        uniform = random.random(count)
        self.stars = np.minimum(9 * (1 - uniform) ** (-1 / shape.tail), 400_000).astype(np.int64)
        self.forks = (2 + self.stars * 0.3 * random.lognormal(0, 0.6, count)).astype(np.int64)
        self.size = np.minimum(random.lognormal(6, 2, count), 4e7).astype(np.int64) + 1
        self.pushed = (self.created + random.random(count) ** 0.5 * (self.now - self.created)).astype(np.int64)
        self.fork, self.archived, self.mirror, self.template = (
            random.random(count) < share for share in (0.02, 0.03, 0.003, 0.01)
        )
        self.invisible = random.random(count) < shape.invisible
        self.gone = np.zeros(count, dtype=bool)
        self.reason: dict[int, str] = {}
        self.names: dict[int, str] = {}
        self._redirects: dict[str, int] = {}
        self._changes = self._plan_changes()
        self._next = next(self._changes, None)

    def _creation_times(self) -> Indices:
        """Ever more a year, some in bursts; the last are made while the simulation runs."""
        random, shape, count = self._random, self.shape, self.shape.repositories
        span = self.now + _LONGEST_RUN - BEGINNING
        share = random.random(count) ** (1 / (shape.growth + 1))
        times = BEGINNING + share * span
        in_bursts = random.random(count) < shape.bursts
        centres = random.choice(times, max(1, int(count * shape.bursts / 150)))
        times[in_bursts] = random.choice(centres, in_bursts.sum()) + random.random(in_bursts.sum()) * 20
        return np.sort(times.astype(np.int64))

    def _make_largest_burst(self) -> None:
        first = int(self.shape.repositories * 0.7)
        burst = slice(first, first + min(self.shape.largest_burst, self.shape.repositories // 10))
        self.created[burst] = self.created[first]
        self.created.sort()
        self.language[burst] = 0

    # --- as time goes on ---

    def advance(self, now: float) -> None:
        """Let happen what happens until then."""
        self.now = max(self.now, now)
        while self._next is not None and self._next[0] <= self.now:
            self._apply(*self._next)
            self._next = next(self._changes, None)

    def _plan_changes(self) -> Iterator[tuple[float, Change, int]]:
        """What happens to the repositories that there are, in order."""
        random, began = np.random.default_rng(self.seed + 1), self.now
        kinds: tuple[Change, ...] = tuple(_CHANGES)
        weights = np.array([_CHANGES[kind] for kind in kinds])
        rate = self.shape.repositories * self.shape.changes_per_day * weights.sum() / 86_400
        time = began
        while rate > 0 and time < began + _LONGEST_RUN:
            time += random.exponential(1 / rate)
            existing = int(np.searchsorted(self.created, time))
            kind = kinds[int(random.choice(len(kinds), p=weights / weights.sum()))]
            yield time, kind, int(random.integers(0, existing))

    def _apply(self, time: float, change: Change, index: int) -> None:
        if self.gone[index]:
            return
        match change:
            case "pushed":
                self.pushed[index] = int(time)
            case "starred":
                self.stars[index] += 1 + self.stars[index] // 20
            case "archived":
                self.archived[index] = True
            case "renamed":
                self._rename(index)
            case _:
                self.gone[index] = True
                self.reason[index] = change
                self._redirects.pop(self.name_of(index), None)

    def _rename(self, index: int) -> None:
        """A takes the name of B, while B gets another one (cla-assistant#779); the old name of B leads to B no more."""
        other = (index + 1) % self.shape.repositories
        theirs, ours = self.name_of(other), self.name_of(index)
        self.names[other] = f"{theirs}-next"
        self.names[index] = theirs
        self._redirects[ours] = index

    # --- what one is like ---

    def name_of(self, index: int) -> str:
        if index in self.names:
            return self.names[index]
        draw = self._draw(index)
        return f"{_WORDS[draw % len(_WORDS)]}{index % 5_000}/{_WORDS[draw // 64 % len(_WORDS)]}-{index}"

    def describe(self, index: int) -> str | None:
        draw = self._draw(index)
        if draw % 10 == 0:
            return None
        words = [_WORDS[draw >> shift & 31] for shift in (4, 10, 16, 22)]
        return " ".join(words) if draw % 200 else f"{' '.join(words)} {_ODD[draw // 200 % len(_ODD)]}"

    def topics_of(self, index: int) -> list[str]:
        draw = self._draw(index)
        return sorted({TOPICS[draw >> shift & 7] for shift in range(0, draw % 4 * 3, 3)})

    def licence_of(self, index: int) -> str | None:
        return _LICENCES[self._draw(index) // 7 % len(_LICENCES)]

    def find(self, full_name: str) -> tuple[int, bool] | None:
        """The repository of that name, and whether the name is a former one of it."""
        for renamed, name in self.names.items():
            if name == full_name:
                return renamed, False
        index = self._first_names.get(full_name)
        if index is not None and index not in self.names:
            return index, False
        redirected = self._redirects.get(full_name)
        return None if redirected is None else (redirected, True)

    def index_of(self, number: int) -> int | None:
        """By the repository's number."""
        index = int(np.searchsorted(self.id, number))
        return index if index < len(self.id) and self.id[index] == number else None

    @cached_property
    def _first_names(self) -> dict[str, int]:
        return {self.name_of(index): index for index in range(self.shape.repositories) if index not in self.names}

    def _draw(self, index: int) -> int:
        """A number that is the same for the same repository of the same world."""
        mixed = (index * 0x9E3779B97F4A7C15 + self.seed * 0xBF58476D1CE4E5B9) & 0xFFFFFFFFFFFFFFFF
        return (mixed ^ (mixed >> 29)) * 0x94D049BB133111EB >> 32 & 0x7FFFFFFF


_LONGEST_RUN = 7 * 86_400.0
_CHANGES: dict[Change, float] = {
    "pushed": 1.0, "starred": 1.0, "archived": 0.005, "renamed": 0.02, "deleted": 0.01, "private": 0.005,
    "blocked": 0.001, "disabled": 0.001,
}


