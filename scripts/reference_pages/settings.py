"""Every setting of the daemon and of its plugins."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import date, timedelta
from importlib.metadata import entry_points
from importlib.resources import files
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, TypeGuard, Union, get_args, get_origin

from pydantic import BaseModel, ByteSize, SecretStr
from pydantic.fields import FieldInfo
from pydantic_core import to_jsonable_python

from codelupe.config.settings import PluginSettings, Settings
from codelupe.config.sources import PROFILES
from codelupe.host.host import Host
from scripts.reference_pages.text import doc_of, table

_INTRODUCTION = """\
How the layers work, and how variables and credentials are named, is told in
[Configure](../how-to/configure.md). `codelupe config show` prints the values in force. A duration is a number of
seconds or ISO 8601 (`PT10M`); a size is a number of bytes or has a unit (`1GiB`)."""
_WORDS: dict[Any, str] = {
    bool: "boolean",
    int: "integer",
    float: "number",
    str: "text",
    Path: "path",
    timedelta: "duration",
    date: "date",
    ByteSize: "size",
    SecretStr: "secret text",
}
_SIGNS = {"ge": "≥", "gt": ">", "le": "≤", "lt": "<"}


def settings_page(host: Host) -> str:
    """The page."""
    models = {name: model for name, model in host.settings_models().items() if model is not None}
    parts = ["# Settings", _INTRODUCTION, "## Top level", _settings_table(Settings, "")]
    for name, info in Settings.model_fields.items():
        below = _model_below(info)
        if below is not None and below is not PluginSettings:
            parts += _section(name, below)
    for name, model in models.items():
        if model is not BaseModel:
            parts += _section(f"plugins.{name}", model)
    if silent := [f"`{name}`" for name, model in models.items() if model is BaseModel]:
        parts.append(f"Plugins without settings: {', '.join(silent)}.")
    return "\n\n".join([*parts, "## Profiles", *_profiles()])


def _section(path: str, model: type[BaseModel]) -> Iterator[str]:
    yield f"## `[{path}]`"
    yield doc_of(model)
    yield _settings_table(model, f"{path}.")
    for name, info in model.model_fields.items():
        if (below := _model_below(info)) is not None:
            yield from _section(f"{path}.{name}", below)


def _settings_table(model: type[BaseModel], at: str) -> str:
    rows = [
        (f"`{at}{name}`", _type(info), _default(info), info.description or "")
        for name, info in model.model_fields.items()
        if _model_below(info) is None
    ]
    return table(("setting", "type", "default", "meaning"), rows)


def _model_below(info: FieldInfo) -> type[BaseModel] | None:
    """The model of a setting that is a table with a section of its own: one whose every field has a default."""
    kind = info.annotation
    return kind if _is_model(kind) and not any(each.is_required() for each in kind.model_fields.values()) else None


def _is_model(kind: Any) -> TypeGuard[type[BaseModel]]:
    return isinstance(kind, type) and issubclass(kind, BaseModel)


def _type(info: FieldInfo) -> str:
    """What the setting takes, with its bounds."""
    bounds = [
        f"{sign} {0 if bound == timedelta(0) else to_jsonable_python(bound)}"
        for constraint in info.metadata
        for name, sign in _SIGNS.items()
        if (bound := getattr(constraint, name, None)) is not None
    ]
    if any(getattr(constraint, "min_length", None) for constraint in info.metadata):
        bounds.append("not empty")
    return ", ".join([_in_words(info.annotation), *bounds])


def _in_words(annotation: Any) -> str:
    """The type in the terms of TOML."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Literal:
        return " or ".join(f"`{value}`" for value in arguments)
    if origin in (Union, UnionType):
        return _in_words(next(each for each in arguments if each is not NoneType))
    if origin in (tuple, list, set, frozenset):
        return f"list of {_in_words(arguments[0])}"
    if origin is dict:
        return f"table of {_in_words(arguments[1])}"
    if _is_model(annotation):
        return f"table of {', '.join(f'`{name}`' for name in annotation.model_fields)}"
    return _WORDS[annotation]


def _default(info: FieldInfo) -> str:
    """The default in TOML's form."""
    match info.get_default(call_default_factory=True, validated_data={}):
        case None:
            return "unset"
        case ByteSize() as size:
            shown: Any = size.human_readable()
        case frozenset() as members:
            shown = sorted(members)
        case BaseModel() as fields:
            return f"`{{ {', '.join(f'{name} = {json.dumps(value)}' for name, value in fields)} }}`"
        case value:
            shown = to_jsonable_python(value)
    return f"`{json.dumps(shown, ensure_ascii=False)}`"


def _profiles() -> Iterator[str]:
    for entry in sorted(entry_points(group=PROFILES), key=lambda entry: entry.name):
        text = (files(entry.value) / f"{entry.name}.toml").read_text(encoding="utf-8")
        yield f"`--profile {entry.name}`:"
        yield f"```toml\n{text.strip()}\n```"
