"""Words, as documents hold them and as queries ask for them: the same ones in every index.

A word is a run of letters and digits in lower case, so ``scikit-learn`` is two of them and ``fastAPI`` is one.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

LONGEST_WORD = 255
_DOTTED_I = "\N{LATIN CAPITAL LETTER I WITH DOT ABOVE}"
"""The one letter of which Python makes two in lower case, where Elasticsearch makes an i."""
_LONGEST_QUERY = 1000
_WORD = re.compile(r"[^\W_]+")
_PIECE = re.compile(r'(?P<minus>-?)(?:"(?P<phrase>[^"]*)"?|(?P<word>[^\s"]+))')


def words(text: str) -> list[str]:
    """The words of the text in their order."""
    return [word[:LONGEST_WORD] for word in _WORD.findall(text.replace(_DOTTED_I, "i").lower())]


@dataclass(frozen=True, kw_only=True)
class Term:
    """Words that stand one after another, or must not."""

    words: tuple[str, ...]
    is_negated: bool = False


@dataclass(frozen=True, kw_only=True)
class Query:
    """Alternatives, of which one must hold; in it, all of its terms."""

    alternatives: tuple[tuple[Term, ...], ...]

    @cached_property
    def wanted(self) -> list[tuple[str, ...]]:
        """The terms that are not negated, each once: what the rank is made of."""
        terms = (term for alternative in self.alternatives for term in alternative)
        return list(dict.fromkeys(term.words for term in terms if not term.is_negated))


def parse(text: str) -> Query | None:
    """The query that the text says, in the words of a web search; None if it has no words."""
    alternatives: list[list[Term]] = [[]]
    for piece in _PIECE.finditer(text[:_LONGEST_QUERY]):
        if piece["word"] and piece[0].lower() == "or":
            alternatives.append([])
        else:
            alternatives[-1] += _terms(piece)
    found = tuple(tuple(alternative) for alternative in alternatives if alternative)
    return Query(alternatives=found) if found else None


def _terms(piece: re.Match[str]) -> Iterator[Term]:
    if found := words(piece["word"] or piece["phrase"] or ""):
        yield Term(words=tuple(found), is_negated=bool(piece["minus"]))
