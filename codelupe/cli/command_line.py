"""The host's commands and those that plugins bring, each imported when it is called."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from importlib import import_module
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import typer
from typer.core import TyperGroup

if TYPE_CHECKING:
    from codelupe.errors import ConfigurationError
    from codelupe.host.discovery import Plugin

T = TypeVar("T")


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

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        self.commands = Commands(args)
        return super().parse_args(ctx, args)

    def list_commands(self, ctx: Any) -> list[str]:  # noqa: ARG002
        return list(self.commands)  # its items would be loaded

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """None if there is no such command; it may be one of a plugin that settings keep from being looked at."""
        from codelupe.errors import PluginError

        try:
            command = super().get_command(ctx, cmd_name)
        except PluginError:
            if not ctx.resilient_parsing:  # as it is for completion
                raise
            return None
        if command is None and not ctx.resilient_parsing:
            self._say_what_is_broken()
            if self.commands.problem is not None:
                raise self.commands.problem
        return command

    def format_commands(self, ctx: Any, formatter: Any) -> None:  # noqa: ARG002
        with formatter.section("Commands"):
            formatter.write_dl([(name, self.commands.lines[name].help) for name in self.commands])
        for plugin, name in self.commands.taken:
            typer.echo(f"codelupe: {plugin}: the command {name!r} is taken, so it is left out", err=True)
        self._say_what_is_broken()

    def _say_what_is_broken(self) -> None:
        from codelupe.cli.output import printable

        for plugin in self.commands.broken:
            typer.echo(printable(f"codelupe: {plugin.name} is broken: {plugin.failure}"), err=True)


class Commands(Mapping[str, Any]):
    """All commands by name: the host's come first, and a plugin cannot take the name of another command.

    The arguments of the command line say which settings count, and these, which plugins are disabled. ``problem`` is
    what is wrong with them: then only the built-in plugins are looked at.
    """

    def __init__(self, arguments: Sequence[str] = ()) -> None:
        self._arguments = arguments
        self.problem: ConfigurationError | None = None

    def __getitem__(self, name: str) -> Any:
        return (self._of_host.get(name) or self.lines[name]).load()

    def __iter__(self) -> Iterator[str]:
        return iter(self.lines)

    def __len__(self) -> int:
        return len(self.lines)

    @property
    def lines(self) -> dict[str, _Line]:
        return self._all[0]

    @property
    def taken(self) -> list[tuple[str, str]]:
        """What plugins bring under a name that another command has, as pairs of plugin and command."""
        return self._all[1]

    @property
    def broken(self) -> list[Plugin]:
        """The plugins that are known to be broken once the commands are: most are not imported for them."""
        return [plugin for plugin in self._all[2] if plugin.failure is not None]

    @cached_property
    def _all(self) -> tuple[dict[str, _Line], list[tuple[str, str]], list[Plugin]]:
        plugins, self.problem = _plugins(self._arguments)
        return *_mount(self._of_host, _of_plugins(plugins)), plugins

    @cached_property
    def _of_host(self) -> dict[str, _Line]:
        return {name: _Line(text, partial(_load_own, name)) for name, text in _host_commands().items()}


def taken_commands(brought: Iterable[tuple[str, Iterable[str]]]) -> list[tuple[str, str]]:
    """Which of the commands that plugins bring have a name of the host's or of an earlier plugin's."""
    return _mount(_host_commands(), ((plugin, dict.fromkeys(names, "")) for plugin, names in brought))[1]


def _mount(
    own: Mapping[str, T], brought: Iterable[tuple[str, Mapping[str, T]]]
) -> tuple[dict[str, T], list[tuple[str, str]]]:
    mounted, taken = dict(own), []
    for plugin, commands in brought:
        for name, command in commands.items():
            if name in mounted:
                taken.append((plugin, name))
            else:
                mounted[name] = command
    return mounted, taken


def _host_commands() -> dict[str, str]:
    from codelupe.host.manifest import FILE_NAME, read_manifest

    return read_manifest(Path(__file__).with_name(FILE_NAME)).commands


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


def _plugins(arguments: Sequence[str]) -> tuple[list[Plugin], ConfigurationError | None]:
    """The plugins that the settings let in, the built-in ones first, and what is wrong with these settings."""
    from codelupe.cli.overrides import parse_overrides
    from codelupe.config.sources import choose_plugins, read_settings
    from codelupe.errors import ConfigurationError
    from codelupe.host.discovery import chosen_plugins
    from codelupe.observability.logs import configure_logging

    configure_logging("critical", "auto")  # a command that is called says itself which plugins are broken
    given = _given(arguments)
    file = next(reversed(given["--config"]), os.environ.get("CODELUPE_CONFIG"))
    profile = next(reversed(given["--profile"]), os.environ.get("CODELUPE_PROFILE"))
    problem = None
    try:
        overrides = parse_overrides(given["--set"])
    except ConfigurationError as error:
        overrides, problem = {}, error
    raw = read_settings(profile=profile or None, file=Path(file) if file else None, overrides=overrides)
    plugins = chosen_plugins(raw, lenient=True, built_in_only=problem is not None)
    problem = problem or next(iter(choose_plugins(raw)[1]), None)
    return sorted(plugins, key=lambda plugin: not plugin.is_built_in), problem


def _given(arguments: Sequence[str]) -> dict[str, list[str]]:
    """What the options that choose settings are given, wherever they stand: the command is not known yet."""
    given: dict[str, list[str]] = {"--config": [], "--profile": [], "--set": []}
    for argument, following in pairwise([*arguments, ""]):
        if argument == "--":
            break
        option, equals, value = argument.partition("=")
        if option in given:
            given[option].append(value if equals else following)
    return given


def _of_plugins(plugins: Iterable[Plugin]) -> Iterator[tuple[str, dict[str, _Line]]]:
    """Each plugin with its commands."""
    from codelupe.errors import PluginError

    for plugin in plugins:
        if plugin.is_candidate:
            try:
                yield plugin.name, _lines_of(plugin)
            except PluginError as error:
                plugin.fail(error)


def _lines_of(plugin: Plugin) -> dict[str, _Line]:
    """By the plugin's manifest; a plugin without one is imported.

    Raises:
        PluginError: its manifest cannot be read.
    """
    from codelupe.host.host import Host
    from codelupe.host.manifest import find_manifest

    manifest = find_manifest(plugin.entry) if plugin.entry is not None else None
    if manifest is None:
        plugin.load()
    lines = Host([plugin]).lines_of_help(plugin) if manifest is None else manifest.commands
    return {name: _Line(text, partial(_load, plugin, name)) for name, text in lines.items()}


def _load(plugin: Plugin, name: str) -> Any:
    """The command that the plugin has promised.

    Raises:
        PluginError: the plugin is broken, or its manifest is wrong.
    """
    from codelupe.errors import PluginError

    commands = _commands_of(plugin)
    if plugin.error is not None:
        raise PluginError(f"the plugin {plugin.name} is broken: {plugin.error}")
    if name not in commands:
        raise PluginError(f"the plugin {plugin.name} has no command {name!r}, though it said so")
    return commands[name]


def _commands_of(plugin: Plugin) -> dict[str, Any]:
    from codelupe.host.host import Host

    plugin.load()
    return Host([plugin]).commands().get(plugin.name, {})
