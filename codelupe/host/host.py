"""Asks plugins what they offer, and keeps a broken one away from the others.

pluggy checks the hooks' names and arguments; loading and calling is done here, one plugin at a time, since in pluggy
one import that fails or one implementation that raises takes the rest with it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import pluggy
import structlog
import typer
from pydantic import BaseModel

from codelupe.config.directories import Directories
from codelupe.contracts.files import FileRule, Scorer
from codelupe.contracts.repositories import RepositoryRule, RepositorySource
from codelupe.contracts.search import SearchIndex
from codelupe.executor.contract import Executor
from codelupe.host import hookspecs
from codelupe.host.checks import Finding
from codelupe.host.discovery import GROUP, Plugin, is_good_name
from codelupe.host.extensions import Extensions
from codelupe.host.manifest import Manifest, ManifestEntry
from codelupe.host.status_sections import StatusSection
from codelupe.postgres import Database
from codelupe.postgres.migrate import Migration, read_migrations
from codelupe.work.subscriptions import BatchSubscription, Job, Service, Subscribed, Subscription
from codelupe_events import Event

log = structlog.get_logger("codelupe")


class Host:
    """The plugins of this installation."""

    def __init__(self, plugins: Sequence[Plugin]) -> None:
        self.plugins = list(plugins)
        self._manager = pluggy.PluginManager(GROUP)
        self._manager.add_hookspecs(hookspecs)
        for plugin in self.plugins:
            if plugin.is_active:
                self._isolate(plugin, self._register)

    @property
    def active(self) -> list[Plugin]:
        return [plugin for plugin in self.plugins if plugin.is_active]

    @property
    def broken(self) -> list[Plugin]:
        return [plugin for plugin in self.plugins if plugin.error is not None]

    @property
    def packages(self) -> dict[str, str]:
        """Which plugin each Python package belongs to; one that several plugins share belongs to none."""
        found: dict[str, str] = {}
        shared: set[str] = set()
        for plugin in self.active:
            package = plugin.package
            shared |= {package} & found.keys()
            found[package] = plugin.name
        return {package: name for package, name in found.items() if package and package not in shared}

    def settings_models(self) -> dict[str, type[BaseModel] | None]:
        """Each plugin's settings model; None for one that could not be loaded, whose settings cannot be checked."""
        models: dict[str, type[BaseModel] | None] = {}
        for plugin in self.plugins:
            if not is_good_name(plugin.name):
                continue
            model = self._isolate(plugin, self._read_settings_model) if plugin.is_active else None
            models[plugin.name] = model if plugin.is_active else None
        return models

    def migrations(self) -> list[Migration]:
        """The migrations that plugins bring, by plugin."""
        found: list[Migration] = []
        for plugin in self.active:
            found += self._isolate(plugin, self._read_migrations) or []
        return found

    def commands(self) -> dict[str, dict[str, Any]]:
        """The commands and groups that each plugin brings to the command line, by plugin and by name."""
        return {plugin.name: self._isolate(plugin, self._read_commands) or {} for plugin in self.active}

    def checks(self) -> list[Finding]:
        """What the plugins find when they look at this machine."""
        found: list[Finding] = []
        for plugin in self.active:
            found += self._isolate(plugin, self._read_checks) or []
        return found

    def source_settings(self) -> dict[str, str]:
        """The setting of each plugin that takes what ``run --source`` names, by plugin."""
        named = {plugin.name: self._isolate(plugin, self._call, "codelupe_source_setting") for plugin in self.active}
        return {name: setting for name, setting in named.items() if setting is not None}

    def manifest_of(self, plugin: Plugin, offered: Extensions) -> Manifest:
        """What the plugin's manifest is to say, by what it offers."""
        prefix = f"{plugin.name}."
        commands = self.commands().get(plugin.name, {})
        return Manifest(
            hooks=plugin.hooks,
            commands={name: command.get_short_help_str(1000) for name, command in commands.items()},
            subscriptions=tuple(_entry(it, prefix) for it in offered.subscriptions if it.name.startswith(prefix)),
            jobs=tuple(_entry(it, prefix) for it in offered.jobs if it.name.startswith(prefix)),
        )

    def gather(self, settings: BaseModel, database: Database, directories: Directories) -> Extensions:
        """Ask every active plugin for all that it offers; one that fails at any of it offers nothing."""
        everything = Extensions()
        for plugin in self.active:
            arguments = {
                "settings": getattr(settings, plugin.name, None) if "codelupe_settings" in plugin.hooks else None,
                "database": database,
                "directories": directories,
            }
            offered = self._isolate(plugin, self._ask, arguments)
            if offered is not None:
                everything.merge(offered)
        return everything

    def _register(self, plugin: Plugin) -> None:
        try:
            self._manager.register(plugin.target, plugin.name)
            self._manager.check_pending()
        except Exception:
            if self._manager.get_plugin(plugin.name) is plugin.target:
                self._manager.unregister(name=plugin.name)
            raise
        plugin.hooks = tuple(sorted(caller.name for caller in self._manager.get_hookcallers(plugin.target) or ()))

    def _read_settings_model(self, plugin: Plugin) -> type[BaseModel]:
        if "codelupe_settings" not in plugin.hooks:
            return BaseModel
        model = self._call(plugin, "codelupe_settings")
        if not (isinstance(model, type) and issubclass(model, BaseModel)):
            raise TypeError(f"offered {model!r} where a pydantic model class belongs")
        return model

    def _read_commands(self, plugin: Plugin) -> dict[str, Any]:
        app = self._call(plugin, "codelupe_commands")
        if app is None:
            return {}
        root = typer.Typer(rich_markup_mode=None, add_completion=False)
        root.add_typer(_checked(app, typer.Typer))  # without a name: what it holds comes to the top
        commands = dict(typer.main.get_group(root).commands)
        if not commands:
            raise ValueError("offered a command line without a command")
        return commands

    def _read_checks(self, plugin: Plugin) -> list[Finding]:
        return [_checked(each, Finding) for each in self._call(plugin, "codelupe_checks") or ()]

    def _read_migrations(self, plugin: Plugin) -> list[Migration]:
        folder = self._call(plugin, "codelupe_migrations")
        return read_migrations(plugin.name, folder) if folder is not None else []

    def _ask(self, plugin: Plugin, arguments: Mapping[str, Any]) -> Extensions:
        def ask(hook: str) -> Any:
            return self._call(plugin, hook, arguments) or ()

        index = ask("codelupe_search_index")
        indexes = [_checked(index, SearchIndex)] if index != () else []
        return Extensions(
            subscriptions=_named(plugin, ask("codelupe_subscriptions"), Subscription, BatchSubscription),
            jobs=_named(plugin, ask("codelupe_jobs"), Job),
            services=_named(plugin, ask("codelupe_services"), Service),
            sources=[_checked(each, RepositorySource) for each in ask("codelupe_repository_sources")],
            repository_rules=[_checked(each, RepositoryRule) for each in ask("codelupe_repository_rules")],
            file_rules=[_checked(each, FileRule) for each in ask("codelupe_file_rules")],
            scorers=[_checked(each, Scorer) for each in ask("codelupe_scorers")],
            search_indexes={each.name: each for each in indexes},
            executors={name: _checked(each, Executor) for name, each in ask("codelupe_executors")},
            status_sections=[_checked(each, StatusSection) for each in ask("codelupe_status_sections")],
        )

    def _call(self, plugin: Plugin, hook: str, arguments: Mapping[str, Any] | None = None) -> Any:
        """Call one plugin's implementation with the arguments it asks for; None if it has none."""
        for implementation in getattr(self._manager.hook, hook).get_hookimpls():
            if implementation.plugin is plugin.target:
                given = {name: (arguments or {})[name] for name in implementation.argnames}
                return implementation.function(**given)
        return None

    def _isolate(self, plugin: Plugin, action: Callable[..., Any], *arguments: Any) -> Any:
        """Do it with the plugin, or mark the plugin as broken with the cause and return None."""
        try:
            return action(plugin, *arguments)
        except (Exception, SystemExit) as error:
            plugin.error = f"{type(error).__name__}: {error}"
            log.error("plugin_broken", plugin=plugin.name, distribution=plugin.distribution, error=plugin.error)
            return None


def _named(plugin: Plugin, offered: Iterable[Any], *kinds: type[Any]) -> list[Any]:
    """What is offered, each under its full name."""
    found: dict[str, Any] = {}
    for each in offered:
        name = f"{plugin.name}.{_checked(each, *kinds).name}"
        if name in found:
            raise ValueError(f"offered two {kinds[0].__name__}s with the name {each.name!r}")
        for event in (*getattr(each, "events", ()), *getattr(each, "emits", ())):
            if not (isinstance(event, type) and issubclass(event, Event)):
                raise TypeError(f"{name} names {event!r} where an event class belongs")
        found[name] = replace(each, name=name)
    return list(found.values())


def _entry(offered: Subscribed | Job, prefix: str) -> ManifestEntry:
    consumes = offered.events if isinstance(offered, Subscribed) else ()
    return ManifestEntry(
        name=offered.name.removeprefix(prefix),
        consumes=tuple(event.__name__ for event in consumes),
        emits=tuple(event.__name__ for event in offered.emits),
    )


def _checked(value: Any, *kinds: type[Any]) -> Any:
    if not isinstance(value, kinds):
        wanted = " or a ".join(kind.__name__ for kind in kinds)
        raise TypeError(f"offered {value!r} where a {wanted} belongs")
    return value
