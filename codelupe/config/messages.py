"""Error messages about settings: which key, from where, and what is allowed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from typing import Any, get_args

from pydantic import BaseModel
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
    is_secret = where.startswith(CREDENTIAL) or _is_secret(model, location)
    is_shown = isinstance(problem["input"], str | int | float) and not is_secret
    value = f" = {redact_text(repr(problem['input']))}" if is_shown else ""
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


def _is_secret(model: type[BaseModel], path: Sequence[str]) -> bool:
    """Whether a field on the way there holds secrets."""
    owners = [_owner(model, path[:depth]) for depth in range(len(path))]
    infos = [owner.model_fields.get(part) for owner, part in zip(owners, path, strict=True)]
    return any(info is not None and "Secret" in str(info.annotation) for info in infos)


def model_of(model: type[BaseModel], name: str) -> Any:
    annotation = model.model_fields[name].annotation if name in model.model_fields else None
    candidates = [annotation, *get_args(annotation)]
    return next((each for each in candidates if isinstance(each, type) and issubclass(each, BaseModel)), annotation)


def suggestion(name: str, model: type[BaseModel]) -> str:
    close = get_close_matches(name, model.model_fields, n=1)
    return f" (did you mean {close[0]}?)" if close else ""


def allowed(model: type[BaseModel]) -> str:
    return ", ".join(model.model_fields) or "nothing"
