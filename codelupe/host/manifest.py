"""What a plugin says of itself in ``codelupe.toml``, which is read without importing the plugin.

The file lies in the plugin's package. ``--help`` and ``plugins list`` need no more than it says; a plugin without one
is imported for them. ``make manifests`` writes those of CodeLupe's own plugins.
"""

from __future__ import annotations

import tomllib
from importlib.metadata import EntryPoint
from importlib.util import find_spec
from pathlib import Path

import msgspec

from codelupe.errors import PluginError

FILE_NAME = "codelupe.toml"


class ManifestEntry(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A subscription or a job: its name within the plugin, and the types of events that it consumes and emits."""

    name: str
    consumes: tuple[str, ...] = ()
    emits: tuple[str, ...] = ()


class Manifest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The hooks that a plugin implements, its commands with a line of help each, its subscriptions and its jobs."""

    hooks: tuple[str, ...] = ()
    commands: dict[str, str] = {}
    subscriptions: tuple[ManifestEntry, ...] = ()
    jobs: tuple[ManifestEntry, ...] = ()


def find_manifest(entry: EntryPoint) -> Manifest | None:
    """The manifest of the plugin that the entry point names; None if its package has none.

    Raises:
        PluginError: the file is not a manifest, or the package cannot be looked for.
    """
    try:
        package = find_spec(entry.module.partition(".")[0])
    except Exception as error:
        raise PluginError(f"{entry.value} cannot be found: {type(error).__name__}: {error}") from error
    for folder in (package and package.submodule_search_locations) or ():
        path = Path(folder) / FILE_NAME
        if path.is_file():
            return read_manifest(path)
    return None


def read_manifest(path: Path) -> Manifest:
    """The manifest in this file.

    Raises:
        PluginError: the file is not a manifest.
    """
    try:
        return msgspec.convert(tomllib.loads(path.read_text(encoding="utf-8")), Manifest)
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError, msgspec.ValidationError) as error:
        raise PluginError(f"{path} is not a manifest: {error}") from error
