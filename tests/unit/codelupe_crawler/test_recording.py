from __future__ import annotations

from dataclasses import replace

import msgspec
import pytest

from codelupe import Repository
from codelupe_crawler.recording import _storable, storable_repository
from codelupe_events import RepoDiscovered

PLAIN = Repository(source="test", external_id="1", full_name="a/b", url="https://host/a/b", revision="r", topics=("x",))


def test_what_can_be_stored_is_left_alone() -> None:
    assert storable_repository(PLAIN) == PLAIN


def test_text_that_postgres_cannot_hold_is_replaced() -> None:
    hostile = replace(PLAIN, external_id="\x00", full_name="a/\ud800b", description="x\x00" * 2000, topics=("\udfff",))
    event = storable_repository(hostile).to_event(RepoDiscovered)
    assert (event.repository_id, event.full_name, event.topics) == ("test:\ufffd", "a/\ufffdb", ("\ufffd",))
    assert event.description == "x\ufffd" * 500
    assert msgspec.json.decode(msgspec.json.encode(event), type=type(event)) == event


def test_values_other_than_text_are_left_alone() -> None:
    assert (_storable(3), _storable(None), _storable(["\x00", 1])) == (3, None, ("\ufffd", 1))


def test_a_value_of_the_wrong_type_is_refused() -> None:
    with pytest.raises(msgspec.ValidationError):
        storable_repository(replace(PLAIN, stars="many")).to_event(RepoDiscovered)  # type: ignore[arg-type]


def test_credentials_in_an_address_are_left_out() -> None:
    told = storable_repository(replace(PLAIN, url="https://user:planted-token@host/a/b.git"))
    assert told.url == "https://host/a/b.git"
