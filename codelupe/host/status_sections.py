"""What a plugin adds to ``codelupe status``."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any

from codelupe.postgres import Database


@dataclass(frozen=True, kw_only=True)
class Table:
    """Rows under a title; a cell may be a text, a number or None."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[Any]]


@dataclass(frozen=True, kw_only=True)
class StatusSection:
    """What came of a plugin's work.

    ``read`` returns data fit for JSON, which ``status --json`` shows under ``name``. From it ``counts`` makes lines of
    the summary, each with a name, how many, and of which kinds; ``tables`` makes tables that follow.
    """

    name: str
    read: Callable[[Database], Awaitable[Any]]
    counts: Callable[[Any], Sequence[tuple[str, int, str]]]
    tables: Callable[[Any], Sequence[Table]] | None = None


def listing(counts: dict[str, int]) -> str:
    """For example ``1,203 accepted, 17 rejected``."""
    return ", ".join(f"{count:,} {name}" for name, count in counts.items())
