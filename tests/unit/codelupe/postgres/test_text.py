from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from codelupe import Database, storable
from codelupe.postgres.text import is_storable, is_storable_json

UNFIT = ["\x00", "a\x00b", "\ud800", "caf\udce9", "\udfff"]
FIT = ["", "a", "\\u0000", "\x01", "\ue000", "\U0010ffff"]


@pytest.mark.parametrize("text", UNFIT)
def test_what_is_unfit_is_known_and_replaced(text: str) -> None:
    assert not is_storable(text)
    assert is_storable(storable(text))
    assert is_storable(storable(text, "?"))


def test_escapes_are_legible() -> None:
    assert storable("a\x00b caf\udce9") == "a\N{SYMBOL FOR NULL}b caf\\udce9"
    assert storable("a\x00b caf\udce9", "?") == "a?b caf?"


@pytest.mark.parametrize("text", FIT)
def test_what_is_fit_stays(text: str) -> None:
    assert is_storable(text)
    assert storable(text) == text


@given(st.text(alphabet=st.sampled_from('\\u0\x00n"a'), max_size=12))
def test_json_is_unfit_where_a_text_in_it_is(text: str) -> None:
    assert is_storable_json(json.dumps({text: [text]}).encode()) == is_storable(text)


@pytest.mark.anyio
@pytest.mark.parametrize("text", [*FIT, *map(storable, UNFIT)])
async def test_postgres_holds_what_is_storable(database: Database, text: str) -> None:
    assert await database.fetchval("select $1::text", text) == text
