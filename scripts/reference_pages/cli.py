"""Every command with its arguments and options, and the exit codes."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path
from typing import Any

import typer

from codelupe import cli
from codelupe.errors import CodelupeError
from codelupe.host.discovery import load_plugins
from codelupe.host.host import Host
from scripts.reference_pages.text import doc_of, markdown, table

ROOT = Path(__file__).parents[2]


def cli_page(host: Host) -> str:
    """The page."""
    parts = [
        "# Command line",
        "Data goes to standard output, progress and logs to standard error. Every command also takes `--help`.",
    ]
    for name, command in commands(command_tree(host)):
        if name == "codelupe" or not hasattr(command, "commands"):
            parts += _section(name, command)
    exits = (inspect.getdoc(cli) or "").partition("Exit codes: ")[2]
    return "\n\n".join([*parts, "## Exit codes", markdown(_sentence(exits)), _errors()])


def command_tree(host: Host) -> Any:
    """The whole command line, without the commands of plugins that the host does not have."""
    tree: Any = typer.main.get_command(cli.build_app())
    own = {plugin.name for plugin in host.plugins}
    others = Host([plugin for plugin in load_plugins() if plugin.name not in own])
    foreign = {name for commands in others.commands().values() for name in commands}
    tree.commands = {name: command for name, command in tree.commands.items() if name not in foreign}
    return tree


def commands(command: Any, name: str = "codelupe") -> Iterator[tuple[str, Any]]:
    """A command and all below it, each with its full name."""
    yield name, command
    for below, subcommand in getattr(command, "commands", {}).items():
        yield from commands(subcommand, f"{name} {below}")


def _section(name: str, command: Any) -> Iterator[str]:
    context = command.context_class(command, info_name=name)
    yield f"## `{name}`"
    yield markdown(command.help)
    yield f"```\n{command.get_usage(context)}\n```"
    records = [parameter.get_help_record(context) for parameter in command.get_params(context)]
    if rows := [(f"`{record[0]}`", record[1]) for record in records if record and record[0] != "--help"]:
        yield table(("argument or option", "meaning"), rows)


def _errors() -> str:
    for package in ("codelupe", *sorted(path.name for path in (ROOT / "plugins").glob("codelupe_*"))):
        _import_errors(package)
    ours = [error for error in _below(CodelupeError) if error.__module__.startswith("codelupe")]
    errors = sorted(ours, key=lambda error: (error.exit_code, error.code))
    rows = [(str(error.exit_code), f"`{error.code}`", doc_of(error)) for error in errors]
    return table(("exit code", "error", "meaning"), rows)


def _import_errors(package: str) -> None:
    """Import the modules of a package that declare errors, which are known only then."""
    folder = Path(str(files(package)))
    for path in sorted(folder.rglob("*.py")):
        if '    code = "' in path.read_text():
            names = path.relative_to(folder).with_suffix("").parts
            importlib.import_module(".".join((package, *(name for name in names if name != "__init__"))))


def _below(kind: type[CodelupeError]) -> Iterator[type[CodelupeError]]:
    for subclass in kind.__subclasses__():
        yield subclass
        yield from _below(subclass)


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:]
