"""The host's commands and those that plugins bring, each imported when it is called."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property, partial
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer
from typer.core import TyperGroup

if TYPE_CHECKING:
    from codelupe.host.discovery import Plugin


@dataclass(frozen=True)
class _Line:
    """A command's line of help, and how to get at the command."""

    help: str
    load: Callable[[], Any]


class CommandLine(TyperGroup):
    """Lists commands by what manifests say of them."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self.commands: Any = Commands()

    def format_commands(self, ctx: Any, formatter: Any) -> None:  # noqa: ARG002
        with formatter.section("Commands"):
            formatter.write_dl([(name, self.commands.lines[name].help) for name in self.commands])


class Commands(Mapping[str, Any]):
    """All commands by name: the host's come first, and a plugin cannot take the name of another command."""

    def __getitem__(self, name: str) -> Any:
        return (self._of_host.get(name) or self.lines[name]).load()

    def __iter__(self) -> Iterator[str]:
        return iter(self.lines)

    def __len__(self) -> int:
        return len(self.lines)

    @cached_property
    def lines(self) -> dict[str, _Line]:
        lines = dict(self._of_host)
        for plugin, brought in _of_plugins():
            for name, line in brought.items():
                if name in lines:
                    typer.echo(f"codelupe: {plugin}: the command {name!r} is taken, so it is left out", err=True)
                else:
                    lines[name] = line
        return lines

    @cached_property
    def _of_host(self) -> dict[str, _Line]:
        from codelupe.host.manifest import FILE_NAME, read_manifest

        manifest = read_manifest(Path(__file__).with_name(FILE_NAME))
        return {name: _Line(text, partial(_load_own, name)) for name, text in manifest.commands.items()}


def _load_own(name: str) -> Any:
    """The command or group in the module of its name."""
    attribute = name.replace("-", "_")
    module = import_module(f"codelupe.cli.{attribute}")
    root = typer.Typer(rich_markup_mode=None, add_completion=False)
    if hasattr(module, "app"):
        root.add_typer(module.app, name=name)
    else:
        root.command(name)(getattr(module, attribute))
    return typer.main.get_group(root).commands[name]


def _of_plugins() -> Iterator[tuple[str, dict[str, _Line]]]:
    """Each plugin with its commands. Settings that are wrong are reported by the command itself, when it runs."""
    from codelupe.config.sources import read_settings
    from codelupe.errors import ConfigurationError, PluginError
    from codelupe.host.discovery import chosen_plugins, find_plugins

    try:
        plugins = chosen_plugins(read_settings())
    except ConfigurationError:
        plugins = find_plugins()
    for plugin in plugins:
        if plugin.is_candidate:
            try:
                yield plugin.name, _lines_of(plugin)
            except PluginError as error:
                typer.echo(f"codelupe: {plugin.name}: {error}", err=True)


def _lines_of(plugin: Plugin) -> dict[str, _Line]:
    """By the plugin's manifest; a plugin without one is imported.

    Raises:
        PluginError: its manifest cannot be read.
    """
    from codelupe.host.manifest import find_manifest

    manifest = find_manifest(plugin.entry) if plugin.entry is not None else None
    if manifest is not None:
        return {name: _Line(text, partial(_load, plugin, name)) for name, text in manifest.commands.items()}
    commands = _commands_of(plugin)
    return {
        name: _Line(it.get_short_help_str(100), partial(commands.__getitem__, name)) for name, it in commands.items()
    }


def _load(plugin: Plugin, name: str) -> Any:
    """The command that the plugin's manifest promises.

    Raises:
        PluginError: the plugin is broken, or its manifest is wrong.
    """
    from codelupe.errors import PluginError

    commands = _commands_of(plugin)
    if plugin.error is not None:
        raise PluginError(f"the plugin {plugin.name} is broken: {plugin.error}")
    if name not in commands:
        raise PluginError(f"the plugin {plugin.name} has no command {name!r}, though its manifest says so")
    return commands[name]


def _commands_of(plugin: Plugin) -> dict[str, Any]:
    from codelupe.host.host import Host

    plugin.load()
    return Host([plugin]).commands().get(plugin.name, {})
