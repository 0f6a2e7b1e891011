"""Repetition: how much of the file has been said in it before?"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import islice

from codelupe import Score, SourceFile
from codelupe_scorers.curves import ramp

_WORD = re.compile(r"\w+")
_MAX_CHARACTERS = 8_000
"""From the start of the file: as many as a file for training may have; the rest would only cost time."""
_MIN_WORDS = 50
"""In fewer words a pair that comes twice is no sign of anything."""
_DUPLICATE_LINES = 0.70
_DUPLICATE_NGRAMS = {5: 0.80, 10: 0.60}
_TOP_NGRAMS = {2: 0.20, 3: 0.18, 4: 0.16}


@dataclass
class Repetition:
    """The shares of repeated lines and word n-grams, measured against OpenCoder's thresholds.

    Each share is divided by the threshold at which OpenCoder's rules throw a file away: lines that came before .70,
    5-grams that came before .80, 10-grams .60, and the words that lie in the most frequent 2-, 3- and 4-gram .20, .18
    and .16. The largest quotient decides: 100 points at 0, 40 at 1, none from 1.67 on.
    """

    weight: float
    name = "repetition"
    version = 2

    def score(self, file: SourceFile) -> Score:
        quotients = dict(_quotients(file.content))
        worst = max(quotients, key=lambda name: quotients[name])
        value = 100 * ramp(quotients[worst], zero=5 / 3, one=0)
        return Score(value=round(value, 1), reasons=(f"{worst}: {quotients[worst]:.0%} of the threshold",))


def _quotients(text: str) -> list[tuple[str, float]]:
    text = text[:_MAX_CHARACTERS]
    lines = list(filter(_WORD.search, map(str.strip, text.split("\n"))))
    words = _WORD.findall(text)
    quotients = [("repeated lines", _repeated(lines) / _DUPLICATE_LINES)]
    for size, threshold in _DUPLICATE_NGRAMS.items():
        quotients.append((f"repeated {size}-grams", _repeated_ngrams(words, size) / threshold))
    if len(words) >= _MIN_WORDS:
        for size, threshold in _TOP_NGRAMS.items():
            quotients.append((f"most frequent {size}-gram", _top_share(words, size) / threshold))
    return quotients


def _ngrams(words: Sequence[str], size: int) -> Iterable[tuple[str, ...]]:
    return zip(*(islice(words, start, None) for start in range(size)), strict=False)


def _repeated(items: Sequence[object]) -> float:
    """The share of items that came before."""
    return 1 - len(set(items)) / len(items) if items else 0.0


def _repeated_ngrams(words: Sequence[str], size: int) -> float:
    count = len(words) - size + 1
    return 1 - len(set(_ngrams(words, size))) / count if count > 0 else 0.0


def _top_share(words: Sequence[str], size: int) -> float:
    """The share of the words that lie in the most frequent n-gram."""
    most = max(Counter(_ngrams(words, size)).values())
    return min(1.0, most * size / len(words))
