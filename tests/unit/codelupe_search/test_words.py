"""Words of texts and of queries."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from codelupe_search.words import LONGEST_WORD, Query, Term, parse, words


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("tokio-rs/axum", ["tokio", "rs", "axum"]),
        ("fastAPI", ["fastapi"]),
        ("snake_case x2.0", ["snake", "case", "x2", "0"]),
        ("C++ & C#", ["c", "c"]),
        ("Ünï 漢字 ٣", ["ünï", "漢字", "٣"]),
        ("\x00\ud800'\\", []),
        ("x" * 1000, ["x" * LONGEST_WORD]),
        ("\N{LATIN CAPITAL LETTER I WITH DOT ABOVE}stanbul", ["istanbul"]),
    ],
)
def test_words(text: str, expected: list[str]) -> None:
    assert words(text) == expected


def _term(*found: str, negated: bool = False) -> Term:
    return Term(words=found, is_negated=negated)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("web framework", [[_term("web"), _term("framework")]]),
        ('"web framework" x', [[_term("web", "framework"), _term("x")]]),
        ("scikit-learn", [[_term("scikit", "learn")]]),
        ("a OR b c or -d", [[_term("a")], [_term("b"), _term("c")], [_term("d", negated=True)]]),
        ('-"a b" --c', [[_term("a", "b", negated=True), _term("c", negated=True)]]),
        ('"or"', [[_term("or")]]),
        ('say"hi there"', [[_term("say"), _term("hi", "there")]]),
        ('"never closed', [[_term("never", "closed")]]),
    ],
)
def test_queries(text: str, expected: list[list[Term]]) -> None:
    assert parse(text) == Query(alternatives=tuple(map(tuple, expected)))


@pytest.mark.parametrize("text", ["", "or", "- or --", '""', "!&|<->():*", " \x00 "])
def test_queries_without_words(text: str) -> None:
    assert parse(text) is None


def test_what_is_wanted_counts_once() -> None:
    query = parse("a -b a or a c")
    assert query is not None
    assert query.wanted == [("a",), ("c",)]


@given(st.text(alphabet=st.sampled_from(list("ab-\"'or |&!\\\x00ж"))))
def test_any_text_is_a_query_or_none(text: str) -> None:
    query = parse(text)
    assert query is None or all(term.words for alternative in query.alternatives for term in alternative)
