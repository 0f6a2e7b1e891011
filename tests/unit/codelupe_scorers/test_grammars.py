from __future__ import annotations

import pytest

from codelupe_scorers.grammars import outline_query
from tests.unit.codelupe_scorers.samples import LANGUAGES


@pytest.mark.parametrize("language", [*LANGUAGES, "TSX"])
def test_each_query_fits_the_installed_grammar_and_finds_the_same_things(language: str) -> None:
    query = outline_query(language)
    captures = {query.capture_name(number) for number in range(query.capture_count)}
    assert captures >= {"type", "block", "branch", "comment", "error", "type.name", "function.name", "import"}
    assert captures & {"function", "body"}


def test_a_query_is_read_once() -> None:
    assert outline_query("Go") is outline_query("Go")
