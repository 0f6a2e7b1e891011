"""Writes the manifests (codelupe.toml) of CodeLupe's own plugins by what these offer."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

import msgspec

from codelupe.config.directories import locate_directories
from codelupe.config.sources import Layer, RawSettings, validate
from codelupe.host.manifest import FILE_NAME, Manifest, ManifestEntry
from codelupe.postgres import Database
from scripts.reference import first_party_plugins

HEAD = "# Read without importing the plugin; `make manifests` writes it by what the plugin offers.\n"


def own_manifests() -> dict[str, Manifest]:
    """What each of CodeLupe's own plugins offers with the default settings, by package."""
    host = first_party_plugins()
    settings = validate(RawSettings([Layer("", {})]), host.settings_models(), environment={}).settings
    offered = host.gather(settings.plugins, Database("postgresql:///unused"), locate_directories(settings))
    return {plugin.entry.value: host.manifest_of(plugin, offered) for plugin in host.active if plugin.entry is not None}


def to_toml(manifest: Manifest) -> str:
    """The manifest as TOML."""
    parts = [f"{HEAD}\nhooks = {_list(manifest.hooks)}\n"]
    if manifest.commands:
        lines = "".join(f"{name} = {_text(text)}\n" for name, text in manifest.commands.items())
        parts.append(f"[commands]\n{lines}")
    parts += [f"[[subscriptions]]\n{_entry(each)}" for each in manifest.subscriptions]
    parts += [f"[[jobs]]\n{_entry(each)}" for each in manifest.jobs]
    return "\n".join(parts)


def path_of(package: str) -> Path:
    """Where the manifest of the plugin in this package lies."""
    return Path(str(files(package))) / FILE_NAME


def _entry(entry: ManifestEntry) -> str:
    lines = [f"name = {_text(entry.name)}"]
    lines += [
        f"{key} = {_list(names)}" for key, names in (("consumes", entry.consumes), ("emits", entry.emits)) if names
    ]
    return "\n".join(lines) + "\n"


def _list(texts: tuple[str, ...]) -> str:
    return f"[{', '.join(map(_text, texts))}]"


def _text(text: str) -> str:
    return msgspec.json.encode(text).decode()  # JSON's strings are TOML's, too


if __name__ == "__main__":
    for package, manifest in own_manifests().items():
        path_of(package).write_text(to_toml(manifest), encoding="utf-8")
