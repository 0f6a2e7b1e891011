from __future__ import annotations

import pytest

from codelupe_scorers.grammars import Role, grammar_for
from tests.unit.codelupe_scorers.samples import LANGUAGES


@pytest.mark.parametrize("language", [*LANGUAGES, "TSX"])
def test_every_kind_of_node_that_is_named_exists_in_the_installed_grammar(language: str) -> None:
    grammar = grammar_for(language)
    assert grammar is not None
    assert {Role.FUNCTION, Role.TYPE, Role.BLOCK, Role.BRANCH, Role.COMMENT, Role.ERROR} <= set(grammar.roles.values())


def test_a_grammar_is_loaded_once() -> None:
    assert grammar_for("Go") is grammar_for("Go")


def test_other_languages_have_none() -> None:
    assert grammar_for("COBOL") is None
