"""Finds plugins, checks them, asks them what they offer, and keeps a broken one away from the others.

pluggy checks the hooks' names and arguments; loading and calling is done here, one plugin at a time, since in pluggy
one import that fails or one implementation that raises takes the rest with it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import EntryPoint, entry_points
from typing import Any

import pluggy
import structlog
from packaging.requirements import Requirement
from pydantic import BaseModel

import codelupe
from codelupe import hookspecs
from codelupe.contracts import Directories, Job, Offers, Service, Subscription
from codelupe.log.stages import NamedJob, NamedService, Stage
from codelupe.postgres import Database
from codelupe.postgres.migrate import Migration, read_migrations

GROUP = "codelupe"
_NAME = re.compile(r"[a-z][a-z0-9_]*")

log = structlog.get_logger("codelupe")


@dataclass(kw_only=True)
class Plugin:
    """One plugin as found; ``error`` says why it takes no part."""

    name: str
    distribution: str
    version: str
    target: Any = None
    error: str | None = None
    hooks: tuple[str, ...] = ()
    disabled: bool = False

    @property
    def is_active(self) -> bool:
        return self.target is not None and self.error is None and not self.disabled


@dataclass(kw_only=True)
class Gathered:
    """What all active plugins offer together, under full names."""

    stages: list[Stage] = field(default_factory=list)
    jobs: list[NamedJob] = field(default_factory=list)
    services: list[NamedService] = field(default_factory=list)
    offers: Offers = field(default_factory=Offers)

    def merge(self, other: Gathered) -> None:
        self.stages += other.stages
        self.jobs += other.jobs
        self.services += other.services
        self.offers.sources += other.offers.sources
        self.offers.repository_rules += other.offers.repository_rules
        self.offers.file_rules += other.offers.file_rules
        self.offers.scorers += other.offers.scorers
        self.offers.search_indexes |= other.offers.search_indexes
        self.offers.executors |= other.offers.executors


class Host:
    """The plugins of this installation."""

    def __init__(self, plugins: Sequence[Plugin]) -> None:
        self.plugins = list(plugins)
        self._manager = pluggy.PluginManager(GROUP)
        self._manager.add_hookspecs(hookspecs)
        for plugin in self.plugins:
            if plugin.is_active:
                self._isolate(plugin, self._register)

    @classmethod
    def discover(cls, *, disabled: frozenset[str] = frozenset(), chosen: Mapping[str, str] | None = None) -> Host:
        """Load every entry point of the group ``codelupe``, each on its own."""
        found = sorted(entry_points(group=GROUP), key=lambda entry: (entry.name, _distribution(entry)))
        chosen = chosen or {}
        names = [entry.name for entry in found]
        plugins = []
        for entry in found:
            if entry.name in chosen and _distribution(entry) != chosen[entry.name]:
                continue
            is_claimed_twice = names.count(entry.name) > 1 and entry.name not in chosen
            plugins.append(_load(entry, disabled=entry.name in disabled, claimed_twice=is_claimed_twice))
        return cls(plugins)

    @property
    def active(self) -> list[Plugin]:
        return [plugin for plugin in self.plugins if plugin.is_active]

    @property
    def broken(self) -> list[Plugin]:
        return [plugin for plugin in self.plugins if plugin.error is not None]

    def settings_models(self) -> dict[str, type[BaseModel] | None]:
        """Each plugin's settings model; None for one that could not be loaded, whose settings nobody can check."""
        models: dict[str, type[BaseModel] | None] = {}
        for plugin in self.plugins:
            model = self._isolate(plugin, self._call, "codelupe_settings") if plugin.is_active else None
            models[plugin.name] = (model or BaseModel) if plugin.is_active else None
        return models

    def migrations(self) -> list[Migration]:
        """The migrations that plugins bring, by plugin."""
        found: list[Migration] = []
        for plugin in self.active:
            found += self._isolate(plugin, self._read_migrations) or []
        return found

    def commands(self) -> dict[str, Any]:
        """Each plugin's own command line commands."""
        found = {}
        for plugin in self.active:
            app = self._isolate(plugin, self._call, "codelupe_commands")
            if app is not None:
                found[plugin.name] = app
        return found

    def gather(self, settings: BaseModel, database: Database, directories: Directories) -> Gathered:
        """Ask every active plugin for all that it offers; one that fails at any of it offers nothing."""
        everything = Gathered()
        for plugin in self.active:
            arguments = {
                "settings": getattr(settings, plugin.name, None),
                "database": database,
                "directories": directories,
            }
            offered = self._isolate(plugin, self._ask, arguments)
            if offered is not None:
                everything.merge(offered)
        return everything

    def _register(self, plugin: Plugin) -> None:
        self._manager.register(plugin.target, plugin.name)
        try:
            self._manager.check_pending()
        except pluggy.PluginValidationError:
            self._manager.unregister(name=plugin.name)
            raise
        plugin.hooks = tuple(sorted(caller.name for caller in self._manager.get_hookcallers(plugin.target) or ()))

    def _read_migrations(self, plugin: Plugin) -> list[Migration]:
        folder = self._call(plugin, "codelupe_migrations")
        return read_migrations(plugin.name, folder) if folder is not None else []

    def _ask(self, plugin: Plugin, arguments: Mapping[str, Any]) -> Gathered:
        def ask(hook: str) -> Any:
            return self._call(plugin, hook, arguments)

        def named(name: str) -> str:
            return f"{plugin.name}.{name}"

        subscriptions = [_checked(each, Subscription) for each in ask("codelupe_subscriptions") or ()]
        index = ask("codelupe_search_index")
        return Gathered(
            stages=[Stage(name=named(each.name), subscription=each) for each in subscriptions],
            jobs=[NamedJob(name=named(each.name), job=_checked(each, Job)) for each in ask("codelupe_jobs") or ()],
            services=[
                NamedService(name=named(each.name), service=_checked(each, Service))
                for each in ask("codelupe_services") or ()
            ],
            offers=Offers(
                sources=list(ask("codelupe_repository_sources") or ()),
                repository_rules=list(ask("codelupe_repository_rules") or ()),
                file_rules=list(ask("codelupe_file_rules") or ()),
                scorers=list(ask("codelupe_scorers") or ()),
                search_indexes={index.name: index} if index is not None else {},
                executors=dict(ask("codelupe_executors") or ()),
            ),
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


def _load(entry: EntryPoint, *, disabled: bool, claimed_twice: bool) -> Plugin:
    plugin = Plugin(
        name=entry.name,
        distribution=_distribution(entry),
        version=entry.dist.version if entry.dist else "",
        disabled=disabled,
    )
    if disabled:
        return plugin
    try:
        plugin.error = _objection(entry, claimed_twice=claimed_twice)
        if plugin.error is None:
            plugin.target = entry.load()
    except (Exception, SystemExit) as error:
        plugin.error = f"{type(error).__name__}: {error}"
    if plugin.error is not None:
        log.error("plugin_broken", plugin=plugin.name, distribution=plugin.distribution, error=plugin.error)
    return plugin


def _objection(entry: EntryPoint, *, claimed_twice: bool) -> str | None:
    if not _NAME.fullmatch(entry.name):
        return f"the name {entry.name!r} is not made of small letters, digits and underscores"
    if claimed_twice:
        return "two distributions claim this name; choose one in plugin_distributions"
    for text in (entry.dist.requires if entry.dist else None) or ():
        requirement = Requirement(text)
        if requirement.name == "codelupe" and not requirement.specifier.contains(
            codelupe.__version__, prereleases=True
        ):
            return f"it needs codelupe{requirement.specifier}; this is {codelupe.__version__}"
    return None


def _distribution(entry: EntryPoint) -> str:
    return entry.dist.name if entry.dist else ""


def _checked(value: Any, kind: type[Any]) -> Any:
    if not isinstance(value, kind):
        raise TypeError(f"offered {value!r} where a {kind.__name__} belongs")
    return value
