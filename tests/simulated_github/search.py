"""Search as GitHub documents it: qualifiers, inclusive ranges, words in name, description and topics."""

from __future__ import annotations

import re
import shlex
from calendar import timegm
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal

import numpy as np

from tests.simulated_github.world import LANGUAGES, Indices, World

LONGEST_QUERY = 256
MOST_OPERATORS = 5
_RANGES = {"created", "pushed", "stars", "forks", "size"}
_FLAGS = {"archived", "mirror", "template"}


class Unprocessable(Exception):
    """The query is refused with 422."""


@dataclass
class Query:
    """A query, taken apart."""

    ranges: dict[str, list[tuple[float, float]]] = field(default_factory=dict)
    language: int | None = None
    flags: dict[str, bool] = field(default_factory=dict)
    forks: Literal["none", "too", "only"] = "none"
    topic: str | None = None
    words: list[str] = field(default_factory=list)
    not_words: list[str] = field(default_factory=list)

    @property
    def is_by_range_of_time(self) -> bool:
        return bool(self.ranges.keys() & {"created", "pushed"})


def parse(text: str) -> Query:
    """Take a query apart.

    Raises:
        Unprocessable: it is too long, or has a qualifier or a value that there is not.
    """
    if len(text) > LONGEST_QUERY:
        raise Unprocessable("The search is longer than 256 characters.")
    if len(re.findall(r"\b(?:AND|OR|NOT)\b", text)) > MOST_OPERATORS:
        raise Unprocessable("The search contains more than five AND / OR / NOT operators.")
    query, negated = Query(), False
    for part in shlex.split(text):
        if part == "NOT":
            negated = True
            continue
        name, colon, value = part.partition(":")
        if colon:
            _take(query, name, value)
        else:
            (query.not_words if negated else query.words).append(part.casefold())
        negated = False
    return query


def _take(query: Query, name: str, value: str) -> None:
    match name:
        case _ if name in _RANGES:
            query.ranges.setdefault(name, []).append(_range(value, _time if name in ("created", "pushed") else float))
        case "language":
            by_name = {one.casefold(): index for index, one in enumerate(LANGUAGES)}
            query.language = by_name.get(value.casefold(), -1)
        case _ if name in _FLAGS and value in ("true", "false"):
            query.flags[name] = value == "true"
        case "fork" if value in ("true", "only"):
            query.forks = "too" if value == "true" else "only"
        case "topic":
            query.topic = value
        case "is" if value == "public":
            pass
        case _:
            raise Unprocessable(f"The qualifier {name}:{value} is not known.")


def _range(text: str, read: Callable[[str], float]) -> tuple[float, float]:
    """Both ends included; a time without its end means the whole second or day."""
    try:
        if ".." in text:
            low, high = text.split("..")
            return (-np.inf if low == "*" else read(low), np.inf if high == "*" else _end(high, read))
        for sign in (">=", "<=", ">", "<"):
            if text.startswith(sign):
                value = text.removeprefix(sign)
                step = 1
                return {
                    ">=": (read(value), np.inf),
                    "<=": (-np.inf, _end(value, read)),
                    ">": (_end(value, read) + step, np.inf),
                    "<": (-np.inf, read(value) - step),
                }[sign]
        return read(text), _end(text, read)
    except ValueError:
        raise Unprocessable(f"{text!r} is no range.") from None


def _end(text: str, read: Callable[[str], float]) -> float:
    is_day = read is _time and len(text) == len("2020-01-01")
    return read(text) + (86_399 if is_day else 0)


def _time(text: str) -> float:
    return timegm(datetime.fromisoformat(text.replace("Z", "+00:00")).utctimetuple())


def matches(world: World, query: Query) -> Indices:
    """The repositories that the query finds now, in the order of their creation."""
    low, high = 0, int(np.searchsorted(world.created, world.now, side="right"))
    for first, last in query.ranges.get("created", ()):
        low = max(low, int(np.searchsorted(world.created, first, side="left")))
        high = min(high, int(np.searchsorted(world.created, last, side="right")))
    found = np.arange(low, max(low, high), dtype=np.int64)
    keep = ~world.gone[found]
    if query.is_by_range_of_time:
        keep &= ~world.invisible[found]
    if query.language is not None:
        keep &= world.language[found] == query.language
    if query.forks != "too":
        keep &= world.fork[found] == (query.forks == "only")
    for name, value in query.flags.items():
        keep &= getattr(world, name)[found] == value
    for name, ranges in query.ranges.items():
        column = getattr(world, name)[found]
        for first, last in ranges:
            keep &= (column >= first) & (column <= last)
    found = found[keep]
    if query.topic or query.words or query.not_words:
        found = np.array([index for index in found if _has_words(world, int(index), query)], dtype=np.int64)
    return found


def _has_words(world: World, index: int, query: Query) -> bool:
    topics = world.topics_of(index)
    if query.topic is not None and query.topic not in topics:
        return False
    text = " ".join((world.name_of(index), world.describe(index) or "", *topics)).casefold()
    words = set(re.findall(r"\w+", text))
    return all(_is_in(word, words, text) for word in query.words) and not any(
        _is_in(word, words, text) for word in query.not_words
    )


def _is_in(word: str, words: set[str], text: str) -> bool:
    return word in words or (" " in word and word in text)


def in_order(world: World, found: Indices, sort: str | None, order: str, draw: np.random.Generator) -> Indices:
    """Sorted as asked for; without a sort the order is another one at each request (PyGithub#1748)."""
    if sort is None:
        return found[np.argsort(-world.stars[found] * draw.lognormal(0, 0.3, len(found)), kind="stable")]
    column = {"stars": world.stars, "forks": world.forks, "updated": world.pushed}[sort][found]
    return found[np.lexsort((world.id[found], column if order == "asc" else -column))]
