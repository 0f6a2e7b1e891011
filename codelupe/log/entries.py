"""Events about to be appended: checked, and encoded as the rows that go in."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import msgspec

from codelupe.errors import CodelupeError
from codelupe.log.records import uuid7s
from codelupe.postgres.text import is_storable, is_storable_json
from codelupe_events import Event, encode, encode_all

FEW = 16
"""Up to so many events go in by one statement, which tells their positions; more are worth a COPY."""
MAX_EVENT_BYTES = 1_000_000
MAX_STREAM_BYTES = 1_000
"""An index row of Postgres holds 2,704 bytes, and a stream's name is in it with other columns."""
COLUMNS = ("stream", "type", "version", "id", "data", "metadata")


class EventRefused(CodelupeError):
    """The log will not take this event: too large, or with text that Postgres cannot hold."""

    code = "event-refused"


class StreamConflict(CodelupeError):
    """A stream does not stand where the appender expected it; nothing was appended."""

    code = "stream-conflict"


@dataclass(frozen=True, kw_only=True)
class Entry:
    """An event about to be appended.

    ``key`` makes it idempotent: a second event with the same key is not written.
    """

    event: Event
    key: uuid.UUID | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Appended:
    """Where the event stands; ``duplicate`` if its key was known, then ``position`` is the earlier event's.

    ``position`` is None where more than :data:`FEW` events without keys went in by COPY, which does not tell.
    """

    position: int | None
    duplicate: bool = False


Row = tuple[str, str, int, uuid.UUID, bytes, bytes]
"""stream, type, version, id, data, metadata; the last two as JSON"""


def rows_of(entries: Sequence[Entry]) -> list[Row]:
    """What is to be inserted.

    Many are looked at together first, for this is what an append takes its time for; one by one only if one is unfit.

    Raises:
        EventRefused: one of the events is not fit for the log.
    """
    if not entries:
        return []
    events = [entry.event for entry in entries]
    streams = [event.stream() for event in events]
    try:
        datas = encode_all(events)
        metadatas = [msgspec.json.encode(entry.metadata) if entry.metadata else b"{}" for entry in entries]
        if not _are_fit(events, streams, [*datas, *metadatas]):
            _refuse_the_unfit(entries)
    except (UnicodeEncodeError, TypeError):
        _refuse_the_unfit(entries)
        raise
    names, versions = [type(event).__name__ for event in events], [event.version for event in events]
    return list(zip(streams, names, versions, uuid7s(len(events)), datas, metadatas, strict=True))


def columns_of(rows: Sequence[Row]) -> list[list[Any]]:
    """The same by columns, as arrays for a function in the database."""
    return [list(column) for column in zip(*rows, strict=True)] or [[] for _ in COLUMNS]


def _are_fit(events: Sequence[Event], streams: Sequence[str], texts: Sequence[bytes]) -> bool:
    """Whether nothing needs a closer look."""
    all_streams, all_texts = "\n".join(streams), b"\n".join(texts)
    return (
        all(kind.version >= 1 for kind in {type(event) for event in events})
        and all_streams.isascii()
        and "\0" not in all_streams
        and max(map(len, streams)) <= MAX_STREAM_BYTES
        and max(map(len, texts)) <= MAX_EVENT_BYTES
        and not (b"\\" in all_texts and b"\\u0000" in all_texts)
    )


def _refuse_the_unfit(entries: Sequence[Entry]) -> None:
    for entry in entries:
        name = type(entry.event).__name__
        if type(entry.event).version < 1:
            raise EventRefused(f"{name} is not declared", hint="Decorate the class with codelupe_events.event().")
        _check_stream(name, entry.event.stream())
        check_text(name, partial(encode, entry.event))
        check_text(f"the metadata of {name}", partial(msgspec.json.encode, entry.metadata))


def _check_stream(name: str, stream: object) -> None:
    if not isinstance(stream, str):
        raise EventRefused(f"{name} names a stream that is no text but {type(stream).__name__}")
    size = len(stream.encode(errors="replace"))
    if size > MAX_STREAM_BYTES:
        raise EventRefused(
            f"{name} names a stream of {size:,} bytes; the limit is {MAX_STREAM_BYTES:,}",
            hint="Name streams by a short, stable id.",
        )
    if not is_storable(stream):
        raise EventRefused(
            f"{name} names a stream with a NUL character or a lone surrogate",
            hint="Name streams by a short, stable id.",
        )


def check_text(what: str, encoded: Callable[[], bytes]) -> bytes:
    """The JSON, if Postgres can hold it.

    Raises:
        EventRefused: it cannot.
    """
    try:
        data = encoded()
    except UnicodeEncodeError as error:
        raise EventRefused(f"{what} holds a lone surrogate: {error}", hint="Replace such characters first.") from error
    if len(data) > MAX_EVENT_BYTES:
        raise EventRefused(
            f"{what} has {len(data):,} bytes; the limit is {MAX_EVENT_BYTES:,}",
            hint="Put the data into a table and its key into the event.",
        )
    if not is_storable_json(data):
        raise EventRefused(f"{what} holds a NUL character", hint="Remove it: Postgres text cannot hold one.")
    return data
