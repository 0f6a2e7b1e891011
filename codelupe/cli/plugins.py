"""``codelupe plugins``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

import typer

from codelupe.cli.output import print_json, print_table
from codelupe.cli.session import AsJson, ConfigFile, Profile
from codelupe.config.directories import locate_directories
from codelupe.config.sources import read_settings, validate
from codelupe.errors import PluginError
from codelupe.host.discovery import Plugin, chosen_plugins
from codelupe.host.host import Host
from codelupe.host.manifest import Manifest, ManifestEntry, find_manifest
from codelupe.observability.logs import configure_logging
from codelupe.postgres import Database

app = typer.Typer(no_args_is_help=True, help="Look at the plugins.")


@app.command("list")
def list_(
    config: ConfigFile = None,
    profile: Profile = None,
    as_json: AsJson = False,
    check: Annotated[
        bool, typer.Option("--check", help="Import every plugin and ask what it offers, to find what is broken.")
    ] = False,
) -> None:
    """List the plugins, what each offers, and why a broken one takes no part.

    What a plugin's manifest says is believed unless --check is given; a plugin without a manifest is always imported.
    """
    configure_logging("critical", "auto")
    raw = read_settings(profile=profile, file=config)
    plugins = chosen_plugins(raw)
    manifests = {} if check else {plugin.name: it for plugin in plugins if (it := _manifest(plugin)) is not None}
    unknown = [plugin for plugin in plugins if plugin.name not in manifests]
    for plugin in unknown:
        plugin.load()
    host = Host(plugins)
    if unknown:
        settings = validate(raw, host.settings_models()).settings
        database = Database("postgresql:///unused")
        offered = host.gather(settings.plugins, database, locate_directories(settings))
        manifests |= {plugin.name: host.manifest_of(plugin, offered) for plugin in unknown}
    rows = [_row(plugin, manifests[plugin.name]) for plugin in plugins]
    if as_json:
        print_json(rows)
        return
    print_table(
        ["plugin", "from", "version", "state", "subscriptions and jobs"],
        [
            (row["name"], row["distribution"], row["version"], row["state"], _subscriptions_and_jobs(row))
            for row in rows
        ],
    )
    _explain_broken(plugins)


def _manifest(plugin: Plugin) -> Manifest | None:
    if not plugin.is_candidate or plugin.entry is None:
        return None
    try:
        return find_manifest(plugin.entry)
    except PluginError as error:
        plugin.error = error.message
        return None


def _row(plugin: Plugin, manifest: Manifest) -> dict[str, Any]:
    return {
        "name": plugin.name,
        "distribution": plugin.distribution,
        "version": plugin.version,
        "state": "disabled" if plugin.disabled else "broken" if plugin.error else "active",
        "error": plugin.error,
        "hooks": manifest.hooks,
        "commands": list(manifest.commands),
        "subscriptions": [_full(plugin, each) for each in manifest.subscriptions],
        "jobs": [_full(plugin, each) for each in manifest.jobs],
    }


def _full(plugin: Plugin, entry: ManifestEntry) -> dict[str, Any]:
    return {"name": f"{plugin.name}.{entry.name}", "consumes": entry.consumes, "emits": entry.emits}


def _subscriptions_and_jobs(row: dict[str, Any]) -> str:
    return ", ".join(each["name"].partition(".")[2] for each in [*row["jobs"], *row["subscriptions"]])


def _explain_broken(plugins: Sequence[Plugin]) -> None:
    for plugin in plugins:
        if plugin.error is not None:
            typer.echo(f"{plugin.name} is broken: {plugin.error}", err=True)
