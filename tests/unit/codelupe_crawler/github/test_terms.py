from __future__ import annotations

import time
from pathlib import Path

import pytest

from codelupe_crawler.github.terms import (
    MAX_TERM_CHARACTERS,
    TermMatcher,
    TermsUnreadable,
    parse_terms,
    read_terms,
    shipped_terms,
)


def test_the_shipped_terms_are_many_distinct_and_fit_for_a_search() -> None:
    terms = shipped_terms()
    assert len(terms) >= 275
    assert len({term.casefold().replace('"', "") for term in terms}) == len(terms)
    assert all(len(term) <= MAX_TERM_CHARACTERS for term in terms)
    for language in ("rust", "golang", "python", "typescript", "javascript", "dart"):
        assert language in terms
    assert read_terms() == terms


def test_every_shipped_term_is_found_where_it_stands() -> None:
    terms = shipped_terms()
    matcher = TermMatcher(terms)
    assert [term for term in terms if term not in matcher.matches("x", term.replace('"', ""), ())] == []


def test_a_file_of_the_operator_takes_their_place(tmp_path: Path) -> None:
    path = tmp_path / "terms.txt"
    path.write_bytes('\ufeff# ours\r\n\r\n  C#  \r\n"event   sourcing"\r\nweb framework\r\n'.encode())
    assert read_terms(path) == ("C#", '"event sourcing"', "web framework")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("one\n\ntwo\nONE\n", "line 4 cannot be used: line 1 says the same"),
        ("one\nweb  framework\nWeb Framework\n", "line 3 cannot be used: line 2 says the same"),
        ("x" * 101, "line 1 cannot be used: it has more than 100 characters"),
        ('"open', "a quotation mark is missing"),
        ("rust stars:>10", "'stars:>10' has a meaning of its own"),
        ("rust OR go", "'OR' has a meaning of its own"),
        ("rust -go", "'-go' has a meaning of its own"),
        ("bell\x07", "it holds a control character"),
        ("...", "it holds no word"),
        ('""', "it holds no word"),
        ("# nothing\n", "cannot be used: there are none"),
    ],
)
def test_what_is_no_term_is_refused_with_its_line(text: str, message: str) -> None:
    with pytest.raises(TermsUnreadable, match=message.replace("(", r"\(")):
        parse_terms(text, "terms.txt")


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(TermsUnreadable, match=r"absent\.txt cannot be used: No such file"):
        read_terms(tmp_path / "absent.txt")
    (tmp_path / "latin.txt").write_bytes(b"caf\xe9\n")
    with pytest.raises(TermsUnreadable, match="it is not UTF-8"):
        read_terms(tmp_path / "latin.txt")


@pytest.mark.parametrize(
    ("term", "name", "description", "topics"),
    [
        ("axum", "tokio-rs/axum", None, ()),
        ("Axum", "x/y", "An AXUM server", ()),
        ("axum", "x/y", None, ("web", "axum")),
        ("rust", "x/http_server_rust", None, ()),
        ("web framework", "x/framework", "for the web", ()),
        ('"web framework"', "x/y", "A web-framework.", ()),
        ('"web framework"', "x/y", None, ("web-framework",)),
        ("scikit-learn", "scikit-learn/scikit-learn", None, ()),
        ("node.js", "x/y", "Server for Node.js!", ()),
        ("c++", "x/y", "Modern C++17 and C", ()),
        ("c", "x/y", "Modern C++17 and C", ()),
        ("C#", "x/y", "a library in c#.", ()),
        (".net", "x/y", "Runs on .NET and Mono", ()),
        (".net", "x/y", "ASP.NET Core", ()),
        ("stra\N{LATIN SMALL LETTER SHARP S}e", "x/STRASSE", None, ()),
    ],
)
def test_a_term_is_found(term: str, name: str, description: str | None, topics: tuple[str, ...]) -> None:
    assert TermMatcher([term]).matches(name, description, topics) == (term,)


@pytest.mark.parametrize(
    ("term", "name", "description", "topics"),
    [
        ("tokio", "tokio/axum", None, ()),
        ("go", "x/golang", "ongoing", ("django",)),
        ("c", "x/y", "Only C++ and C#", ()),
        ("c++", "x/y", "Only C", ()),
        ("c#", "x/y", "see issue c#12", ()),
        (".net", "x/y", "a neural net, see example.net", ()),
        ('"web framework"', "x/web", "framework", ()),
        ('"web framework"', "x/y", None, ("web", "framework")),
        ("web framework", "x/y", "the web", ()),
        ("node.js", "x/node", "js", ()),
    ],
)
def test_a_term_is_not_found_elsewhere(term: str, name: str, description: str | None, topics: tuple[str, ...]) -> None:
    assert TermMatcher([term]).matches(name, description, topics) == ()


def test_terms_come_once_each_in_their_order() -> None:
    matcher = TermMatcher(["web", "axum", "rust"])
    assert matcher.matches("o/rust-axum", "Rust axum web, web", ("axum",)) == ("web", "axum", "rust")


def test_no_text_matches_everything_or_raises() -> None:
    matcher = TermMatcher([*shipped_terms(), ""])
    assert matcher.matches("", None, ()) == ()
    assert matcher.matches("\0\n", "\ud800 \N{RIGHT-TO-LEFT OVERRIDE}", ("", " ")) == ()


def test_a_thousand_repositories_a_second_are_no_burden() -> None:
    matcher = TermMatcher(shipped_terms())
    description = "A fast and simple web framework with machine learning, a command line tool and a REST API " * 3
    topics = (*(f"topic-{number}" for number in range(17)), "rust", "kubernetes", "web-framework")
    started = time.process_time()
    for number in range(2000):
        assert "rust" in matcher.matches(f"owner/name-{number}", description, topics)
    assert time.process_time() - started < 2
