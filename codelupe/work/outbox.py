"""Events that a handling has emitted, until they are appended with its end."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import contextmanager

from codelupe.log.entries import Entry
from codelupe.log.records import emission_key
from codelupe_events import Event

_Emission = tuple[int, str, str]
"""The position of the cause, and the type and the stream of what is emitted because of it."""
COMPLETED = "the handling has been completed"


class Outbox:
    """Events to be appended, each with a key by which handling its cause again does not append it again."""

    def __init__(self, name: str, version: int) -> None:
        self._name = name
        self._version = version
        self._emitted: dict[_Emission, int] = {}
        self._emitted_now: dict[_Emission, int] = {}
        """The highest numbers that were appended ahead of the others."""
        self._closed: str | None = None
        self.entries: list[Entry] = []

    def add(self, event: Event, position: int, cause: uuid.UUID) -> None:
        """The event comes of that one, which stands there."""
        self.entries.append(self._entry(event, position, cause, self._number(event, position)))

    def entry_now(self, event: Event, position: int, cause: uuid.UUID) -> Entry:
        """The event with its key, to be appended ahead of the others and whatever becomes of them."""
        number = self._number(event, position)
        self._emitted_now[_emission(event, position)] = number
        return self._entry(event, position, cause, number)

    def close(self, reason: str) -> None:
        """From now on nothing can be added."""
        self._closed = reason

    @contextmanager
    def open_inside(self) -> Iterator[None]:
        """Nothing can be added after the block."""
        try:
            yield
        finally:
            self.close("the handler has ended")

    @contextmanager
    def kept_unless_raised(self) -> Iterator[None]:
        """What is added inside the block is gone if the block raises, and nothing is completed."""
        entries, emitted = list(self.entries), dict(self._emitted)
        try:
            yield
        except BaseException:
            used_up = {kind: max(number, emitted.get(kind, 0)) for kind, number in self._emitted_now.items()}
            self.entries[:], self._emitted = entries, emitted | used_up
            self._closed = None if self._closed == COMPLETED else self._closed
            raise

    def _number(self, event: Event, position: int) -> int:
        """The event is the n-th of its type and stream that is emitted because of that cause."""
        if self._closed is not None:
            raise RuntimeError(f"{self._name} emitted a {type(event).__name__} too late: {self._closed}")
        kind = _emission(event, position)
        self._emitted[kind] = number = self._emitted.get(kind, 0) + 1
        return number

    def _entry(self, event: Event, position: int, cause: uuid.UUID, number: int) -> Entry:
        return Entry(
            event=event,
            key=emission_key(position, self._name, self._version, type(event).__name__, event.stream(), number),
            metadata={"by": self._name, "caused_by": str(cause)},
        )


def _emission(event: Event, position: int) -> _Emission:
    return position, type(event).__name__, event.stream()
