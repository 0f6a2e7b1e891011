"""Cursors that come from elsewhere."""

from __future__ import annotations

from base64 import urlsafe_b64encode

import pytest

from codelupe import SearchSort
from codelupe_search.cursor import Cursor, InvalidCursor


@pytest.mark.parametrize(
    ("sort", "place"),
    [
        ("relevance", '["relevance", 1, "a\\u0000b"]'),
        ("name", '["name", "a\\u0000b", "a"]'),
        ("stars", f'["stars", {2**63}, "a"]'),
        ("pushed", f'["pushed", -1{"0" * 400}, "a"]'),
        ("relevance", '["relevance", 1e999, "a"]'),
        ("relevance", '["relevance", NaN, "a"]'),
        ("relevance", '["relevance", true, "a"]'),
        ("relevance", '["relevance", 1]'),
    ],
)
def test_what_no_index_can_ask_for_is_no_cursor(sort: SearchSort, place: str) -> None:
    with pytest.raises(InvalidCursor, match="is no cursor"):
        Cursor.decode(urlsafe_b64encode(place.encode()).decode(), sort)


@pytest.mark.parametrize(("sort", "key"), [("relevance", 30.5), ("pushed", -1), ("stars", 2**31 - 1), ("name", "é/b")])
def test_a_cursor_says_what_it_was_made_of(sort: SearchSort, key: float | str) -> None:
    cursor = Cursor(sort=sort, key=key, repository_id="github:1")
    assert Cursor.decode(cursor.encode(), sort) == cursor
