"""The command line. Data on standard output, everything else on standard error.

Exit codes: 0 done, 1 failed, 2 wrong usage, 69 the database is not available, 78 the settings are wrong, 130
interrupted.
"""

from __future__ import annotations

import os
import sys
from typing import Annotated, Any

import asyncpg
import typer
from typer.core import TyperGroup

from codelupe import __version__
from codelupe.cli import config, db, dead_letters, events, models, plugins
from codelupe.cli.doctor import doctor
from codelupe.cli.output import ReaderLeft, err
from codelupe.cli.replay import replay
from codelupe.cli.run import run
from codelupe.cli.session import discover
from codelupe.cli.status import status
from codelupe.config.sources import read_settings
from codelupe.errors import CodelupeError, ConfigurationError
from codelupe.host.discovery import discover_plugins
from codelupe.host.host import Host
from codelupe.observability.logs import configure_logging


def build_app() -> typer.Typer:
    """The whole application, with the commands that plugins bring."""
    app = typer.Typer(
        name="codelupe",
        cls=_WithPlugins,
        help="Turns public repositories into a code model that keeps getting better.",
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        rich_markup_mode=None,
    )
    app.callback()(_root)
    for command in (run, status, replay, doctor):
        app.command()(command)
    for group in (events, plugins, dead_letters, models, db, config):
        app.add_typer(group.app, name=group.__name__.rpartition(".")[2].replace("_", "-"))
    return app


class _WithPlugins(TyperGroup):
    """The host's commands, and those that plugins bring."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        for plugin, commands in _installed().commands().items():
            for name, command in commands.items():
                if name in self.commands:
                    typer.echo(f"codelupe: {plugin}: the command {name!r} is taken, so it is left out", err=True)
                else:
                    self.commands[name] = command


def _installed() -> Host:
    """The plugins. Settings that are wrong are reported by the command itself; ``--help`` must work without them."""
    try:
        return discover(read_settings())
    except ConfigurationError:
        return Host(discover_plugins())


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
    configure_logging("critical", "auto")  # each command sets its own level, and says again what matters
    try:
        build_app()()
    except BaseExceptionGroup as group:
        _end_with(_find(group) or group)
    except (CodelupeError, KeyboardInterrupt, ReaderLeft) as error:
        _end_with(error)
    except asyncpg.DataError as error:  # an argument with a lone surrogate, a number beyond 64 bits
        _end_with(CodelupeError(f"the database cannot look for that: {error}"))


def _find(group: BaseExceptionGroup[BaseException]) -> BaseException | None:
    """Ours among the errors that a task group raised together."""
    for error in group.exceptions:
        found = _find(error) if isinstance(error, BaseExceptionGroup) else error
        if isinstance(found, CodelupeError | KeyboardInterrupt | ReaderLeft):
            return found
    return None


def _end_with(error: BaseException) -> None:
    match error:
        case CodelupeError():
            err.print(f"codelupe: {error}", markup=False, highlight=False, soft_wrap=True)
            sys.exit(error.exit_code)
        case KeyboardInterrupt():
            sys.exit(130)
        case ReaderLeft():
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            sys.exit(0)
        case _:
            raise error
