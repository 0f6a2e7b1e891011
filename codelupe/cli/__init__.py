"""The command line. Data on standard output, everything else on standard error.

What a command needs is imported when it is called.

Exit codes: 0 done, 1 failed, 2 wrong usage, 69 the database is not available, 70 a handler ignored its cancellation
(``handler_ignores_cancellation`` in the log), 78 the settings are wrong, 130 interrupted.
"""

from __future__ import annotations

import os
import sys
from typing import Annotated

import typer

from codelupe import __version__
from codelupe.cli.command_line import CommandLine
from codelupe.errors import CodelupeError


def build_app() -> typer.Typer:
    """The whole application, with the commands that plugins bring."""
    app = typer.Typer(
        name="codelupe",
        cls=CommandLine,
        help="Turns public repositories into a code model that keeps getting better.",
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        rich_markup_mode=None,
    )
    app.callback()(_root)
    return app


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"codelupe {__version__}")
        raise typer.Exit


def _root(
    version: Annotated[
        bool, typer.Option("--version", is_eager=True, callback=_print_version, help="Print the version and end.")
    ] = False,
) -> None:
    """Options of ``codelupe`` itself."""


def main() -> None:
    """The entry point ``codelupe``."""
    try:
        build_app()()
    except SystemExit:
        raise
    except BaseException as error:  # noqa: BLE001 - what is not for people to read is raised again
        _end_with(error)


def _end_with(error: BaseException) -> None:
    from codelupe.cli.output import ReaderLeft, err

    match _readable(error):
        case CodelupeError() as readable:
            err.print(f"codelupe: {readable}", markup=False, highlight=False, soft_wrap=True)
            sys.exit(readable.exit_code)
        case KeyboardInterrupt():
            sys.exit(130)
        case ReaderLeft():
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            sys.exit(0)
        case _:
            raise error


def _readable(error: BaseException) -> BaseException:
    """The error that is for people to read, among those that a task group raised together."""
    from codelupe.cli.output import ReaderLeft

    if isinstance(error, BaseExceptionGroup):
        found = map(_readable, error.exceptions)
        return next((it for it in found if isinstance(it, CodelupeError | KeyboardInterrupt | ReaderLeft)), error)
    return error
