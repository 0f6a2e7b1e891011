from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from codelupe_trainer.syntax import count_errors

GOOD = {
    "Dart": "int add(int a, int b) => a + b;\n",
    "Go": "package a\n\nfunc Add(a, b int) int { return a + b }\n",
    "JavaScript": "const add = (a, b) => a + b;\n",
    "Python": "def add(a, b):\n    return a + b\n",
    "Rust": "fn add(a: i32, b: i32) -> i32 { a + b }\n",
    "TSX": "const one = <b>{1}</b>;\n",
    "TypeScript": "const add = (a: number, b: number): number => a + b;\n",
}


@pytest.mark.parametrize("language", GOOD)
def test_good_code_has_no_errors_and_broken_code_has(language: str) -> None:
    assert count_errors(language, GOOD[language]) == 0
    assert (count_errors(language, GOOD[language].replace("(", "", 1).replace("{1", "", 1)) or 0) > 0


def test_a_missing_token_is_an_error() -> None:
    assert count_errors("Python", "print((1)\n") == 1


@pytest.mark.parametrize("language", [None, "", "Brainfuck"])
def test_a_language_without_a_grammar_has_no_count(language: str | None) -> None:
    assert count_errors(language, "+++") is None


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_any_text_can_be_counted(text: str) -> None:
    assert (count_errors("Python", text) or 0) >= 0
