"""Finds plugins, checks them, asks them what they offer, and keeps a broken one away from the others.

pluggy checks the hooks' names and arguments; loading and calling is done here, one plugin at a time, since in pluggy
one import that fails or one implementation that raises takes the rest with it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import EntryPoint, distributions
from typing import Any

import pluggy
import structlog
import typer
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from pydantic import BaseModel

import codelupe
from codelupe import hookspecs
from codelupe.contracts import (
    BatchSubscription,
    Directories,
    Executor,
    FileRule,
    Job,
    Offers,
    RepositoryRule,
    RepositorySource,
    Scorer,
    SearchIndex,
    Service,
    Subscription,
)
from codelupe.log.stages import NamedJob, NamedService, Stage
from codelupe.postgres import Database
from codelupe.postgres.migrate import Migration, read_migrations
from codelupe_events import Event

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
        found = sorted(_find_entry_points(), key=lambda entry: (entry.name, _distribution(entry)))
        plugins = []
        for name in dict.fromkeys(entry.name for entry in found):
            claims = [entry for entry in found if entry.name == name]
            plugins += _admit(claims, disabled=name in disabled, chosen=(chosen or {}).get(name))
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
            if not _is_good_name(plugin.name):
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

    def commands(self) -> dict[str, typer.Typer]:
        """Each plugin's own command line commands."""
        found = {}
        for plugin in self.active:
            app = self._isolate(plugin, self._read_commands)
            if app is not None:
                found[plugin.name] = app
        return found

    def gather(self, settings: BaseModel, database: Database, directories: Directories) -> Gathered:
        """Ask every active plugin for all that it offers; one that fails at any of it offers nothing."""
        everything = Gathered()
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

    def _read_commands(self, plugin: Plugin) -> typer.Typer | None:
        app: typer.Typer | None = self._call(plugin, "codelupe_commands")
        if app is not None:
            typer.main.get_command(_checked(app, typer.Typer))  # raises where the whole command line would
        return app

    def _read_migrations(self, plugin: Plugin) -> list[Migration]:
        folder = self._call(plugin, "codelupe_migrations")
        return read_migrations(plugin.name, folder) if folder is not None else []

    def _ask(self, plugin: Plugin, arguments: Mapping[str, Any]) -> Gathered:
        def ask(hook: str) -> Any:
            return self._call(plugin, hook, arguments) or ()

        subscriptions = _named(plugin, ask("codelupe_subscriptions"), Subscription, BatchSubscription)
        jobs = _named(plugin, ask("codelupe_jobs"), Job)
        services = _named(plugin, ask("codelupe_services"), Service)
        index = ask("codelupe_search_index")
        indexes = [_checked(index, SearchIndex)] if index != () else []
        return Gathered(
            stages=[Stage(name=name, subscription=each) for name, each in subscriptions.items()],
            jobs=[NamedJob(name=name, job=each) for name, each in jobs.items()],
            services=[NamedService(name=name, service=each) for name, each in services.items()],
            offers=Offers(
                sources=[_checked(each, RepositorySource) for each in ask("codelupe_repository_sources")],
                repository_rules=[_checked(each, RepositoryRule) for each in ask("codelupe_repository_rules")],
                file_rules=[_checked(each, FileRule) for each in ask("codelupe_file_rules")],
                scorers=[_checked(each, Scorer) for each in ask("codelupe_scorers")],
                search_indexes={each.name: each for each in indexes},
                executors={name: _checked(each, Executor) for name, each in ask("codelupe_executors")},
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


def _find_entry_points() -> list[EntryPoint]:
    """As importlib's own ``entry_points``, except that one unreadable distribution does not hide all the others."""
    found: dict[str, list[EntryPoint]] = {}
    for distribution in distributions():
        name = "unnamed"
        try:
            if f"[{GROUP}]" not in (distribution.read_text("entry_points.txt") or ""):
                continue  # before its name is read, which takes much longer
            name = canonicalize_name(str(distribution.name))
            if name not in found:
                found[name] = list(distribution.entry_points.select(group=GROUP))
        except Exception as error:
            log.warning("entry_points_unreadable", distribution=name, error=f"{type(error).__name__}: {error}")
    return [entry for entries in found.values() for entry in entries]


def _admit(claims: Sequence[EntryPoint], *, disabled: bool, chosen: str | None) -> list[Plugin]:
    """The plugins that claim one name; at most one of them is loaded."""
    if chosen is None:
        objection = "two distributions claim this name; choose one in plugin_distributions" if len(claims) > 1 else None
        return [_load(entry, disabled=disabled, objection=objection) for entry in claims]
    wanted = [entry for entry in claims if canonicalize_name(_distribution(entry)) == canonicalize_name(chosen)]
    objection = None if wanted else f"plugin_distributions chooses {chosen!r}, which offers no such plugin"
    return [_load(entry, disabled=disabled, objection=objection) for entry in wanted or claims]


def _load(entry: EntryPoint, *, disabled: bool, objection: str | None) -> Plugin:
    plugin = Plugin(
        name=entry.name,
        distribution=_distribution(entry),
        version=(entry.dist.version if entry.dist else "") or "",
        disabled=disabled,
    )
    if disabled:
        return plugin
    try:
        plugin.error = objection or _incompatibility(entry)
        if plugin.error is None:
            plugin.target = entry.load()
            plugin.error = f"{entry.value} is None" if plugin.target is None else None
    except (Exception, SystemExit) as error:
        plugin.error = f"{type(error).__name__}: {error}"
    if plugin.error is not None:
        log.error("plugin_broken", plugin=plugin.name, distribution=plugin.distribution, error=plugin.error)
    return plugin


def _incompatibility(entry: EntryPoint) -> str | None:
    if not _is_good_name(entry.name):
        return f"the name {entry.name!r} must be of small letters, digits and underscores, and no pydantic method's"
    for requirement in map(Requirement, (entry.dist.requires if entry.dist else None) or ()):
        is_about_us = canonicalize_name(requirement.name) == "codelupe"
        applies = requirement.marker is None or requirement.marker.evaluate({"extra": ""})
        if is_about_us and applies and not requirement.specifier.contains(codelupe.__version__, prereleases=True):
            return f"it needs codelupe{requirement.specifier}; this is {codelupe.__version__}"
    return None


def _is_good_name(name: str) -> bool:
    """Whether it can name a section of settings."""
    return _NAME.fullmatch(name) is not None and not hasattr(BaseModel, name)


def _distribution(entry: EntryPoint) -> str:
    return (entry.dist.name if entry.dist else "") or ""


def _named(plugin: Plugin, offered: Iterable[Any], *kinds: type[Any]) -> dict[str, Any]:
    """What is offered, under its full name."""
    found: dict[str, Any] = {}
    for each in offered:
        name = f"{plugin.name}.{_checked(each, *kinds).name}"
        if name in found:
            raise ValueError(f"offered two {kinds[0].__name__}s with the name {each.name!r}")
        for event in (*getattr(each, "events", ()), *getattr(each, "emits", ())):
            if not (isinstance(event, type) and issubclass(event, Event)):
                raise TypeError(f"{name} names {event!r} where an event class belongs")
        found[name] = each
    return found


def _checked(value: Any, *kinds: type[Any]) -> Any:
    if not isinstance(value, kinds):
        wanted = " or a ".join(kind.__name__ for kind in kinds)
        raise TypeError(f"offered {value!r} where a {wanted} belongs")
    return value
