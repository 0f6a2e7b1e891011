"""The event that every system carries."""

from __future__ import annotations

import time

import pytest

from benchmarks.eventlog.payload import PAYLOAD_BYTES, decoded, encoded


@pytest.mark.parametrize("number", [0, 9, 10, 4_999_999])
def test_every_event_has_the_same_size(number: int) -> None:
    assert len(encoded(number)) == len(encoded(number, time.monotonic_ns())) == PAYLOAD_BYTES


def test_an_event_comes_back_as_it_was_sent() -> None:
    event = decoded(encoded(7, 42))
    assert (event.number, event.sent_ns) == (7, 42)
