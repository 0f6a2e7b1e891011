"""Tells what the operator wrote wrongly in a plugin's section from what is wrong with the plugin's own model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from codelupe.observability.redaction import redact_text

_NOT_WRITTEN = object()


class ModelAtFault(Exception):
    """The plugin's model cannot be used, whatever the operator writes."""


def examine(model: type[BaseModel], section: dict[str, Any]) -> tuple[list[ErrorDetails], list[ErrorDetails]]:
    """The operator's mistakes, which are then left out of the section, and what is still wrong without them.

    Raises:
        ModelAtFault: the model raises something else than a ValidationError.
    """
    mistakes: list[ErrorDetails] = []
    while problems := find_problems(model, section):
        found = [problem for problem in problems if _is_the_operators(problem, model, section)]
        if not found:
            return mistakes, problems
        mistakes += found
        for problem in found:
            if not leave_out(section, problem["loc"]):
                section.clear()
    return mistakes, []


def find_problems(model: type[BaseModel], section: Mapping[str, Any]) -> list[ErrorDetails]:
    """What the model objects to in this section.

    Raises:
        ModelAtFault: the model raises something else.
    """
    try:
        model.model_validate(section, extra="forbid")
    except ValidationError as error:
        return error.errors()
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        raise ModelAtFault(redact_text(f"its settings model raised {type(error).__name__}: {error}")) from error
    return []


def leave_out(values: dict[str, Any], location: Sequence[int | str]) -> str | None:
    """Remove the value there, or the nearest one above it, and return its dotted key; None if there is none."""
    parent, path = values, list[str]()
    at: Any = values
    for part in location:
        if not isinstance(at, dict) or part not in at:
            break
        parent, at = at, at[part]
        path.append(str(part))
    if not path:
        return None
    del parent[path[-1]]
    return ".".join(path)


def _is_the_operators(problem: ErrorDetails, model: type[BaseModel], section: Mapping[str, Any]) -> bool:
    """Whether the problem lies in what was written. What is missing was not, and a default was not either."""
    if problem["type"] == "missing":
        return False
    written = _written(section, problem["loc"])
    if written is _NOT_WRITTEN or written == {}:
        return False
    if not isinstance(written, Mapping):
        return True
    alone = [(each["loc"], each["type"], each["msg"]) for each in find_problems(model, {})]
    return (problem["loc"], problem["type"], problem["msg"]) not in alone


def _written(section: Mapping[str, Any], location: Sequence[int | str]) -> Any:
    """The value there or the nearest one above it within its field."""
    at: Any = section
    for depth, part in enumerate(location):
        if not isinstance(at, Mapping) or part not in at:
            return at if depth else _NOT_WRITTEN
        at = at[part]
    return at
