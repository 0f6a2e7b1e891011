"""Texts that share a run of ten words with a problem of a benchmark, the measure of OpenCoder's data set (Huang and
others, 2024).

Not every run counts: one of which fewer than four different words have two letters or more is a table of numbers or an
idiom (``for i in range(n): for j in range``), and one that more than three problems of a benchmark have is how the
benchmark puts things, not what it asks.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from codelupe_text.ngrams import WORD, Hashes, ngram_hashes

RUN_WORDS = 10
_TELLING_WORDS = 4
_TELLING = re.compile(r"[^\W\d_]{2}")
_MOST_PROBLEMS = 3
_QUOTED = 200
_BEGINNING_BITS = 20


@dataclass(frozen=True, kw_only=True)
class Problem:
    """What a benchmark asks and answers, in one text or several."""

    id: str
    texts: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Match:
    """The problem that a text shares most with, how many of its 10-grams, and where the first of them stands."""

    problem: str
    shared: int
    total: int
    text: str


class Index:
    """The 10-grams of problems that tell something, each with a problem that has it."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        owners = _telling_ngrams(problems)
        self._hashes = np.array(sorted(owners), np.uint64)
        self._owners = [owners[number] for number in self._hashes.tolist()]
        self._beginnings = np.zeros(1 << _BEGINNING_BITS, bool)
        self._beginnings[_beginning(self._hashes)] = True

    def __len__(self) -> int:
        return len(self._hashes)

    def find(self, text: str) -> Match | None:
        """The problem that the text has most 10-grams of; None if it has none of any."""
        hashes = ngram_hashes(text, RUN_WORDS)
        hits = self._hits(hashes)
        return self._match(text, hashes[hits], int(hits[0])) if len(hits) else None

    def problems_in(self, text: str) -> frozenset[str]:
        """All problems that the text has a 10-gram of."""
        hashes = ngram_hashes(text, RUN_WORDS)
        shared = np.unique(hashes[self._hits(hashes)])
        return frozenset().union(*(self._owners[place] for place in np.searchsorted(self._hashes, shared)))

    def _hits(self, hashes: Hashes) -> NDArray[np.intp]:
        """Which of these the index has."""
        likely = np.flatnonzero(self._beginnings[_beginning(hashes)])
        places = np.searchsorted(self._hashes, hashes[likely]).clip(max=len(self) - 1)
        hits: NDArray[np.intp] = likely[self._hashes[places] == hashes[likely]]
        return hits

    def _match(self, text: str, shared: Hashes, first_word: int) -> Match:
        counts: defaultdict[str, int] = defaultdict(int)
        for place in np.searchsorted(self._hashes, np.unique(shared)):
            for problem in self._owners[place]:
                counts[problem] += 1
        problem = max(counts, key=lambda id_: (counts[id_], id_))
        total = sum(problem in owners for owners in self._owners)
        return Match(problem=problem, shared=counts[problem], total=total, text=_quote(text, first_word))


def _beginning(hashes: Hashes) -> Hashes:
    return hashes >> np.uint64(64 - _BEGINNING_BITS)


def _quote(text: str, first_word: int) -> str:
    """The ten words from the one with this number on, with what stands between them."""
    spans = [word.span() for _, word in zip(range(first_word + RUN_WORDS), WORD.finditer(text), strict=False)]
    return text[spans[first_word][0] : spans[-1][1]][:_QUOTED]


def _telling_ngrams(problems: Iterable[Problem]) -> dict[int, frozenset[str]]:
    owners: defaultdict[int, set[str]] = defaultdict(set)
    for problem in problems:
        for text in problem.texts:
            words = WORD.findall(text)
            for start, number in enumerate(ngram_hashes(text, RUN_WORDS).tolist()):
                if len(set(filter(_TELLING.search, words[start : start + RUN_WORDS]))) >= _TELLING_WORDS:
                    owners[number].add(problem.id)
    return {number: frozenset(ids) for number, ids in owners.items() if len(ids) <= _MOST_PROBLEMS}
