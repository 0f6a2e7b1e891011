"""Error messages about settings: which key, from where, and what is allowed."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from difflib import get_close_matches
from types import UnionType
from typing import Annotated, Any, Union, get_args, get_origin, get_type_hints

from pydantic import AliasChoices, AliasPath, BaseModel, Secret, SecretBytes, SecretStr
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from codelupe.observability.redaction import redact_text

CREDENTIAL = "credential"
"""First word of the origin of what came as one; it is never shown."""


def explain(problem: ErrorDetails, model: type[BaseModel], origins: Mapping[str, str]) -> str:
    location = [str(part) for part in problem["loc"]]
    key = ".".join(location)
    where = origin_of(location, origins) or "settings"
    if problem["type"] == "extra_forbidden":
        owner = _owner(model, location[:-1])
        return f"{where}: unknown key {key}{suggestion(location[-1], owner)}; allowed: {allowed(owner)}"
    given = problem["input"]
    is_secret = where.startswith(CREDENTIAL) or _is_secret(model, location, misplaced=isinstance(given, str))
    is_shown = isinstance(given, str | int | float) and not is_secret
    value = f" = {redact_text(repr(given))}" if is_shown else ""
    return f"{where}: {key}{value}: {problem['msg']}"


def origin_of(location: Sequence[str], origins: Mapping[str, str]) -> str | None:
    """The origin of the value there, of one below it, or of the nearest one above it."""
    key = ".".join(location)
    below = [origin for path, origin in origins.items() if path == key or path.startswith(f"{key}.")]
    above = [origins.get(".".join(location[:length])) for length in range(len(location) - 1, 0, -1)]
    return next((origin for origin in [*below, *above] if origin), None)


def _owner(model: type[BaseModel], path: Sequence[str]) -> type[BaseModel]:
    for part in path:
        below = model_of(model, part)
        if not (isinstance(below, type) and issubclass(below, BaseModel)):
            return model
        model = below
    return model


def _is_secret(model: type[BaseModel], path: Sequence[str], *, misplaced: bool) -> bool:
    """Whether a secret belongs on the way there or, as it may be ``misplaced``, into what belongs there."""
    kinds: list[Any] = [model]
    for part in path:
        kinds = [below for kind in kinds for below in _below(kind, part)] or kinds
        if any(map(_is_for_secrets, kinds)):
            return True
    return misplaced and _holds_secrets(kinds, set())


def _below(kind: Any, part: str) -> list[Any]:
    """The types of what may stand in a value of this type under this name; of a list or table, those of its elements.

    Nothing for a part that only says which type of a union was tried.
    """
    fields = _fields_of(kind)
    if fields or get_origin(kind) in (Union, UnionType, Annotated):
        return [fields[part]] if part in fields else [it for each in get_args(kind) for it in _below(each, part)]
    return list(get_args(kind))


def _holds_secrets(kinds: Iterable[Any], seen: set[str]) -> bool:
    for kind in kinds:
        if str(kind) not in seen:
            seen.add(str(kind))
            if _is_for_secrets(kind) or _holds_secrets([*get_args(kind), *_fields_of(kind).values()], seen):
                return True
    return False


def _is_for_secrets(kind: Any) -> bool:
    """Also under a name of the plugin's own: of a class that is derived from one, or of a new type."""
    kind = getattr(kind, "__value__", getattr(kind, "__supertype__", kind))
    origin = get_origin(kind) or kind
    is_derived = isinstance(origin, type) and issubclass(origin, (Secret, SecretStr, SecretBytes))
    return is_derived or "Secret" in str(kind)


def _fields_of(kind: Any) -> Mapping[str, Any]:
    """Of a model, also by their aliases, a dataclass, a typed dictionary or a named tuple."""
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        fields = kind.model_fields.items()
        return {key: info.annotation for name, info in fields for key in (name, *_aliases_of(info))}
    with suppress(TypeError, NameError):
        return get_type_hints(kind) if isinstance(kind, type) else {}
    return {}


def _aliases_of(info: FieldInfo) -> Iterator[str]:
    given = [info.alias, info.validation_alias]
    while given:
        match given.pop():
            case str(name):
                yield name
            case AliasPath(path=[str(name), *_]):
                yield name
            case AliasChoices(choices=choices):
                given += choices


def model_of(model: type[BaseModel], name: str) -> Any:
    annotation = model.model_fields[name].annotation if name in model.model_fields else None
    candidates = [annotation, *get_args(annotation)]
    return next((each for each in candidates if isinstance(each, type) and issubclass(each, BaseModel)), annotation)


def suggestion(name: str, model: type[BaseModel]) -> str:
    close = get_close_matches(name, model.model_fields, n=1)
    return f" (did you mean {close[0]}?)" if close else ""


def allowed(model: type[BaseModel]) -> str:
    return ", ".join(model.model_fields) or "nothing"
