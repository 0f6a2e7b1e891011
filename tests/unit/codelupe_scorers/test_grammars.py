from __future__ import annotations

import pytest

from codelupe_scorers.grammars import grammar_for
from tests.unit.codelupe_scorers.samples import LANGUAGES


@pytest.mark.parametrize("language", [*LANGUAGES, "TSX"])
def test_each_query_fits_the_installed_grammar_and_finds_the_same_things(language: str) -> None:
    grammar = grammar_for(language)
    assert grammar is not None
    captures = {grammar.outline.capture_name(number) for number in range(grammar.outline.capture_count)}
    assert captures >= {"type", "block", "branch", "comment", "error", "type.name", "function.name", "import"}
    assert captures & {"function", "body"}


def test_a_grammar_is_loaded_once() -> None:
    assert grammar_for("Go") is grammar_for("Go")


def test_other_languages_have_none() -> None:
    assert grammar_for("COBOL") is None
