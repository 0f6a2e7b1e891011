"""Finding whole words and phrases in names and in prose, however they are joined."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Iterator
from functools import lru_cache

_JOINTS = frozenset("-_./+\N{MIDDLE DOT}\N{HYPHEN}\N{NON-BREAKING HYPHEN}")
_WITHOUT_SPACES = re.compile("[\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff\U00020000-\U0003ffff]")
"""Letters of scripts that do not part words: each counts as a part, so that a word is found inside of a run of them."""


class Words:
    """Words and phrases to look for, whatever their case.

    A word is found where it is whole: between spaces, punctuation, hyphens, underscores, digits and the humps of camel
    case. It may be parted by such joints itself: ``cheatsheet`` is in ``CheatSheet`` and in ``cheat-sheet``. The words
    of a phrase may be joined: ``cheat sheet`` is there, too.
    """

    def __init__(self, wanted: Iterable[str]) -> None:
        self._patterns = {each: re.compile(pattern) for each in wanted if (pattern := _pattern(each))}

    def first_in(self, text: str) -> str | None:
        """The first of those looked for that the text has."""
        parts = _parted(text)
        return next((wanted for wanted, pattern in self._patterns.items() if pattern.search(parts)), None)


@lru_cache(maxsize=8)
def words(wanted: tuple[str, ...]) -> Words:
    """The same object for the same words."""
    return Words(wanted)


def _pattern(wanted: str) -> str:
    """Of a phrase in the form of :func:`_parted`; empty if it has no letter and no digit."""
    single = [word.replace("-", "") for word in _parted(wanted).split()]
    joinable = ("-?".join(map(re.escape, word)) for word in single if word)
    phrase = "[ -]*".join(joinable)
    return f"(?<![^ -]){phrase}(?![^ -])" if phrase else ""


def _parted(text: str) -> str:
    """The text in lower case: a space for what ends a word, a hyphen for what joins its parts."""
    visible = "".join(each for each in text if unicodedata.category(each) != "Cf")
    return "".join(_parts(unicodedata.normalize("NFKC", visible))).casefold()


def _parts(text: str) -> Iterator[str]:
    before = " "
    for each, after in zip(text, f"{text[1:]} ", strict=False):
        if unicodedata.category(each)[0] not in "LMN":
            yield "-" if each in _JOINTS else " "
        else:
            if _begins_part(before, each, after):
                yield "-"
            yield each
        before = each


def _begins_part(before: str, letter: str, after: str) -> bool:
    """Whether a new part of a word begins, as in ``fooBar``, ``HTTPServer``, ``week3``, ``3rd`` and among Han."""
    if _WITHOUT_SPACES.match(letter) or _WITHOUT_SPACES.match(before):
        return True
    if letter.isupper():
        return before.islower() or (before.isupper() and after.islower())
    return (before.isalpha() and letter.isdigit()) or (before.isdigit() and letter.isalpha())
