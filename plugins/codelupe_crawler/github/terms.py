"""Search terms: the file that holds them, and which of them a repository has."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from importlib.resources import files
from pathlib import Path

from codelupe import CodelupeError

MAX_TERM_CHARACTERS = 100
"""GitHub takes queries of 256 characters; the rest is for the gate."""
_PART = re.compile(r'"([^"]*)"|(\S+)')
_OPERATOR = re.compile(r"AND|OR|NOT|[\w-]+:\S*|[-<>=()*].*")
_WORD = re.compile(r"(?:(?<![\w.])|(?<=\basp))\.net\b|[^\W_]+(?:\+\+|#(?!\w))?")
"""A word in small letters. What stands between words is no part of them, but for that of C++, C#, and .NET."""
_BETWEEN_FIELDS = "\n"


class TermsUnreadable(CodelupeError):
    """A file of search terms cannot be used."""

    code = "terms-unreadable"

    def __init__(self, where: str, reason: str) -> None:
        super().__init__(
            f"the search terms in {where} cannot be used: {reason}",
            hint="Write one term a line; comments begin with `#`.",
        )


def shipped_terms() -> tuple[str, ...]:
    """Those that come with CodeLupe."""
    return parse_terms((files("codelupe_crawler") / "github" / "terms.txt").read_text(encoding="utf-8"), "terms.txt")


def read_terms(path: Path | None = None) -> tuple[str, ...]:
    """The terms in a file, or those that come with CodeLupe.

    Raises:
        TermsUnreadable: the file cannot be read, or a line is no term.
    """
    if path is None:
        return shipped_terms()
    try:
        return parse_terms(path.read_text(encoding="utf-8-sig"), str(path))
    except OSError as error:
        raise TermsUnreadable(str(path), error.strerror or str(error)) from error
    except UnicodeDecodeError:
        raise TermsUnreadable(str(path), "it is not UTF-8") from None


def parse_terms(text: str, where: str) -> tuple[str, ...]:
    """The terms of a file, in its order.

    Raises:
        TermsUnreadable: a line is no term, or says what one before it says; or there is none.
    """
    found: dict[str, tuple[int, str]] = {}
    for number, line in enumerate(text.split("\n"), 1):
        term = " ".join(line.split())
        if not term or term.startswith("#"):
            continue
        if fault := fault_of(term):
            raise TermsUnreadable(f"{where}, line {number}", fault)
        if term.casefold() in found:
            raise TermsUnreadable(f"{where}, line {number}", f"line {found[term.casefold()][0]} says the same")
        found[term.casefold()] = number, term
    if not found:
        raise TermsUnreadable(where, "there are none")
    return tuple(term for _, term in found.values())


def fault_of(term: str) -> str | None:
    """Why GitHub would not look for these words, and for nothing else."""
    if len(term) > MAX_TERM_CHARACTERS:
        return f"it has more than {MAX_TERM_CHARACTERS} characters"
    if not term.isprintable():
        return "it holds a control character"
    if term.count('"') % 2:
        return "a quotation mark is missing"
    if operator := next((word for _, word in _PART.findall(term) if _OPERATOR.fullmatch(word)), None):
        return f"{operator!r} has a meaning of its own in a search; put it in quotation marks"
    parts = _PART.findall(term)
    if not parts or not all(_words(phrase or word) for phrase, word in parts):
        return "it holds no word"
    return None


class TermMatcher:
    """Finds terms as GitHub's search does: each word in a repository's name, description or topics.

    Words in quotation marks, or joined as in ``scikit-learn`` or ``node.js``, follow each other.
    """

    def __init__(self, terms: Sequence[str]) -> None:
        self._terms = terms
        self._by_first_word: dict[str, list[tuple[int, list[str]]]] = defaultdict(list)
        for number, term in enumerate(terms):
            phrases = [_words(phrase or word) for phrase, word in _PART.findall(term)]
            wanted = [f" {' '.join(words)} " for words in phrases if words]
            if wanted:
                self._by_first_word[next(filter(None, phrases))[0]].append((number, wanted))

    def matches(self, name: str, description: str | None, topics: Sequence[str]) -> tuple[str, ...]:
        """The terms that it has, in their order. Of a ``name`` such as ``owner/name`` the owner does not count."""
        fields = [_words(field) for field in (name.rpartition("/")[2], description or "", *topics)]
        text = _BETWEEN_FIELDS.join(f" {' '.join(field)} " for field in fields)
        return tuple(self._terms[number] for number in sorted(self._found(text, set().union(*fields))))

    def _found(self, text: str, words: set[str]) -> Iterator[int]:
        for word in words & self._by_first_word.keys():
            for number, phrases in self._by_first_word[word]:
                if all(phrase in text for phrase in phrases):
                    yield number


def _words(text: str) -> list[str]:
    return _WORD.findall(text.casefold())
