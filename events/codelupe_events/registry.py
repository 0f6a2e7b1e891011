"""What an event is, and how it is written, read back and described.

An event is a fact in the past tense: small, frozen, versioned, never changed once recorded. When its fields
must change, the class takes the next version and an upcaster turns data of the version before into it, so that
readers only ever see the newest shape: see :func:`event`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from typing import Any, ClassVar, TypeVar

import msgspec

EventData = dict[str, Any]
Upcaster = Callable[[EventData], EventData]


def unchanged(data: EventData) -> EventData:
    """The upcaster from a version that only lacks fields which have defaults."""
    return data


class EventError(Exception):
    """An event that this code cannot read or write."""


class UnknownEventType(EventError):
    """No installed package declares this event type."""


class UnknownEventVersion(EventError):
    """The event was recorded by newer code than this."""


class InvalidEventData(EventError):
    """The data does not fit the event's fields."""


class Event(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Base of every event.

    A subclass names its fields, says in :meth:`stream` to which stream it belongs (events of one stream are
    handled in order) and is declared by :func:`event`. It is made with keywords, and never changed.
    """

    version: ClassVar[int] = 0
    """The newest, under which it is recorded."""
    former_names: ClassVar[tuple[str, ...]] = ()
    """Types under which older code recorded the event."""

    def stream(self) -> str:
        """The stream's name, such as ``repo/local:rich`` or ``batch/1``."""
        raise TypeError(f"{type(self).__name__} does not say which stream it belongs to")


E = TypeVar("E", bound=type[Event])


@dataclass(frozen=True)
class _Declaration:
    cls: type[Event]
    upcasters: Mapping[int, Upcaster]


_declarations: dict[str, _Declaration] = {}


def event(
    *, version: int = 1, upcasters: Mapping[int, Upcaster] | None = None, former_names: tuple[str, ...] = ()
) -> Callable[[E], E]:
    """Declare an event class, as ``@event()``; its class name is the event's type.

    With ``@event(version=2, upcasters={1: function})`` the function is given the data of an event of version 1, as JSON
    holds it (a time is a text), and returns that of version 2; version 3 adds the function for 2, and so on. What comes
    out must fit the class: data with a field that it does not have is refused. Older code refuses it, too, so also a
    new field with a default makes a new version. An event in a version that is newer than the code waits for newer code
    in each subscription; an upcaster that raises makes a dead letter of it.

    Events recorded under one of the ``former_names`` are read as this one; versions are counted on across a change of
    name.

    Raises:
        ValueError: the name is taken by another module, or a version before the newest has no upcaster.
    """

    def declare(cls: E) -> E:
        name = cls.__name__
        for each in (name, *former_names):
            known = _declarations.get(each)
            if known is not None and known.cls.__module__ != cls.__module__:
                raise ValueError(f"event {each} of {cls.__module__} is declared already by {known.cls.__module__}")
        missing = set(range(1, version)) - set(upcasters or {})
        if missing:
            raise ValueError(f"event {name} version {version} has no upcaster from version {min(missing)}")
        cls.version, cls.former_names = version, former_names
        for each in (name, *former_names):
            _declarations[each] = _Declaration(cls, dict(upcasters or {}))
        return cls

    return declare


def event_types() -> Iterator[type[Event]]:
    """Every declared event class, by name."""
    return (one.cls for name, one in sorted(_declarations.items()) if name == one.cls.__name__)


_encoder = msgspec.json.Encoder()
_UNFIT = (TypeError, ValueError, OverflowError, RecursionError, msgspec.MsgspecError)
"""What msgspec raises over a value that it cannot write or read."""


@cache
def _decoder(cls: type[Event]) -> msgspec.json.Decoder[Event]:
    return msgspec.json.Decoder(cls)


def encode(event: Event) -> bytes:
    """The event's data as JSON.

    Raises:
        InvalidEventData: a value does not fit its field, so that the event could not be read (JSON has no NaN), or
            would be read back as another one (bytes as a text).
        UnicodeEncodeError: a text holds a lone surrogate.
    """
    try:
        data = _encoder.encode(event)
        read_back = _decoder(type(event)).decode(data)
    except UnicodeEncodeError:
        raise
    except _UNFIT as error:
        raise InvalidEventData(f"{type(event).__name__} version {event.version}: {error}") from error
    if read_back != event:
        names = [name for name in event.__struct_fields__ if getattr(event, name) != getattr(read_back, name)]
        raise InvalidEventData(
            f"{type(event).__name__} version {event.version}: {', '.join(names)} would be read back as another value"
        )
    return data


def encode_all(events: Sequence[Event]) -> list[bytes]:
    """The data of each event as JSON, as :func:`encode` makes it; quicker for many of one type.

    Raises:
        InvalidEventData, UnicodeEncodeError: as :func:`encode` for the first event that is unfit.
    """
    kinds = set(map(type, events))
    if len(kinds) == 1:
        with suppress(*_UNFIT):
            lines = _encoder.encode_lines(events)
            if _decoder(kinds.pop()).decode_lines(lines) == list(events):
                return lines.removesuffix(b"\n").split(b"\n")
    return [encode(event) for event in events]


def decode(type_name: str, version: int, data: str | bytes) -> Event:
    """Read recorded data back, bringing an older version up to the newest.

    Raises:
        UnknownEventType, UnknownEventVersion, InvalidEventData: each names the type, the version and what is known.
    """
    declaration = _declarations.get(type_name)
    if declaration is None:
        raise UnknownEventType(f"no installed package declares the event {type_name} (version {version})")
    newest = declaration.cls.version
    if not 1 <= version <= newest:
        raise UnknownEventVersion(f"{type_name} version {version} was recorded; this code knows versions 1 to {newest}")
    try:
        if version == newest:
            return _decoder(declaration.cls).decode(data)
        return msgspec.convert(_upcast(declaration, version, msgspec.json.decode(data)), type=declaration.cls)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise InvalidEventData(f"{type_name} version {version}: {error}") from error


def decode_all(recorded: Sequence[tuple[str, int, str]]) -> list[Event]:
    """The events of these types, versions and data, as :func:`decode` reads each; quicker for many of one type.

    Raises:
        UnknownEventType, UnknownEventVersion, InvalidEventData: as :func:`decode` for the first that is unfit.
    """
    kinds = {(type_name, version) for type_name, version, _ in recorded}
    if len(kinds) == 1:
        type_name, version = kinds.pop()
        declaration = _declarations.get(type_name)
        if declaration is not None and version == declaration.cls.version:
            with suppress(msgspec.MsgspecError, UnicodeDecodeError):
                events = _decoder(declaration.cls).decode_lines("\n".join([data for _, _, data in recorded]))
                if len(events) == len(recorded):
                    return events
    return [decode(*one) for one in recorded]


def _upcast(declaration: _Declaration, version: int, data: EventData) -> EventData:
    for step in range(version, declaration.cls.version):
        try:
            data = declaration.upcasters[step](data)
        except Exception as error:
            name = declaration.cls.__name__
            raise InvalidEventData(f"{name} version {step} cannot be brought up to {step + 1}: {error!r}") from error
    return data


def json_schema() -> dict[str, Any]:
    """One JSON Schema document: ``$defs`` holds each event's newest version under its name."""
    classes = list(event_types())
    references, definitions = msgspec.json.schema_components(classes, ref_template="#/$defs/{name}")
    for cls in classes:
        definitions[cls.__name__]["x-version"] = cls.version
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "CodeLupe events",
        "oneOf": list(references),
        "$defs": definitions,
    }
