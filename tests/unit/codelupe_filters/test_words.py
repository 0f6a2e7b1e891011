from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from codelupe_filters.words import Words

WANTED = Words(["demo", "tutorials", "cheat sheet", "LeetCode", "Übung", "книги", "教程", "ट्यूटोरियल", "web3"])


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("demo", "demo"),
        ("A DEMO!", "demo"),
        ("rust-demo", "demo"),
        ("rust_demo", "demo"),
        ("rust.demo", "demo"),
        ("RustDemo", "demo"),
        ("rustDemoApp", "demo"),
        ("HTTPDemo", "demo"),
        ("demo2", "demo"),
        ("2demo", "demo"),
        ("(demo)", "demo"),
        ("demo's", "demo"),
        ("de\N{SOFT HYPHEN}mo", "demo"),
        ("de\N{ZERO WIDTH SPACE}mo", "demo"),
        ("\N{FULLWIDTH LATIN SMALL LETTER D}emo", "demo"),
        ("no\N{NO-BREAK SPACE}demo", "demo"),
        ("line\ntutorials", "tutorials"),
        ("a cheat sheet", "cheat sheet"),
        ("cheat  sheet", "cheat sheet"),
        ("cheat-sheet", "cheat sheet"),
        ("cheat_sheet", "cheat sheet"),
        ("my-cheatsheet", "cheat sheet"),
        ("VimCheatSheet", "cheat sheet"),
        ("leetcode", "LeetCode"),
        ("leet-code", "LeetCode"),
        ("LeetCode-Solutions", "LeetCode"),
        ("übung", "Übung"),
        ("U\N{COMBINING DIAERESIS}BUNG 3", "Übung"),
        ("rust-Übung", "Übung"),
        ("Книги для Rust", "книги"),
        ("Python教程合集", "教程"),
        ("ट्यूटोरियल देखें", "ट्यूटोरियल"),
        ("web3-parser", "web3"),
        ("Web3", "web3"),
    ],
)
def test_a_whole_word_is_found_however_it_is_joined(text: str, found: str) -> None:
    assert WANTED.first_in(text) == found


@pytest.mark.parametrize(
    "text",
    [
        *("", " ", "democracy", "Undemo", "undemonstrative", "tutorial", "démo", "Übungen", "книгили", "web", "web4"),
        *("ट्यूटोरिय", "cheat", "sheet", "sheet cheat", "a cheat on a sheet", "de mo", "Übun g", "程教", "cheatsheets"),
    ],
)
def test_a_part_of_a_word_is_not(text: str) -> None:
    assert WANTED.first_in(text) is None


@pytest.mark.parametrize("wanted", [[], [""], ["  "], ["-"], ["!?"]])
def test_what_has_no_letter_is_never_found(wanted: list[str]) -> None:
    assert Words(wanted).first_in("any - text !?") is None


@given(st.text(st.characters(categories=["Ll"], max_codepoint=0x24F), min_size=1), st.text(max_size=5))
def test_a_word_is_found_as_it_stands_between_spaces(word: str, text: str) -> None:
    assert Words([word]).first_in(f"{text} {word} {text}") == word


@given(st.lists(st.text(max_size=8), max_size=3), st.text())
def test_any_words_and_any_text_do(wanted: list[str], text: str) -> None:
    found = Words(wanted).first_in(text)
    assert found is None or found in wanted


def test_characters_of_regular_expressions_stand_for_themselves() -> None:
    assert Words(["a.*b"]).first_in("axxb") is None
    assert Words([re.escape("a.b")]).first_in("a-b") is not None
