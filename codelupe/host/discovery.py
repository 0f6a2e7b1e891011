"""Finds the plugins of this installation by their entry points, and imports each on its own."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import EntryPoint, distributions
from types import ModuleType
from typing import Any

import structlog
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from pydantic import BaseModel

import codelupe
from codelupe.config.sources import RawSettings, choose_plugins
from codelupe.errors import PluginError
from codelupe.host.failure import Failure
from codelupe.host.isolation import isolate

GROUP = "codelupe"
BUILT_IN = "codelupe"
"""The distribution of the built-in plugins."""
_NAME = re.compile(r"[a-z][a-z0-9_]{0,49}")
"""A schema of the database is called after the plugin: Postgres takes 63 characters."""
log = structlog.get_logger("codelupe")


@dataclass(kw_only=True)
class Plugin:
    """One plugin as found; ``failure`` says why it takes no part. ``target`` is None until it is imported."""

    name: str
    distribution: str
    version: str
    entry: EntryPoint | None = None
    target: Any = None
    failure: Failure | None = None
    hooks: tuple[str, ...] = ()
    disabled: bool = False

    @property
    def error(self) -> str | None:
        return self.failure.error if self.failure is not None else None

    @property
    def is_built_in(self) -> bool:
        return canonicalize_name(self.distribution) == BUILT_IN

    @property
    def is_active(self) -> bool:
        return self.target is not None and self.is_candidate

    @property
    def is_candidate(self) -> bool:
        """Whether it takes part, as far as can be told without importing it."""
        return self.failure is None and not self.disabled

    def failed_at(self, hook: str) -> bool:
        return self.failure is not None and self.failure.hook == hook

    @property
    def package(self) -> str:
        """The Python package that its code lies in, once it is imported; empty if it is made of something else."""
        module = sys.modules.get(self.entry.module) if self.entry is not None else self.target
        return (module.__package__ or module.__name__) if isinstance(module, ModuleType) else ""

    def load(self) -> None:
        """Import it, unless it is imported, disabled or broken; what goes wrong is kept as its ``failure``."""
        if self.entry is None or self.target is not None or not self.is_candidate:
            return
        self.target = isolate(self.name, "import", self.entry.load, self.fail)
        if self.target is None and self.failure is None:
            self.fail(PluginError(f"{self.entry.value} is None"))

    def fail(
        self, error: BaseException, *, hook: str | None = None, function: Callable[..., Any] | None = None
    ) -> None:
        """It takes no part from now on. ``function`` is what implements the hook that failed."""
        module = self.entry.module if self.entry is not None else getattr(self.target, "__name__", "")
        self.failure = Failure.of(error, module=module, hook=hook, function=function)
        log.error(
            "plugin_broken",
            plugin=self.name,
            distribution=self.distribution,
            error=self.failure.error,
            hook=hook,
            place=self.failure.place,
        )


def find_plugins(
    *,
    disabled: frozenset[str] = frozenset(),
    chosen: Mapping[str, str] | None = None,
    built_in_only: bool = False,
) -> list[Plugin]:
    """Every entry point of the group ``codelupe``; none is imported.

    With ``built_in_only`` those of other distributions are disabled, whatever is ``chosen``.
    """
    found = sorted(_find_entry_points(), key=lambda entry: (entry.name, _distribution(entry)))
    plugins = []
    for name in dict.fromkeys(entry.name for entry in found):
        claims = [entry for entry in found if entry.name == name]
        if built_in_only:
            plugins += [_found(entry, disabled=name in disabled or not _is_built_in(entry)) for entry in claims]
        else:
            plugins += _admit(claims, disabled=name in disabled, chosen=(chosen or {}).get(name))
    return plugins


def chosen_plugins(raw: RawSettings, *, lenient: bool = False, built_in_only: bool = False) -> list[Plugin]:
    """The plugins that these settings let in; none is imported.

    Where it cannot be read which plugins are disabled, ``lenient`` lets in the built-in ones alone.

    Raises:
        ConfigurationError: the settings about plugins are wrong, and not ``lenient``.
    """
    choice, problems = choose_plugins(raw)
    if problems and not lenient:
        raise problems[0]
    return find_plugins(
        disabled=choice.disabled_plugins,
        chosen=choice.plugin_distributions,
        built_in_only=built_in_only or bool(problems),
    )


def load_plugins(*, disabled: frozenset[str] = frozenset(), chosen: Mapping[str, str] | None = None) -> list[Plugin]:
    """Every entry point of the group ``codelupe``, each imported on its own."""
    plugins = find_plugins(disabled=disabled, chosen=chosen)
    for plugin in plugins:
        plugin.load()
    return plugins


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
    """The plugins that claim one name; at most one of them takes part."""
    if chosen is not None:
        wanted = [entry for entry in claims if canonicalize_name(_distribution(entry)) == canonicalize_name(chosen)]
        objection = None if wanted else f"plugin_distributions chooses {chosen!r}, which offers no such plugin"
        return [_found(entry, disabled=disabled, objection=objection) for entry in wanted or claims]
    objection = None
    if any(map(_is_built_in, claims)):
        objection = "a built-in plugin has this name; to replace it, choose this one in plugin_distributions"
    elif len(claims) > 1:
        objection = "two distributions claim this name; choose one in plugin_distributions"
    return [_found(entry, disabled=disabled, objection=None if _is_built_in(entry) else objection) for entry in claims]


def _found(entry: EntryPoint, *, disabled: bool, objection: str | None = None) -> Plugin:
    plugin = Plugin(
        name=entry.name,
        distribution=_distribution(entry),
        version=(entry.dist.version if entry.dist else "") or "",
        entry=entry,
        disabled=disabled,
    )
    if disabled:
        return plugin
    try:
        if refusal := objection or _incompatibility(entry):
            plugin.fail(PluginError(refusal))
    except Exception as error:
        plugin.fail(error)
    return plugin


def _incompatibility(entry: EntryPoint) -> str | None:
    if not is_good_name(entry.name):
        return (
            f"the name {entry.name!r} must be of small letters, digits and underscores, 50 at most;"
            " it must be no pydantic method's, and not codelupe"
        )
    for requirement in map(Requirement, (entry.dist.requires if entry.dist else None) or ()):
        is_about_us = canonicalize_name(requirement.name) == "codelupe"
        applies = requirement.marker is None or requirement.marker.evaluate({"extra": ""})
        if is_about_us and applies and not requirement.specifier.contains(codelupe.__version__, prereleases=True):
            return f"it needs codelupe{requirement.specifier}; this is {codelupe.__version__}"
    return None


def is_good_name(name: str) -> bool:
    """Whether it can name a section of settings and an owner of migrations."""
    return _NAME.fullmatch(name) is not None and not hasattr(BaseModel, name) and name != BUILT_IN


def _is_built_in(entry: EntryPoint) -> bool:
    return canonicalize_name(_distribution(entry)) == BUILT_IN


def _distribution(entry: EntryPoint) -> str:
    return (entry.dist.name if entry.dist else "") or ""
