"""Asks plugins what they offer, and keeps a broken one away from the others.

pluggy checks the hooks' names and arguments; loading and calling is done here, one plugin at a time, since in pluggy
one import that fails or one implementation that raises takes the rest with it.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from difflib import get_close_matches
from functools import partial
from typing import Any, TypeVar, get_args

import pluggy
import typer
from pydantic import BaseModel

from codelupe.config.directories import Directories
from codelupe.contracts.evaluators import Evaluator
from codelupe.contracts.files import FileRule, Scorer
from codelupe.contracts.guards import (
    guard_evaluator,
    guard_executor,
    guard_file_rule,
    guard_repository_rule,
    guard_sample_format,
    guard_scorer,
    guard_search_index,
    guard_source,
)
from codelupe.contracts.repositories import RepositoryRule
from codelupe.contracts.samples import SampleFormat
from codelupe.contracts.search import SearchIndex
from codelupe.contracts.sources import Source
from codelupe.errors import PluginError
from codelupe.executor.contract import Executor
from codelupe.host import hookspecs
from codelupe.host.checks import CHECK_SECONDS, Finding, read_findings
from codelupe.host.declarations import check_declaration
from codelupe.host.discovery import GROUP, Plugin, is_good_name
from codelupe.host.extensions import Extensions
from codelupe.host.isolation import call_within, isolate
from codelupe.host.manifest import Manifest, ManifestEntry
from codelupe.host.status_sections import StatusSection, guard_status_section
from codelupe.postgres import Database
from codelupe.postgres.migrate import Migration, read_migrations, schema_of
from codelupe.work.subscriptions import BatchSubscription, Job, Service, Subscribed, Subscription

T = TypeVar("T")


class Host:
    """The plugins of this installation."""

    def __init__(self, plugins: Sequence[Plugin]) -> None:
        self.plugins = list(plugins)
        self._manager = pluggy.PluginManager(GROUP)
        self._manager.add_hookspecs(hookspecs)
        for plugin in self.plugins:
            if plugin.is_active:
                self._isolate(plugin, None, partial(self._register, plugin))

    @property
    def active(self) -> list[Plugin]:
        return [plugin for plugin in self.plugins if plugin.is_active]

    @property
    def broken(self) -> list[Plugin]:
        return [plugin for plugin in self.plugins if plugin.failure is not None]

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
            model = self._isolate(plugin, "codelupe_settings", _read_settings_model) if plugin.is_active else None
            if is_good_name(plugin.name) and models.get(plugin.name) is None:
                models[plugin.name] = (
                    model if "codelupe_settings" in plugin.hooks or not plugin.is_active else BaseModel
                )
        return models

    def blame(self, faults: Mapping[str, str]) -> None:
        """Break the plugins whose settings models are at fault: by plugin, with what is wrong."""
        for plugin in self.active:
            if plugin.name in faults:
                plugin.fail(PluginError(faults[plugin.name]), hook="codelupe_settings")

    def migrations(self) -> list[Migration]:
        """The migrations that plugins bring, by plugin."""
        found: list[Migration] = []
        for plugin in self.active:
            found += self.migrations_of(plugin)
        return found

    def migrations_of(self, plugin: Plugin) -> list[Migration]:
        """The migrations that this plugin brings; none if it breaks."""
        return self._isolate(plugin, "codelupe_migrations", partial(_read_migrations, plugin)) or []

    @property
    def schemas(self) -> dict[str, str]:
        """Of the active plugins that bring migrations, the schema that their tables lie in."""
        return {plugin.name: schema_of(plugin.name) for plugin in self.active if "codelupe_migrations" in plugin.hooks}

    def commands(self) -> dict[str, dict[str, Any]]:
        """The commands and groups that each plugin brings to the command line, by plugin and by name."""
        return {plugin.name: self._isolate(plugin, "codelupe_commands", _read_commands) or {} for plugin in self.active}

    def lines_of_help(self, plugin: Plugin) -> dict[str, str]:
        """What the plugin's commands say of themselves, by name; none if it breaks."""
        return self._isolate(plugin, "codelupe_commands", _read_lines_of_help) or {}

    def checks(self) -> list[Finding]:
        """What the plugins find when they look at this machine. One that takes too long is broken."""
        found: list[Finding] = []
        for plugin in self.active:
            found += self._isolate(plugin, "codelupe_checks", read_findings, seconds=CHECK_SECONDS) or []
        return found

    def source_settings(self) -> dict[str, str]:
        """The setting of each plugin that takes what ``run --source`` names, by plugin."""
        models = self.settings_models()
        named = {
            plugin.name: self._isolate(
                plugin, "codelupe_source_setting", partial(_read_source_setting, models.get(plugin.name))
            )
            for plugin in self.active
        }
        return {name: setting for name, setting in named.items() if setting is not None}

    def manifest_of(self, plugin: Plugin, offered: Extensions) -> Manifest:
        """What the plugin's manifest is to say, by what it offers."""
        prefix = f"{plugin.name}."
        return Manifest(
            hooks=plugin.hooks,
            commands=self.lines_of_help(plugin),
            subscriptions=tuple(_entry(it, prefix) for it in offered.subscriptions if it.name.startswith(prefix)),
            jobs=tuple(_entry(it, prefix) for it in offered.jobs if it.name.startswith(prefix)),
        )

    def gather(self, settings: BaseModel, database: Database, directories: Directories) -> Extensions:
        """Ask every active plugin for all that it offers; one that fails at any of it offers nothing.

        What has a name belongs to the plugin that offers it first, the built-in ones before all others; a later plugin
        that offers the same name is broken.
        """
        offers = {plugin.name: self._ask(plugin, settings, database, directories) for plugin in self.active}
        claimed = Extensions()
        for plugin in sorted(self.active, key=lambda plugin: not plugin.is_built_in):
            self._isolate(plugin, None, partial(claimed.merge, offers[plugin.name]))
        everything = Extensions()
        for plugin in self.active:
            everything.merge(offers[plugin.name])
        return everything

    def _register(self, plugin: Plugin) -> None:
        try:
            self._manager.register(plugin.target, plugin.name)
            self._require_known_hooks(plugin)
            self._manager.check_pending()
        except Exception:
            if self._manager.get_plugin(plugin.name) is plugin.target:
                self._manager.unregister(name=plugin.name)
            raise
        plugin.hooks = tuple(sorted(caller.name for caller in self._manager.get_hookcallers(plugin.target) or ()))
        self._require_marks(plugin)

    def _require_known_hooks(self, plugin: Plugin) -> None:
        """Raises if a function is marked that has no hook's name."""
        for attribute in dir(plugin.target):
            options = self._manager.parse_hookimpl_opts(plugin.target, attribute)
            if options is None or options.get("optionalhook"):
                continue
            name = options.get("specname") or attribute
            if hasattr(hookspecs, name):
                continue
            similar = get_close_matches(name, dir(hookspecs), n=1)
            meant = f" (did you mean {similar[0]}?)" if similar else ""
            raise PluginError(f"{name} is marked with @hookimpl, but there is no hook of that name{meant}")

    def _require_marks(self, plugin: Plugin) -> None:
        """Raises unless the plugin implements a hook, and all functions that are named like hooks are marked."""
        named = [name for name in dir(plugin.target) if name.startswith(f"{GROUP}_") and _is_unmarked(plugin, name)]
        forgotten = [name for name in named if hasattr(self._manager.hook, name)]
        if not plugin.hooks:
            raise PluginError(f"offers nothing: did you forget @hookimpl{_on(forgotten or named)}?")
        if forgotten:
            raise PluginError(f"does not mark all its hooks: did you forget @hookimpl{_on(forgotten)}?")

    def _ask(self, plugin: Plugin, settings: BaseModel, database: Database, directories: Directories) -> Extensions:
        """All that one plugin offers; nothing if it breaks."""
        arguments = {
            "settings": getattr(settings, plugin.name, None) if "codelupe_settings" in plugin.hooks else None,
            "database": database,
            "directories": directories,
        }

        def ask(hook: str, read: Callable[[Any], Any]) -> Any:
            return self._isolate(plugin, hook, read, arguments)

        offered = Extensions(
            subscriptions=ask("codelupe_subscriptions", partial(_declared, plugin, Subscription, BatchSubscription))
            or [],
            jobs=ask("codelupe_jobs", partial(_declared, plugin, Job)) or [],
            services=ask("codelupe_services", partial(_declared, plugin, Service)) or [],
            sources=ask("codelupe_repository_sources", partial(_guarded, plugin, Source, guard_source)) or [],
            repository_rules=ask(
                "codelupe_repository_rules", partial(_guarded, plugin, RepositoryRule, guard_repository_rule)
            )
            or [],
            file_rules=ask("codelupe_file_rules", partial(_guarded, plugin, FileRule, guard_file_rule)) or [],
            scorers=ask("codelupe_scorers", partial(_guarded, plugin, Scorer, guard_scorer)) or [],
            sample_formats=ask("codelupe_sample_formats", partial(_guarded, plugin, SampleFormat, guard_sample_format))
            or [],
            evaluators=ask("codelupe_evaluators", partial(_guarded, plugin, Evaluator, guard_evaluator)) or [],
            search_indexes=ask("codelupe_search_index", partial(_search_indexes, plugin)) or {},
            executors=ask("codelupe_executors", partial(_executors, plugin)) or {},
            status_sections=ask("codelupe_status_sections", partial(self._sections, plugin)) or [],
        )
        return offered if plugin.is_active else Extensions()

    def _sections(self, plugin: Plugin, offered: Iterable[Any]) -> list[StatusSection]:
        schema = self.schemas.get(plugin.name)
        return [guard_status_section(plugin.name, each, schema) for each in _all(StatusSection, offered)]

    def _isolate(
        self,
        plugin: Plugin,
        hook: str | None,
        read: Callable[[Any], T] | Callable[[], T],
        arguments: Mapping[str, Any] | None = None,
        *,
        seconds: float | None = None,
    ) -> T | None:
        """What ``read`` makes of the hook's answer; None if there is none, or the plugin broke at it.

        With ``seconds`` it breaks at taking longer.
        """
        implementation = self._implementation(plugin, hook) if hook is not None else None
        if not plugin.is_active or (hook is not None and implementation is None):
            return None

        def ask() -> T | None:
            if implementation is None:
                return read()  # type: ignore[call-arg]
            given = {name: (arguments or {})[name] for name in implementation.argnames}
            answer = implementation.function(**given)
            return None if answer is None and hook != "codelupe_settings" else read(answer)  # type: ignore[call-arg]

        function = implementation.function if implementation is not None else None
        fail = partial(plugin.fail, hook=hook, function=function)
        action = ask if seconds is None else partial(call_within, seconds, ask)
        return isolate(plugin.name, hook or "registration", action, fail)

    def _implementation(self, plugin: Plugin, hook: str) -> pluggy.HookImpl | None:
        found = getattr(self._manager.hook, hook).get_hookimpls()
        return next((one for one in found if one.plugin is plugin.target), None)


def _is_unmarked(plugin: Plugin, name: str) -> bool:
    value = getattr(plugin.target, name)
    return inspect.isroutine(value) and not hasattr(value, f"{GROUP}_impl")


def _on(names: Sequence[str]) -> str:
    return f" on {', '.join(names)}" if names else ""


def _read_settings_model(model: Any) -> type[BaseModel]:
    if not (isinstance(model, type) and issubclass(model, BaseModel)):
        raise TypeError(f"offered {model!r} where a pydantic model class belongs")
    return model


def _read_commands(app: Any) -> dict[str, Any]:
    root = typer.Typer(rich_markup_mode=None, add_completion=False)
    root.add_typer(_checked(app, typer.Typer))  # without a name: what it holds comes to the top
    commands: dict[Any, Any] = dict(typer.main.get_group(root).commands)
    if not commands:
        raise ValueError("offered a command line without a command")
    for name in commands:
        if not isinstance(name, str) or not name.isprintable() or not name.strip():
            raise TypeError(f"offered a command with the name {name!r}, which is no printable text")
    return commands


def _read_lines_of_help(app: Any) -> dict[str, str]:
    lines = {name: command.get_short_help_str(1000) for name, command in _read_commands(app).items()}
    for name, line in lines.items():
        if not isinstance(line, str):
            raise TypeError(f"the help of the command {name!r} is {line!r}, which is no text")
        line.encode()
    return lines


def _read_source_setting(model: type[BaseModel] | None, name: Any) -> str:
    if not isinstance(name, str) or model is None or name not in model.model_fields:
        raise TypeError(f"named {name!r}, which is none of its settings")
    return name


def _read_migrations(plugin: Plugin, folder: Any) -> list[Migration]:
    return read_migrations(plugin.name, folder)


def _declared(plugin: Plugin, *arguments: Any) -> list[Any]:
    """Subscriptions, jobs or services, each under its full name; the last argument is what is offered."""
    *kinds, offered = arguments
    found: dict[str, Any] = {}
    for each in offered:
        declaration = check_declaration(plugin.name, _checked(each, *kinds))
        if declaration.name in found:
            raise ValueError(f"offered two {kinds[0].__name__}s with the name {each.name!r}")
        found[declaration.name] = declaration
    return list(found.values())


def _all(kind: Any, offered: Iterable[Any]) -> list[Any]:
    return [_checked(each, kind) for each in offered]


def _guarded(plugin: Plugin, kind: Any, guard: Callable[[str, Any], Any], offered: Iterable[Any]) -> list[Any]:
    return [guard(plugin.name, each) for each in _all(kind, offered)]


def _search_indexes(plugin: Plugin, offered: Any) -> dict[str, SearchIndex]:
    several = offered if isinstance(offered, list | tuple) else [offered]
    indexes = _guarded(plugin, SearchIndex, guard_search_index, several)
    found = {index.name: index for index in indexes}
    if len(found) < len(indexes):
        raise ValueError("offered two search indexes with the same name")
    return found


def _executors(plugin: Plugin, offered: Iterable[Any]) -> dict[str, Executor]:
    found: dict[str, Executor] = {}
    for name, executor in offered:
        if name in found:
            raise ValueError(f"offered two executors with the name {name!r}")
        found[name] = guard_executor(plugin.name, name, _checked(executor, Executor))
    return found


def _entry(offered: Subscribed | Job, prefix: str) -> ManifestEntry:
    consumes = offered.events if isinstance(offered, Subscribed) else ()
    return ManifestEntry(
        name=offered.name.removeprefix(prefix),
        consumes=tuple(event.__name__ for event in consumes),
        emits=tuple(event.__name__ for event in offered.emits),
    )


def _checked(value: Any, *kinds: Any) -> Any:
    if not isinstance(value, kinds):
        wanted = " or a ".join(kind.__name__ for each in kinds for kind in get_args(each) or (each,))
        raise TypeError(f"offered {value!r} where a {wanted} belongs")
    return value
