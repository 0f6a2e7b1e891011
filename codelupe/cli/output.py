"""Data goes to standard output, as a table or as JSON; everything else goes to standard error."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Iterable, Sequence
from contextlib import suppress
from datetime import datetime
from typing import Any

import msgspec
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.text import Text

_WIDTH = None if sys.stdout.isatty() or "COLUMNS" in os.environ else 140
"""A pipe or a file has no width of its own; tables need one."""


_NAME_WIDTH = 32
"""What a row is called stays in one piece up to here, to be copied; the other columns give way."""


class ReaderLeft(Exception):
    """The reader of the output, such as ``head``, has enough; that is no failure."""


class _Output(Console):
    def on_broken_pipe(self) -> None:
        raise ReaderLeft


out: Console = _Output(width=_WIDTH)
"""The console of `rich` on standard output, for data."""
err = Console(stderr=True)
"""The console of `rich` on standard error, for everything else."""


class StandardError(io.TextIOWrapper):
    """Standard error of a daemon: a terminal that is closed, or a reader that has left, stops no work."""

    @classmethod
    def take_its_place(cls) -> None:
        """What is written to :data:`sys.stderr` from now on cannot fail."""
        old = sys.stderr
        sys.stderr = cls(old.buffer, old.encoding, old.errors, line_buffering=True)

    def write(self, text: str) -> int:
        with suppress(OSError):
            return super().write(text)
        return len(text)

    def flush(self) -> None:
        with suppress(OSError):
            super().flush()


def print_json(data: Any, *, on_one_line: bool = False) -> None:
    """One JSON document, indented unless ``on_one_line``."""
    encoded = msgspec.json.encode(data, enc_hook=str)
    text = encoded if on_one_line else msgspec.json.format(encoded, indent=2)
    try:
        sys.stdout.write(text.decode() + "\n")
        sys.stdout.flush()
    except BrokenPipeError:
        raise ReaderLeft from None


def print_table(columns: Sequence[str], rows: Iterable[Sequence[Any]], *, title: str | None = None) -> None:
    """A plain table; figures are right-aligned."""
    out.print(make_table(columns, rows, title=title))


def make_table(columns: Sequence[str], rows: Iterable[Sequence[Any]], *, title: str | None = None) -> Table:
    """The table that :func:`print_table` prints."""
    rows = list(rows)
    table = Table(title=title, title_justify="left", box=None, pad_edge=False, header_style="bold")
    for index, column in enumerate(columns):
        is_figure = bool(rows) and all(isinstance(row[index], int | float | None) for row in rows)
        is_name = index == 0 and all(len(str(row[0])) <= _NAME_WIDTH for row in rows)
        table.add_column(column, justify="right" if is_figure else "left", overflow="fold", no_wrap=is_name)
    for row in rows:
        table.add_row(*(_cell(value) for value in row))
    return table


def printable(text: str) -> str:
    """The text with whatever could steer a terminal replaced: names and descriptions come from strangers."""
    return "".join(each if each.isprintable() or each in "\n\t\xa0" else "\N{REPLACEMENT CHARACTER}" for each in text)


def plain(text: str) -> str:
    """The text as it goes between markup: :func:`printable`, and with no markup of its own."""
    return escape(printable(text))


def _cell(value: Any) -> str | Text:
    match value:
        case None:
            return ""
        case bool():
            return "yes" if value else "no"
        case int():
            return f"{value:,}"
        case float():
            return f"{value:,.1f}" if value == round(value, 1) else f"{value:,.3f}"
        case datetime():
            return value.astimezone().strftime("%Y-%m-%d %H:%M:%S")
        case _:
            return Text(printable(str(value)))
