"""Identifiers: time-ordered ids, keys that depend on all their parts; recorded events as data."""

from __future__ import annotations

import time
import uuid
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from codelupe.log.records import Recorded, derive_key, uuid7
from codelupe_events import EventError, RepoEmpty


def test_ids_are_version_7_of_the_standard_variant() -> None:
    made = [uuid7() for _ in range(1000)]
    assert {one.version for one in made} == {7}
    assert {one.variant for one in made} == {uuid.RFC_4122}
    assert len(set(made)) == 1000


def test_ids_hold_the_time_in_milliseconds() -> None:
    before = time.time_ns() // 1_000_000
    milliseconds = uuid7().int >> 80
    assert before <= milliseconds <= time.time_ns() // 1_000_000


def test_ids_of_later_milliseconds_sort_later(monkeypatch: pytest.MonkeyPatch) -> None:
    made = []
    for milliseconds in (1, 2, 1_700_000_000_000, 1_700_000_000_001, 2**48 - 1):
        monkeypatch.setattr(time, "time_ns", lambda at=milliseconds: at * 1_000_000)
        made.append(uuid7())
    assert made == sorted(made)
    assert {one.version for one in made} == {7}


def test_random_bits_fill_the_rest() -> None:
    """Every bit but those of time, version and variant is sometimes 0 and sometimes 1."""
    ones, zeros = 0, 0
    for _ in range(200):
        value = uuid7().int
        ones |= value
        zeros |= ~value
    fixed = (0xF << 76) | (0b11 << 62)
    random_bits = ((1 << 80) - 1) & ~fixed
    assert ones & random_bits == random_bits
    assert zeros & random_bits == random_bits


@given(st.lists(st.text()), st.lists(st.text()))
def test_the_same_parts_give_the_same_key_and_others_another(one: list[str], other: list[str]) -> None:
    assert derive_key(*one) == derive_key(*one)
    if one != other:
        assert derive_key(*one) != derive_key(*other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (("a", "b"), ("ab",)),
        (("a", "b"), ("b", "a")),
        (("a",), ("a", "")),
        (("a\x1fb",), ("a", "b")),
        (('a", "b',), ("a", "b")),
        ((), ("",)),
    ],
)
def test_where_one_part_ends_and_the_next_begins_matters(one: tuple[str, ...], other: tuple[str, ...]) -> None:
    assert derive_key(*one) != derive_key(*other)


def test_keys_never_change() -> None:
    """Keys are in databases: what makes them must not change."""
    assert derive_key("filters.file-rules", 1, "x") == derive_key("filters.file-rules", "1", "x")
    assert str(derive_key("a", "b")) == "4692ec78-8685-55a4-a5d7-b57893ee143a"


def recorded(data: str, version: int = 1) -> Recorded:
    return Recorded(
        position=7,
        stream="repo/local:rich",
        type="RepoEmpty",
        version=version,
        id=uuid.UUID(int=1),
        data=data,
        metadata={"by": "downloader.clone"},
        recorded_at=datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC),
    )


def test_a_recorded_event_is_decoded() -> None:
    event = recorded('{"repository_id": "local:rich", "url": "file:///rich"}').decode()
    assert event == RepoEmpty(repository_id="local:rich", url="file:///rich")


def test_a_recorded_event_that_cannot_be_read_is_still_shown() -> None:
    it = recorded('{"what": "ever"}', version=99)
    with pytest.raises(EventError):
        it.decode()
    assert it.as_dict() == {
        "position": 7,
        "id": "00000000-0000-0000-0000-000000000001",
        "stream": "repo/local:rich",
        "type": "RepoEmpty",
        "version": 99,
        "recorded_at": "2026-01-02T03:04:05+00:00",
        "data": {"what": "ever"},
        "metadata": {"by": "downloader.clone"},
    }
