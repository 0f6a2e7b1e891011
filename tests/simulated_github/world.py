"""The repositories: what there is at a time, and what becomes of it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal

import numpy as np
import numpy.typing as npt

Indices = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]
Change = Literal[
    "pushed", "starred", "archived", "renamed", "deleted", "recreated", "private", "blocked", "disabled",
]  # fmt: skip

LANGUAGES = ("Python", "JavaScript", "TypeScript", "Go", "Rust", "Dart", "Jupyter Notebook", "C++", None)
BEGINNING = 1_199_145_600
"""2008-01-01, in seconds since 1970."""
LONGEST_RUN = 7 * 86_400.0
"""For so many seconds from its beginning, things happen in a world."""
TOPICS = (
    "api", "async", "cli", "database", "docker", "machine-learning", "react", "testing", "web", "flutter", "pytorch",
    "kubernetes",
)  # fmt: skip
WORDS = (
    "fast", "small", "simple", "modern", "typed", "tiny", "async", "reactive", "portable", "secure", "native",
    "embedded", "distributed", "streaming", "parser", "client", "server", "framework", "library", "toolkit",
    "runtime", "compiler", "database", "cache", "queue", "scheduler", "editor", "renderer", "model", "web",
    "testing", "cloud", "api", "fastapi", "angular", "pytorch", "tokio", "django", "react", "flutter", "kubernetes",
    "terraform", "postgres", "redis", "kafka", "graphql", "grpc",
)  # fmt: skip
ODD_TEXTS = ("", "\N{ROCKET} launch", "nul\0inside", "\u202eright to left\u202c", "e\u0301clair", "<script>1</script>")
_ODD_NAMES = ("\u202egnp.exe\u202c", "\u05e9\u05dc\u05d5\u05dd", "\N{ROCKET}", "-config", ".github", "CON")
LICENCES = ("MIT", "Apache-2.0", "GPL-3.0", "BSD-3-Clause", "NOASSERTION", None)
_OWNERS = 40_000


@dataclass(frozen=True, kw_only=True)
class Shape:
    """How the repositories are spread; a held-out test changes these."""

    repositories: int = 200_000
    language_shares: tuple[float, ...] = (0.33, 0.26, 0.18, 0.11, 0.07, 0.02, 0.015, 0.01, 0.005)
    """In the order of :data:`LANGUAGES`."""
    growth: float = 3.0
    """The creation rate rises with the years to this power."""
    bursts: float = 0.03
    """The share that was created within a few seconds of others."""
    largest_burst: int = 1_500
    """So many in one second and one language."""
    tail: float = 0.9
    """Exponent of the stars' power law."""
    fewest_stars: int = 9
    invisible: float = 0.005
    """The share that no query by a range shows or counts (ossf/criticality_score#33)."""
    counted: float = 0.0
    """The share that no query by a range shows, while all count them."""
    odd_names: float = 0.0005
    """The share whose name is right to left, an emoji, or begins with a dash or a dot."""
    changes_per_day: float = 0.02
    """The share that is pushed to in a day; as many are starred, fewer are renamed or vanish."""


@dataclass
class World:
    """All repositories in the order of their creation, as columns; ``now`` says which there are."""

    seed: int
    now: float
    """Seconds since 1970, at which the simulation begins."""
    shape: Shape = field(default_factory=Shape)

    def __post_init__(self) -> None:
        self._random = random = np.random.default_rng(self.seed)
        shape, count = self.shape, self.shape.repositories
        self.created = self._creation_times()
        self.id = 1_000 + np.cumsum(random.integers(1, 400, count))
        shares = np.array(shape.language_shares)
        self.language = random.choice(len(shares), count, p=shares / shares.sum())
        self._make_largest_burst()
        self.stars = self._draw_stars()
        self.forks = (2 + self.stars * 0.3 * random.lognormal(0, 0.6, count)).astype(np.int64)
        self.size = np.minimum(random.lognormal(6, 2, count), 4e7).astype(np.int64) + 1
        age = np.maximum(0, self.now - self.created)
        self.pushed = (self.created + random.random(count) ** 0.5 * age).astype(np.int64)
        self.fork, self.archived, self.mirror, self.template = (
            random.random(count) < share for share in (0.02, 0.03, 0.003, 0.01)
        )
        hidden = random.random(count)
        self.invisible = hidden < shape.invisible
        self.counted = (hidden >= shape.invisible) & (hidden < shape.invisible + shape.counted)
        self.gone = np.zeros(count, dtype=bool)
        self.reason: dict[int, Change] = {}
        self._write_texts()
        self._redirects: dict[str, int] = {}
        self._changes = self._plan_changes()
        self._next = next(self._changes, None)

    def _creation_times(self) -> Indices:
        """Ever more a year, some in bursts; the last are made while the simulation runs."""
        random, shape, count = self._random, self.shape, self.shape.repositories
        span = self.now + LONGEST_RUN - BEGINNING
        times = BEGINNING + random.random(count) ** (1 / (shape.growth + 1)) * span
        in_bursts = random.random(count) < shape.bursts
        centres = random.choice(times, max(1, int(count * shape.bursts / 150)))
        times[in_bursts] = random.choice(centres, in_bursts.sum()) + random.random(in_bursts.sum()) * 20
        return np.sort(times.astype(np.int64))

    def _make_largest_burst(self) -> None:
        first = int(self.shape.repositories * 0.7)
        burst = slice(first, first + min(self.shape.largest_burst, self.shape.repositories // 10))
        self.created[burst] = self.created[first]
        self.language[burst] = 0

    def _draw_stars(self) -> Indices:
        uniform = self._random.random(self.shape.repositories)
        stars = self.shape.fewest_stars * (1 - uniform) ** (-1 / self.shape.tail)
        return np.minimum(stars, 400_000).astype(np.int64)

    def _write_texts(self) -> None:
        random, count = self._random, self.shape.repositories
        self._name_words = random.integers(len(WORDS), size=count)
        self._words = random.integers(len(WORDS), size=(count, 4))
        self._is_described = random.random(count) >= 0.1
        self._odd = np.where(random.random(count) < 0.005, random.integers(1, len(ODD_TEXTS), count), 0)
        chosen = random.random((count, len(TOPICS))) < 0.12
        self._topics = chosen & (random.random(count) < 0.7)[:, None]
        self._licences = random.choice(len(LICENCES), count, p=[0.45, 0.18, 0.08, 0.05, 0.09, 0.15])
        self.names: dict[int, str] = {}
        for index in np.flatnonzero(random.random(count) < self.shape.odd_names):
            odd = _ODD_NAMES[int(index) % len(_ODD_NAMES)]
            self.names[int(index)] = f"{self.owner_of(int(index))}/{odd}-{index}"

    # --- as time goes on ---

    def advance(self, now: float) -> None:
        """Let happen what happens until then."""
        while self._next is not None and self._next[0] <= now:
            time, change, index = self._next
            self.now = max(self.now, time)
            if not self.gone[index]:
                self.change(index, change)
            self._next = next(self._changes, None)
        self.now = max(self.now, now)

    def _plan_changes(self) -> Iterator[tuple[float, Change, int]]:
        """What happens to the repositories that there are, in order."""
        random, began = np.random.default_rng([self.seed, 1]), self.now
        kinds: tuple[Change, ...] = tuple(_CHANGES)
        ends = np.cumsum(list(_CHANGES.values()))
        rate = self.shape.repositories * self.shape.changes_per_day * ends[-1] / 86_400
        time = began
        while rate > 0:
            time += random.exponential(1 / rate)
            if time > began + LONGEST_RUN:
                return
            kind = kinds[int(np.searchsorted(ends, random.random() * ends[-1], side="right"))]
            yield time, kind, int(random.integers(0, max(1, np.searchsorted(self.created, time))))

    def change(self, index: int, change: Change) -> None:
        """Let this happen to a repository now."""
        match change:
            case "pushed":
                self.pushed[index] = int(self.now)
            case "starred":
                self.stars[index] += 1 + self.stars[index] // 20
            case "archived":
                self.archived[index] = True
            case "renamed":
                self._rename(index)
            case "recreated":
                name = self.name_of(index)
                self._take_away(index, "deleted")
                self._create(name)
            case _:
                self._take_away(index, change)

    def rename(self, index: int, name: str) -> None:
        """Its former name leads to it until a repository takes that name."""
        former = self.name_of(index)
        if self._by_name.get(former.casefold()) == index:
            del self._by_name[former.casefold()]
        self._redirects[former.casefold()] = index
        self._by_name[name.casefold()] = index
        self.names[index] = name

    def _rename(self, index: int) -> None:
        """Every second time A takes the name of B, while B gets another one (cla-assistant#779)."""
        other, former = index + 1, self.name_of(index)
        if index % 2 or other >= self.shape.repositories or self.gone[other] or self.created[other] > self.now:
            self.rename(index, f"{former}-renamed")
            return
        theirs = self.name_of(other)
        self.rename(other, f"{theirs}-next")
        self.rename(index, theirs)

    def _take_away(self, index: int, reason: Change) -> None:
        self.gone[index] = True
        self.reason[index] = reason
        self._redirects = {name: other for name, other in self._redirects.items() if other != index}

    def _create(self, name: str) -> None:
        """The next repository comes now, under a name that was another's."""
        index = int(np.searchsorted(self.created, self.now, side="right"))
        if index < self.shape.repositories:
            self.created[index] = self.pushed[index] = int(self.now)
            self.rename(index, name)

    # --- what one is like ---

    def owner_of(self, index: int) -> str:
        number = index * 7_919 % _OWNERS
        return f"{WORDS[number % len(WORDS)]}-{number}"

    def name_of(self, index: int) -> str:
        """In full."""
        renamed = self.names.get(index)
        return renamed or f"{self.owner_of(index)}/{WORDS[self._name_words[index]]}-{index}"

    def describe(self, index: int) -> str | None:
        if not self._is_described[index]:
            return None
        words = " ".join(WORDS[word] for word in self._words[index])
        odd = ODD_TEXTS[self._odd[index]]
        return f"{words} {odd}" if odd else words

    def topics_of(self, index: int) -> list[str]:
        return [TOPICS[topic] for topic in np.flatnonzero(self._topics[index])]

    def licence_of(self, index: int) -> str | None:
        return LICENCES[self._licences[index]]

    def text_of(self, index: int) -> str:
        """All that a word is looked for in; case does not count."""
        name = self.name_of(index).partition("/")[2]
        return " ".join((name, self.describe(index) or "", *self.topics_of(index))).casefold()

    def mentioned(self, word: str) -> Mask:
        """Which repositories have a word in their name, description or topics."""
        found = self._mentioned_first(word).copy()
        for index in self.names:
            found[index] = word in words_of(self.text_of(index))
        return found

    def _mentioned_first(self, word: str) -> Mask:
        """As before any of them was renamed."""
        if word not in self._mentions:
            found = np.zeros(self.shape.repositories, dtype=bool)
            if word in WORDS:
                number = WORDS.index(word)
                found |= (self._words == number).any(axis=1) & self._is_described
                found |= self._name_words == number
            for topic, name in enumerate(TOPICS):
                if word in words_of(name):
                    found |= self._topics[:, topic]
            for odd, text in enumerate(ODD_TEXTS):
                if word in words_of(text.casefold()):
                    found |= (self._odd == odd) & self._is_described
            if word.isdecimal() and int(word) < len(found):
                found[int(word)] = True
            self._mentions[word] = found
        return self._mentions[word]

    @cached_property
    def _mentions(self) -> dict[str, Mask]:
        return {}

    def find(self, full_name: str) -> tuple[int, bool] | None:
        """The repository of that name, and whether the name is a former one of it."""
        key = full_name.casefold()
        index = self._by_name.get(key)
        if index is not None and self.created[index] <= self.now:
            return index, False
        redirected = self._redirects.get(key)
        return None if redirected is None else (redirected, True)

    def index_of(self, number: int) -> int | None:
        """By the repository's number."""
        index = int(np.searchsorted(self.id, number))
        return index if index < len(self.id) and self.id[index] == number else None

    @cached_property
    def _by_name(self) -> dict[str, int]:
        return {self.name_of(index).casefold(): index for index in range(self.shape.repositories)}


def words_of(text: str) -> list[str]:
    return re.findall(r"\w+", text)


_CHANGES: dict[Change, float] = {
    "pushed": 1.0, "starred": 1.0, "archived": 0.005, "renamed": 0.02, "deleted": 0.008, "recreated": 0.002,
    "private": 0.005, "blocked": 0.001, "disabled": 0.001,
}  # fmt: skip
"""How often each happens, as a share of pushes."""
