"""Finds the plugins of this installation by their entry points, and imports each on its own."""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping, Sequence
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

GROUP = "codelupe"
_NAME = re.compile(r"[a-z][a-z0-9_]*")
log = structlog.get_logger("codelupe")


@dataclass(kw_only=True)
class Plugin:
    """One plugin as found; ``error`` says why it takes no part. ``target`` is None until it is imported."""

    name: str
    distribution: str
    version: str
    entry: EntryPoint | None = None
    target: Any = None
    error: str | None = None
    hooks: tuple[str, ...] = ()
    disabled: bool = False

    @property
    def is_active(self) -> bool:
        return self.target is not None and self.error is None and not self.disabled

    @property
    def is_candidate(self) -> bool:
        """Whether it takes part, as far as can be told without importing it."""
        return self.error is None and not self.disabled

    @property
    def package(self) -> str:
        """The Python package that its code lies in, once it is imported; empty if it is made of something else."""
        module = sys.modules.get(self.entry.module) if self.entry is not None else self.target
        return (module.__package__ or module.__name__) if isinstance(module, ModuleType) else ""

    def load(self) -> None:
        """Import it, unless it is imported, disabled or broken; what goes wrong is kept as its ``error``."""
        if self.entry is None or self.target is not None or not self.is_candidate:
            return
        try:
            self.target = self.entry.load()
            self.error = f"{self.entry.value} is None" if self.target is None else None
        except (Exception, SystemExit) as error:
            self.error = f"{type(error).__name__}: {error}"
        if self.error is not None:
            log.error("plugin_broken", plugin=self.name, distribution=self.distribution, error=self.error)


def find_plugins(*, disabled: frozenset[str] = frozenset(), chosen: Mapping[str, str] | None = None) -> list[Plugin]:
    """Every entry point of the group ``codelupe``; none is imported."""
    found = sorted(_find_entry_points(), key=lambda entry: (entry.name, _distribution(entry)))
    plugins = []
    for name in dict.fromkeys(entry.name for entry in found):
        claims = [entry for entry in found if entry.name == name]
        plugins += _admit(claims, disabled=name in disabled, chosen=(chosen or {}).get(name))
    return plugins


def chosen_plugins(raw: RawSettings) -> list[Plugin]:
    """The plugins that these settings let in; none is imported.

    Raises:
        ConfigurationError: the settings about plugins are wrong.
    """
    choice = choose_plugins(raw)
    return find_plugins(disabled=choice.disabled_plugins, chosen=choice.plugin_distributions)


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
    if chosen is None:
        objection = "two distributions claim this name; choose one in plugin_distributions" if len(claims) > 1 else None
        return [_found(entry, disabled=disabled, objection=objection) for entry in claims]
    wanted = [entry for entry in claims if canonicalize_name(_distribution(entry)) == canonicalize_name(chosen)]
    objection = None if wanted else f"plugin_distributions chooses {chosen!r}, which offers no such plugin"
    return [_found(entry, disabled=disabled, objection=objection) for entry in wanted or claims]


def _found(entry: EntryPoint, *, disabled: bool, objection: str | None) -> Plugin:
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
        plugin.error = objection or _incompatibility(entry)
    except Exception as error:
        plugin.error = f"{type(error).__name__}: {error}"
    if plugin.error is not None:
        log.error("plugin_broken", plugin=plugin.name, distribution=plugin.distribution, error=plugin.error)
    return plugin


def _incompatibility(entry: EntryPoint) -> str | None:
    if not is_good_name(entry.name):
        return f"the name {entry.name!r} must be of small letters, digits and underscores, and no pydantic method's"
    for requirement in map(Requirement, (entry.dist.requires if entry.dist else None) or ()):
        is_about_us = canonicalize_name(requirement.name) == "codelupe"
        applies = requirement.marker is None or requirement.marker.evaluate({"extra": ""})
        if is_about_us and applies and not requirement.specifier.contains(codelupe.__version__, prereleases=True):
            return f"it needs codelupe{requirement.specifier}; this is {codelupe.__version__}"
    return None


def is_good_name(name: str) -> bool:
    """Whether it can name a section of settings."""
    return _NAME.fullmatch(name) is not None and not hasattr(BaseModel, name)


def _distribution(entry: EntryPoint) -> str:
    return (entry.dist.name if entry.dist else "") or ""
