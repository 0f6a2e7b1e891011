"""What plugins import, name by name: signature, docstring, fields, members."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Iterator
from dataclasses import MISSING, Field, fields, is_dataclass
from functools import cached_property
from types import ModuleType
from typing import Any

from codelupe.cli import output, session
from codelupe.contracts import evaluators, search
from codelupe.host import hookspecs
from scripts.reference_pages.text import attribute_docs, doc_of, field_table, is_private, signature, table


def public_names(module: ModuleType, names: Iterable[str]) -> Iterator[str]:
    """A section for each of the names, which the module has."""
    for name in names:
        yield f"### `{name}`"
        yield from _public_name(name, getattr(module, name))


def _public_name(name: str, value: Any) -> Iterator[str]:
    if inspect.isfunction(inspect.unwrap(value)):
        yield signature(name, value)
        yield doc_of(value)
    elif not inspect.isclass(value):
        yield attribute_docs(hookspecs, output, evaluators, search, session)[name]
    elif not _is_ours(value):
        yield f"Another name of `{value.__module__}.{value.__qualname__}`."
    else:
        if issubclass(value, Exception) and "__init__" in vars(value):
            yield signature(name, value).replace(" -> None", "")
        yield doc_of(value)
        yield from _members(value)


def _members(cls: type[Any]) -> Iterator[str]:
    owners = list(filter(_is_ours, cls.__mro__))
    docs = attribute_docs(*owners)
    if is_dataclass(cls):
        yield field_table((each.name, str(each.type), _default(each), docs.get(each.name, "")) for each in fields(cls))
    else:
        types = {name: f"`{text}`" for owner in owners for name, text in vars(owner).get("__annotations__", {}).items()}
        rows = [(f"`{name}`", types.get(name, ""), docs.get(name, "")) for name in types | docs]
        yield table(("attribute", "type", "meaning"), rows) if rows else ""
    members = [(f"`{_head(name, member)}`", doc_of(member)) for name, member in _own_members(cls).items()]
    yield table(("member", "meaning"), members) if members else ""


def _own_members(cls: type[Any]) -> dict[str, Any]:
    """Public methods and properties that CodeLupe wrote, those of base classes first."""
    every = {name: member for owner in reversed(cls.__mro__) for name, member in vars(owner).items()}
    return {
        name: member
        for name, member in every.items()
        if not name.startswith("_")
        and not is_private(member)
        and (isinstance(member, property | cached_property) or (inspect.isfunction(member) and _is_ours(member)))
    }


def _head(name: str, member: Any) -> str:
    if isinstance(member, property | cached_property):
        getter = member.fget if isinstance(member, property) else member.func
        return f"{name}: {inspect.signature(getter).return_annotation}" if getter else name
    shape = inspect.signature(member)
    shape = shape.replace(parameters=list(shape.parameters.values())[1:])
    prefix = "async " if inspect.iscoroutinefunction(member) else ""
    return f"{prefix}{name}{shape}".replace("'", "")


def _default(field: Field[Any]) -> str:
    if field.default is not MISSING:
        return repr(field.default)
    return "required" if field.default_factory is MISSING else f"{getattr(field.default_factory, '__name__', '…')}()"


def _is_ours(thing: Any) -> bool:
    return str(thing.__module__).startswith("codelupe")
