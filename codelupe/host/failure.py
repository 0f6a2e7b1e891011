"""Why a plugin takes no part."""

from __future__ import annotations

import traceback
from collections.abc import Callable
from dataclasses import dataclass
from inspect import unwrap
from typing import Any

from codelupe.errors import CodelupeError
from codelupe.observability.redaction import redact_text

_HOST = ("codelupe", "importlib", "_frozen_importlib", "pluggy")


@dataclass(frozen=True, kw_only=True)
class Failure:
    """What went wrong, in which hook, and at which ``file:line``; both are None where they do not apply."""

    error: str
    hook: str | None = None
    place: str | None = None
    traceback: str | None = None

    @classmethod
    def of(
        cls, error: BaseException, *, module: str, hook: str | None = None, function: Callable[..., Any] | None = None
    ) -> Failure:
        """What this error says. ``module`` is the plugin's; ``function`` implements the hook."""
        return cls(
            error=describe(error),
            hook=hook,
            place=_place(error, module.partition(".")[0], function),
            traceback=_traceback(error),
        )

    def __str__(self) -> str:
        places = [f"in {self.hook}" if self.hook else "", f"at {self.place}" if self.place else ""]
        where = " ".join(filter(None, places))
        if where and self.error.endswith((".", "?")):
            return f"{self.error} ({where})"
        return f"{self.error} {where}".rstrip()


def describe(error: BaseException) -> str:
    """The error's type and text, without secrets; even of one whose text cannot be had, and out of a task's group."""
    while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]
    try:
        text = redact_text(". ".join(str(error).split("\n  ")) if isinstance(error, CodelupeError) else str(error))
    except BaseException:  # what a stranger's __str__ raises says nothing
        text = "its text cannot be read"
    if isinstance(error, CodelupeError):
        return text
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def _place(error: BaseException, package: str, function: Callable[..., Any] | None) -> str | None:
    """The last line of the plugin's that ran, or else the last line of any other code, or else the hook's first."""
    if isinstance(error, SyntaxError) and error.filename:
        return f"{error.filename}:{error.lineno or 0}"
    ran = [
        (str(frame.f_globals.get("__name__")), frame, line) for frame, line in traceback.walk_tb(error.__traceback__)
    ]
    others = [one for one in ran if one[0].partition(".")[0] not in _HOST]
    own = [one for one in others if one[0].partition(".")[0] == package]
    for _, frame, line in reversed(own or others):
        return f"{frame.f_code.co_filename}:{line}"
    code = getattr(unwrap(function), "__code__", None) if function is not None else None
    return f"{code.co_filename}:{code.co_firstlineno}" if code is not None else None


def _traceback(error: BaseException) -> str | None:
    if error.__traceback__ is None:
        return None
    return redact_text("".join(traceback.format_exception(error)))
