"""What a look at this machine found."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal, get_args

CHECK_SECONDS = 20.0
"""How long the checks of one plugin may take."""

Verdict = Literal["good", "warning", "bad"]


@dataclass(frozen=True)
class Finding:
    """What one look found, and what to do about it. A bad one keeps ``codelupe run`` from starting."""

    what: str
    verdict: Verdict
    detail: str
    hint: str = ""


def read_findings(offered: Iterable[Any]) -> list[Finding]:
    """What a plugin found.

    Raises:
        TypeError: one is no finding, or a field of it is no text.
        ValueError: a verdict is none, or a text is no Unicode.
    """
    return [_checked(each) for each in offered]


def _checked(offered: Any) -> Finding:
    if not isinstance(offered, Finding):
        raise TypeError(f"offered {offered!r} where a Finding belongs")
    for name in ("what", "verdict", "detail", "hint"):
        text: Any = getattr(offered, name)
        if not isinstance(text, str):
            raise TypeError(f"offered a Finding whose {name} is {text!r}, which is no text")
        text.encode()
    if offered.verdict not in get_args(Verdict):
        raise ValueError(f"offered a Finding whose verdict is {offered.verdict!r}, not one of {get_args(Verdict)}")
    return Finding(offered.what, offered.verdict, offered.detail, offered.hint)
