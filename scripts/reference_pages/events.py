"""Every event, by family, with its version, stream, fields and who handles it."""

from __future__ import annotations

import inspect
from collections import defaultdict
from collections.abc import Iterator, Sequence
from importlib import import_module
from types import ModuleType, SimpleNamespace
from typing import Any

import msgspec

import codelupe_events
from codelupe.config.directories import locate_directories
from codelupe.config.sources import Layer, RawSettings, validate
from codelupe.host.host import Host
from codelupe.postgres import Database
from codelupe_events import Event, event_types, registry
from scripts.reference_pages.names import public_names
from scripts.reference_pages.text import attribute_docs, doc_of, field_table

_INTRODUCTION = """\
The log adds to each event its position, id, stream, type, version and time, and metadata: `by` names the subscription
or job that emitted it, `caused_by` the event that was being handled. `codelupe_events.json_schema()` returns what is
below as one JSON Schema document."""

_DECLARATION = ("event", "Event")


def events_page(host: Host) -> str:
    """The page."""
    handlers = _handlers(host)
    parts = ["# Events", doc_of(registry), _INTRODUCTION]
    parts += ["## Declaring events", "Imported from `codelupe_events`, as all that is on this page."]
    parts += public_names(registry, _DECLARATION)
    for module in families():
        parts += [f"## {module.__name__.rpartition('.')[2]}", doc_of(module)]
        for struct in structs(module):
            parts += [f"### `{struct.__name__}`", *_section(struct, handlers[struct.__name__])]
    parts += ["## Reading and writing events", *public_names(registry, _other_names())]
    return "\n\n".join(filter(None, parts))


def _other_names() -> list[str]:
    ours = [name for name in codelupe_events.__all__ if getattr(codelupe_events, name).__module__ == registry.__name__]
    return [name for name in ours if name not in _DECLARATION]


def families() -> list[ModuleType]:
    """The modules that declare CodeLupe's own events, a family each."""
    names = {event.__module__ for event in event_types() if event.__module__.startswith("codelupe_events.")}
    return [import_module(name) for name in sorted(names)]


def structs(module: ModuleType) -> list[type[msgspec.Struct]]:
    """The module's declared events, and the structs that occur in them."""
    declared = set(event_types())
    own = [it for it in vars(module).values() if inspect.isclass(it) and it.__module__ == module.__name__]
    return [it for it in own if it in declared or (issubclass(it, msgspec.Struct) and not issubclass(it, Event))]


def _handlers(host: Host) -> defaultdict[str, list[str]]:
    """The subscriptions that handle each event type, with the default settings."""
    settings = validate(RawSettings([Layer("", {})]), host.settings_models(), environment={}).settings
    extensions = host.gather(settings.plugins, Database("postgresql:///unused"), locate_directories(settings))
    found: defaultdict[str, list[str]] = defaultdict(list)
    for subscription in extensions.subscriptions:
        for event in subscription.event_types:
            found[event].append(f"`{subscription.name}`")
    return found


def _section(struct: type[msgspec.Struct], handlers: Sequence[str]) -> Iterator[str]:
    yield doc_of(struct)
    known = msgspec.structs.fields(struct)
    if issubclass(struct, Event):
        stream = _stream(struct, [each.name for each in known])
        yield f"Version {struct.version}, stream `{stream}`. Handled by {', '.join(handlers) or 'no subscription'}."
    docs, annotations = _inherited_docs(struct), _inherited_annotations(struct)
    yield field_table(
        (
            each.name,
            annotations[each.name],
            "required" if each.required else repr(each.default),
            docs.get(each.name, ""),
        )
        for each in known
    )


def _stream(event: type[Event], names: Sequence[str]) -> str:
    """The stream's name with each field's value written as ``{field}``."""
    placeholders: Any = SimpleNamespace(**{name: f"{{{name}}}" for name in names})
    return event.stream(placeholders)


def _inherited_docs(struct: type[msgspec.Struct]) -> dict[str, str]:
    return attribute_docs(*(owner for owner in struct.__mro__ if owner.__module__.startswith("codelupe_events")))


def _inherited_annotations(struct: type[msgspec.Struct]) -> dict[str, str]:
    owners = [vars(owner).get("__annotations__", {}) for owner in reversed(struct.__mro__)]
    return {name: text for annotations in owners for name, text in annotations.items()}
