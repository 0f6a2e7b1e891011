"""``codelupe plugins``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Annotated, Any

import anyio
import typer

from codelupe.cli.output import print_json, print_table, printable
from codelupe.cli.session import AsJson, ConfigFile, Profile, Session, has_database, open_session
from codelupe.config.directories import locate_directories
from codelupe.config.sources import RawSettings, read_settings, validate
from codelupe.errors import CodelupeError, PluginError
from codelupe.host.discovery import Plugin, chosen_plugins, is_good_name
from codelupe.host.host import Host
from codelupe.host.manifest import Manifest, ManifestEntry, find_manifest
from codelupe.observability.logs import configure_logging
from codelupe.postgres import Database
from codelupe.postgres.migrate import own_migrations, pending_migrations
from codelupe.views.incidents import Incident, read_incidents

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
    incidents = _incidents(raw, host)
    rows = [_row(plugin, manifests[plugin.name], incidents) for plugin in plugins]
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
    _tell(incidents)


def _incidents(raw: RawSettings, host: Host) -> list[Incident]:
    """What plugins did that hurt others, as far as there is a database that knows; the list does without it."""
    try:
        models = dict.fromkeys(plugin.name for plugin in host.plugins if is_good_name(plugin.name))
        session = Session(configuration=validate(raw, models), host=host)
        return anyio.run(_read_incidents, session) if has_database(session) else []
    except CodelupeError as error:
        typer.echo(f"What plugins did that hurt others is not known: {error.message}", err=True)
        return []


async def _read_incidents(session: Session) -> list[Incident]:
    async with open_session(session) as opened:
        is_ready = not await pending_migrations(opened.database, own_migrations())
        return await read_incidents(opened.database) if is_ready else []


def _manifest(plugin: Plugin) -> Manifest | None:
    if not plugin.is_candidate or plugin.entry is None:
        return None
    try:
        return find_manifest(plugin.entry)
    except PluginError as error:
        plugin.error = error.message
        return None


def _row(plugin: Plugin, manifest: Manifest, incidents: Sequence[Incident]) -> dict[str, Any]:
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
        "incidents": [asdict(each) for each in incidents if each.plugin == plugin.name],
    }


def _full(plugin: Plugin, entry: ManifestEntry) -> dict[str, Any]:
    return {"name": f"{plugin.name}.{entry.name}", "consumes": entry.consumes, "emits": entry.emits}


def _subscriptions_and_jobs(row: dict[str, Any]) -> str:
    return ", ".join(each["name"].partition(".")[2] for each in [*row["jobs"], *row["subscriptions"]])


def _explain_broken(plugins: Sequence[Plugin]) -> None:
    for plugin in plugins:
        if plugin.error is not None:
            typer.echo(f"{plugin.name} is broken: {plugin.error}", err=True)


def _tell(incidents: Sequence[Incident]) -> None:
    for one in incidents:
        work = " on ".join(printable(each) for each in (one.stage, one.stream) if each)
        where = printable(one.stack.strip().splitlines()[-2].strip()) if one.stack else ""
        times = "once" if one.count == 1 else f"{one.count:,} times"
        typer.echo(
            f"{one.plugin} blocked the event loop for {one.seconds:.1f} s at {one.at.astimezone():%Y-%m-%d %H:%M:%S}"
            f"{f' ({work})' if work else ''}, {times} so far: {where}",
            err=True,
        )
