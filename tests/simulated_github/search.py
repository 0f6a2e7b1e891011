"""Search as GitHub documents it: qualifiers, inclusive ranges, words in name, description and topics."""

from __future__ import annotations

import re
from calendar import timegm
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from functools import lru_cache
from typing import Literal

import numpy as np

from tests.simulated_github.world import LANGUAGES, LICENCES, Indices, World, words_of

LONGEST_QUERY = 256
MOST_OPERATORS = 5
MOST_RESULTS = 1_000
_RANGES = {"created", "pushed", "stars", "forks", "size"}
_FLAGS = {"archived", "mirror", "template"}
_SORTS = {"stars", "forks", "updated"}
_LANGUAGES = {one.casefold(): index for index, one in enumerate(LANGUAGES) if one}
_LICENCES = {one.casefold(): index for index, one in enumerate(LICENCES) if one}


class UnprocessableError(Exception):
    """The query is refused with 422."""


@dataclass
class Query:
    """A query, taken apart."""

    ranges: list[tuple[str, float, float]] = field(default_factory=list)
    """The column, and what is included at both ends."""
    excluded: list[tuple[str, float, float]] = field(default_factory=list)
    languages: list[tuple[int, bool]] = field(default_factory=list)
    """Each with whether it is wanted, or to be left out."""
    licences: list[tuple[int, bool]] = field(default_factory=list)
    topics: list[tuple[str, bool]] = field(default_factory=list)
    flags: dict[str, bool] = field(default_factory=dict)
    forks: Literal["none", "too", "only"] = "none"
    names: list[str] = field(default_factory=list)
    owners: list[str] = field(default_factory=list)
    words: list[list[str]] = field(default_factory=list)
    """One of each group must be there; one with a space is a phrase."""
    not_words: list[str] = field(default_factory=list)
    sort: str | None = None
    """As in ``sort:stars-asc``."""


@lru_cache(maxsize=256)
def parse(text: str) -> Query:
    """Take a query apart.

    Raises:
        UnprocessableError: it is too long, or has a qualifier or a value that there is not.
    """
    if len(text) > LONGEST_QUERY:
        raise UnprocessableError("The search is longer than 256 characters.")
    if len(re.findall(r"\b(?:AND|OR|NOT)\b", text)) > MOST_OPERATORS:
        raise UnprocessableError("The search contains more than five AND / OR / NOT operators.")
    query, operator = Query(), ""
    for part in re.findall(r'(?:[^\s"]|"[^"]*"?)+', text):
        if part in ("AND", "OR", "NOT"):
            operator = part
            continue
        _take_part(query, part.replace('"', ""), operator)
        operator = ""
    return query


def _take_part(query: Query, part: str, operator: str) -> None:
    is_wanted = not part.startswith("-") or len(part) == 1
    name, colon, value = part.removeprefix("" if is_wanted else "-").partition(":")
    if colon:
        if operator == "NOT":
            raise UnprocessableError("NOT stands before words only.")
        _take_qualifier(query, name, value, is_wanted=is_wanted)
    elif operator == "NOT" or not is_wanted:
        query.not_words.append(name.casefold())
    elif operator == "OR" and query.words:
        query.words[-1].append(name.casefold())
    elif name:
        query.words.append([name.casefold()])


def _take_qualifier(query: Query, name: str, value: str, *, is_wanted: bool) -> None:
    if name in _RANGES:
        is_time = name in ("created", "pushed")
        (query.ranges if is_wanted else query.excluded).append((name, *_range(value, _time if is_time else float)))
    elif name in _FLAGS and value in ("true", "false"):
        query.flags[name] = (value == "true") == is_wanted
    elif not (_take_kind(query, name, value.casefold(), is_wanted=is_wanted) or _take_scope(query, name, value)):
        raise UnprocessableError(f"The qualifier {name}:{value} is not known.")


def _take_kind(query: Query, name: str, value: str, *, is_wanted: bool) -> bool:
    match name:
        case "language":
            query.languages.append((_LANGUAGES.get(value, -1), is_wanted))
        case "license":
            query.licences.append((_LICENCES.get(value, -1), is_wanted))
        case "topic":
            query.topics.append((value, is_wanted))
        case _:
            return False
    return True


def _take_scope(query: Query, name: str, value: str) -> bool:
    match name:
        case "fork" if value in ("true", "only"):
            query.forks = "too" if value == "true" else "only"
        case "repo":
            query.names.append(value.casefold())
        case "user" | "org":
            query.owners.append(value.casefold())
        case "sort" if value.removesuffix("-asc").removesuffix("-desc") in _SORTS:
            query.sort = value
        case "is":
            return value == "public"
        case "in":
            return set(value.split(",")) <= {"name", "description", "topics"}
        case _:
            return False
    return True


def _range(text: str, read: Callable[[str], float]) -> tuple[float, float]:
    """Both ends included; a day stands for all of its seconds."""
    try:
        if ".." in text:
            low, high = text.split("..")
            return (-np.inf if low == "*" else read(low), np.inf if high == "*" else _end(high, read))
        for sign in (">=", "<=", ">", "<"):
            if text.startswith(sign):
                value = text.removeprefix(sign)
                return {
                    ">=": (read(value), np.inf),
                    "<=": (-np.inf, _end(value, read)),
                    ">": (_end(value, read) + 1, np.inf),
                    "<": (-np.inf, read(value) - 1),
                }[sign]
        return read(text), _end(text, read)
    except ValueError:
        raise UnprocessableError(f"{text!r} is no range.") from None


def _end(text: str, read: Callable[[str], float]) -> float:
    is_day = read is _time and len(text) == len("2020-01-01")
    return read(text) + (86_399 if is_day else 0)


def _time(text: str) -> float:
    return timegm(datetime.fromisoformat(text).utctimetuple())


@dataclass(frozen=True)
class Found:
    """What a query finds; ``counted`` are those that are in the total and never shown."""

    shown: Indices
    counted: int

    @property
    def total(self) -> int:
        return len(self.shown) + self.counted


def search(world: World, query: Query) -> Found:
    """The repositories that the query finds now, in the order of their creation."""
    found = select(world, query)
    if query.ranges:
        hidden = world.counted[found]
        return Found(found[~world.invisible[found] & ~hidden], int(hidden.sum()))
    return Found(found, 0)


def select(world: World, query: Query) -> Indices:
    """All that the query is true of, whether a search shows them or not."""
    part = _created_in(world, query)
    keep = ~world.gone[part]
    for index, is_wanted in query.languages:
        keep &= (world.language[part] == index) == is_wanted
    if query.forks != "too":
        keep &= world.fork[part] == (query.forks == "only")
    for name, value in query.flags.items():
        keep &= getattr(world, name)[part] == value
    for ranges, is_wanted in ((query.ranges, True), (query.excluded, False)):
        for name, first, last in ranges:
            column = getattr(world, name)[part]
            keep &= ((column >= first) & (column <= last)) == is_wanted
    for words in query.words:
        keep &= np.logical_or.reduce([_mentioned(world, word)[part] for word in words])
    for word in query.not_words:
        keep &= ~_mentioned(world, word)[part]
    found: Indices = np.flatnonzero(keep) + part.start
    return found[[_has_texts(world, int(index), query) for index in found]] if _asks_texts(query) else found


def _created_in(world: World, query: Query) -> slice:
    low, high = 0, int(np.searchsorted(world.created, world.now, side="right"))
    for name, first, last in query.ranges:
        if name == "created":
            low = max(low, int(np.searchsorted(world.created, first, side="left")))
            high = min(high, int(np.searchsorted(world.created, last, side="right")))
    return slice(low, max(low, high))


def _mentioned(world: World, phrase: str) -> np.typing.NDArray[np.bool_]:
    words = words_of(phrase)
    found = np.logical_and.reduce([world.mentioned(word) for word in words]) if words else world.gone & False
    if len(words) > 1:
        for index in np.flatnonzero(found):
            found[index] = " ".join(words) in " ".join(words_of(world.text_of(int(index))))
    return np.asarray(found)


def _asks_texts(query: Query) -> bool:
    return bool(query.topics or query.licences or query.names or query.owners)


def _has_texts(world: World, index: int, query: Query) -> bool:
    name = world.name_of(index).casefold()
    topics = world.topics_of(index)
    licence = LICENCES.index(world.licence_of(index))
    return (
        (not query.names or name in query.names)
        and (not query.owners or name.partition("/")[0] in query.owners)
        and all((topic in topics) == is_wanted for topic, is_wanted in query.topics)
        and all((licence == one) == is_wanted for one, is_wanted in query.licences)
    )


def in_order(world: World, found: Indices, sort: str | None, draw: np.random.Generator, *, shuffles: bool) -> Indices:
    """Sorted as in ``stars-desc``; without a sort the order is another one at each request (PyGithub#1748).

    Args:
        shuffles: whether what is equal comes in another order at each request, too.
    """
    if sort is None:
        return found[np.argsort(-world.stars[found] * draw.lognormal(0, 0.3, len(found)), kind="stable")]
    by, _, order = sort.partition("-")
    column = {"stars": world.stars, "forks": world.forks, "updated": world.pushed}[by][found]
    ties = draw.random(len(found)) if shuffles else world.id[found]
    return found[np.lexsort((ties, column if order == "asc" else -column))]
