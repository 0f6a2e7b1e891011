"""Write tests/public_api.txt: the names and signatures that plugins build on, one a line.

A change of the file is a change of the public API; the test tests/unit/test_public_api.py makes it a deliberate one.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from types import ModuleType
from typing import Annotated, Any, get_args, get_origin

import msgspec

import codelupe
import codelupe.commands
import codelupe_events
from scripts.reference_pages.hooks import hooks
from scripts.reference_pages.text import attribute_docs, is_private

MODULES = (codelupe, codelupe.commands, codelupe_events)
"""The modules that plugins may import: of each what its ``__all__`` names."""
SNAPSHOT = Path(__file__).parent.parent / "tests" / "public_api.txt"


def main() -> None:
    """Write the file."""
    SNAPSHOT.write_text(public_api(), encoding="utf-8")


def public_api() -> str:
    """What the file should hold now."""
    lines = [f"hook {name}{_signature(hook)}" for name, hook in sorted(hooks().items())]
    for module in MODULES:
        lines += _module(module)
    return "\n".join(lines) + "\n"


def _module(module: ModuleType) -> Iterator[str]:
    for name in sorted(module.__all__):
        value = getattr(module, name)
        full_name = f"{module.__name__}.{name}"
        if inspect.isclass(value) and value.__module__.startswith("codelupe"):
            yield from _class(full_name, value)
        elif inspect.isfunction(inspect.unwrap(value)):
            yield f"{full_name}{_signature(value)}"
        else:
            yield f"{full_name} = {_foreign(value)}"


def _class(full_name: str, cls: type[Any]) -> Iterator[str]:
    bases = ", ".join(base.__name__ for base in cls.__bases__)
    yield f"class {full_name}({bases})"
    if ("__init__" in vars(cls) or issubclass(cls, msgspec.Struct)) and not getattr(cls, "_is_protocol", False):
        yield f"{full_name}{_signature(cls)}"
    owners = [owner for owner in reversed(cls.__mro__) if owner.__module__.startswith("codelupe")]
    types = {name: text for owner in owners for name, text in vars(owner).get("__annotations__", {}).items()}
    members = {name: member for owner in owners for name, member in vars(owner).items()}
    for name in sorted({*types, *members, *attribute_docs(*owners)}):
        if not name.startswith("_") and not is_private(members.get(name)):
            yield _member(f"{full_name}.{name}", members.get(name), types.get(name))


def _member(full_name: str, member: Any, annotation: object) -> str:
    if isinstance(member, property | cached_property):
        getter = member.fget if isinstance(member, property) else member.func
        annotation = inspect.signature(getter).return_annotation if getter else None
    elif callable(member) or isinstance(member, classmethod | staticmethod):
        function = getattr(member, "__func__", member)
        return f"{'async ' if inspect.iscoroutinefunction(function) else ''}{full_name}{_signature(function)}"
    return f"{full_name}: {annotation}".replace("'", "") if annotation else full_name


def _signature(function: Any) -> str:
    return str(inspect.signature(function)).replace("'", "")


def _foreign(value: Any) -> str:
    """Where a name from another package comes from; of an option, what it is called and takes."""
    if get_origin(value) is Annotated:
        kind, option = get_args(value)
        return f"Annotated[{getattr(kind, '__name__', kind)}, {option.default}]"
    kinds = value.__mro__ if inspect.isclass(value) else type(value).__mro__
    named = next(kind for kind in kinds if not kind.__module__.startswith("codelupe"))
    return f"{named.__module__}.{named.__qualname__}"


if __name__ == "__main__":
    main()
