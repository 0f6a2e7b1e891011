"""``codelupe plugins list``."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from typing import Annotated, Any

import anyio
import typer

from codelupe.cli.command_line import taken_commands
from codelupe.cli.output import print_json, print_table, printable
from codelupe.cli.plugins.pausing import describe_pause
from codelupe.cli.session import AsJson, ConfigFile, Profile, Session, has_database, open_session
from codelupe.config.directories import locate_directories
from codelupe.config.sources import RawSettings, read_settings, resolve
from codelupe.errors import CodelupeError, ConfigurationError, PluginError
from codelupe.host.discovery import Plugin, chosen_plugins, is_good_name
from codelupe.host.host import Host
from codelupe.host.manifest import Manifest, ManifestEntry, find_manifest
from codelupe.host.migrations import pending_plugin_migrations
from codelupe.observability.logs import configure_logging
from codelupe.postgres import Database
from codelupe.postgres.migrate import Migration, own_migrations, pending_migrations
from codelupe.views.incidents import Incident, read_incidents
from codelupe.work.pauses import Pause, read_pauses


def list_(
    config: ConfigFile = None,
    profile: Profile = None,
    as_json: AsJson = False,
    check: Annotated[
        bool, typer.Option("--check", help="Import every plugin and ask what it offers, to find what is broken.")
    ] = False,
    traceback: Annotated[bool, typer.Option("--traceback", help="Print the traceback of each broken plugin.")] = False,
) -> None:
    """List the plugins, what each offers, and why a broken one takes no part; ends with 1 if one is broken.

    What a plugin's manifest says is believed unless --check is given; a plugin without a manifest is always imported.
    Settings that are wrong are told, and the list is made with the others.
    """
    configure_logging("critical", "auto")
    raw = read_settings(profile=profile, file=config)
    plugins = chosen_plugins(raw, lenient=True)
    manifests, problems = _ask(plugins, raw, check=check)
    taken = taken_commands(_by_precedence(plugins, manifests))
    incidents, pauses, pending = _troubles(raw, plugins)
    rows = [
        _row(plugin, manifest, taken, incidents, pauses) for plugin, manifest in zip(plugins, manifests, strict=True)
    ]
    if as_json:
        print_json(rows)
    else:
        print_table(
            ["plugin", "from", "version", "state", "subscriptions and jobs"],
            [
                (row["name"], row["distribution"], row["version"], row["state"], _subscriptions_and_jobs(row))
                for row in rows
            ],
        )
    _explain(plugins, problems, taken, with_tracebacks=traceback)
    _tell(incidents)
    for owner, waiting in Counter(migration.owner for migration in pending).items():
        typer.echo(
            f"{owner}: migrations to apply: {waiting}; `codelupe db migrate` applies them, or says why not", err=True
        )
    for pause in pauses:
        typer.echo(printable(f"{describe_pause(pause)}. {pause.hint}"), err=True)
    raise typer.Exit(int(any(plugin.failure is not None for plugin in plugins)))


def _ask(
    plugins: Sequence[Plugin], raw: RawSettings, *, check: bool
) -> tuple[list[Manifest], Sequence[ConfigurationError]]:
    """What each plugin offers, by its manifest or else by asking it, and what is wrong with the settings."""
    manifests = [None if check else _manifest(plugin) for plugin in plugins]
    unknown = [plugin for plugin, manifest in zip(plugins, manifests, strict=True) if manifest is None]
    for plugin in unknown:
        plugin.load()
    host = Host(plugins)
    configuration = resolve(raw, host.settings_models())
    host.blame(configuration.faults)
    host.migrations()
    settings = configuration.settings
    offered = host.gather(settings.plugins, Database("postgresql:///unused"), locate_directories(settings))
    return [
        host.manifest_of(plugin, offered) if manifest is None else manifest
        for plugin, manifest in zip(plugins, manifests, strict=True)
    ], configuration.problems


def _troubles(raw: RawSettings, plugins: Sequence[Plugin]) -> tuple[list[Incident], list[Pause], list[Migration]]:
    """What plugins did that hurt others, what of them is paused, and the migrations that they still need.

    All as far as there is a database that knows; a plugin whose applied migrations were changed is broken.

    The list does without it.
    """
    try:
        models = dict.fromkeys(plugin.name for plugin in plugins if is_good_name(plugin.name))
        session = Session(configuration=resolve(raw, models), host=Host(plugins))
        return anyio.run(_read_troubles, session) if has_database(session) else ([], [], [])
    except CodelupeError as error:
        typer.echo(f"What plugins did that hurt others is not known: {error.message}", err=True)
        return [], [], []


async def _read_troubles(session: Session) -> tuple[list[Incident], list[Pause], list[Migration]]:
    async with open_session(session) as opened:
        is_ready = not await pending_migrations(opened.database, own_migrations())
        if not is_ready:
            return [], [], []
        pending = await pending_plugin_migrations(opened.database, session.host)
        return await read_incidents(opened.database), await read_pauses(opened.database), pending


def _manifest(plugin: Plugin) -> Manifest | None:
    if not plugin.is_candidate or plugin.entry is None:
        return None
    try:
        return find_manifest(plugin.entry)
    except PluginError as error:
        plugin.fail(error)
        return None


def _by_precedence(plugins: Sequence[Plugin], manifests: Sequence[Manifest]) -> Iterable[tuple[str, Iterable[str]]]:
    pairs = [pair for pair in zip(plugins, manifests, strict=True) if pair[0].is_candidate]
    for plugin, manifest in sorted(pairs, key=lambda pair: not pair[0].is_built_in):
        yield plugin.name, manifest.commands


def _row(
    plugin: Plugin,
    manifest: Manifest,
    taken: Sequence[tuple[str, str]],
    incidents: Sequence[Incident],
    pauses: Sequence[Pause],
) -> dict[str, Any]:
    failure = plugin.failure
    return {
        "name": plugin.name,
        "distribution": plugin.distribution,
        "version": plugin.version,
        "state": "disabled" if plugin.disabled else "broken" if failure else "active",
        "error": failure.error if failure else None,
        "hook": failure.hook if failure else None,
        "file": failure.place if failure else None,
        "traceback": failure.traceback if failure else None,
        "hooks": manifest.hooks,
        "commands": [name for name in manifest.commands if (plugin.name, name) not in taken],
        "taken_commands": [name for name in manifest.commands if (plugin.name, name) in taken],
        "subscriptions": [_full(plugin, each) for each in manifest.subscriptions],
        "jobs": [_full(plugin, each) for each in manifest.jobs],
        "incidents": [asdict(each) for each in incidents if each.plugin == plugin.name],
        "paused": [each.as_row() for each in pauses if each.part.plugin == plugin.name],
    }


def _full(plugin: Plugin, entry: ManifestEntry) -> dict[str, Any]:
    return {"name": f"{plugin.name}.{entry.name}", "consumes": entry.consumes, "emits": entry.emits}


def _subscriptions_and_jobs(row: dict[str, Any]) -> str:
    return ", ".join(each["name"].partition(".")[2] for each in [*row["jobs"], *row["subscriptions"]])


def _explain(
    plugins: Sequence[Plugin],
    problems: Sequence[ConfigurationError],
    taken: Sequence[tuple[str, str]],
    *,
    with_tracebacks: bool,
) -> None:
    for problem in problems:
        typer.echo(f"codelupe: {problem}", err=True)
    for name, command in taken:
        typer.echo(f"{name}: the command {command!r} is taken, so it is left out", err=True)
    for plugin in plugins:
        if plugin.failure is not None:
            typer.echo(printable(f"{plugin.name} is broken: {plugin.failure}"), err=True)
            if with_tracebacks and plugin.failure.traceback is not None:
                typer.echo(printable(plugin.failure.traceback), err=True)


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
