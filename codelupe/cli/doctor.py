"""``codelupe doctor``: is everything here that a run needs?"""

from __future__ import annotations

import math
import shutil
from collections.abc import Set as AbstractSet
from dataclasses import asdict
from datetime import UTC, datetime, timedelta

import anyio
import typer

from codelupe.cli.command_line import taken_commands
from codelupe.cli.output import out, plain, print_json
from codelupe.cli.session import AsJson, ConfigFile, Profile, Session, load, open_session
from codelupe.config.directories import check_directories
from codelupe.daemon import connections_needed
from codelupe.errors import CodelupeError
from codelupe.host.checks import Finding, Verdict
from codelupe.host.discovery import Plugin
from codelupe.host.host import Host
from codelupe.host.migrations import pending_plugin_migrations
from codelupe.log.event_log import EventLog, SequenceBehind
from codelupe.observability.logs import configure_logging
from codelupe.observability.metrics import SQL as _METRICS
from codelupe.observability.metrics import Consumer, Sample, read_sample
from codelupe.postgres import Database
from codelupe.postgres.migrate import own_migrations, pending_migrations
from codelupe.postgres.queries import load_queries
from codelupe.work.pauses import Pause, read_pauses
from codelupe.work.retirement import without_rebuild
from codelupe_events import event_types

_DATABASE = load_queries("codelupe_sql", "database")
_OLDEST_POSTGRES = 150000
_LEAST_FREE_BYTES = 2 * 1024**3
_LONG_TRANSACTION_SECONDS = 60.0
_LATE_SECONDS = 600.0
_LOOK_AGAIN_SECONDS = 1.0
_NEWEST_EVENTS = 1000


def doctor(config: ConfigFile = None, profile: Profile = None, as_json: AsJson = False) -> None:
    """Look for whatever keeps CodeLupe from working; ends with 1 if something does."""
    configure_logging("critical", "auto")
    session = load(config, profile, lenient=True)
    checks = session.host.checks()  # before plugins are asked for more, since a broken one is asked no more
    findings = [
        *_settings(session),
        _state(session),
        _disk(session),
        *_plugins(session),
        *_commands(session.host),
        *checks,
        *anyio.run(_database, session),
    ]
    if as_json:
        print_json([asdict(finding) for finding in findings])
    else:
        for finding in findings:
            _print(finding)
    raise typer.Exit(int(any(finding.verdict == "bad" for finding in findings)))


def _print(finding: Finding) -> None:
    mark = {"good": "[green]good[/]   ", "warning": "[yellow]warning[/]", "bad": "[red]bad[/]    "}[finding.verdict]
    out.print(f"{mark} {plain(finding.what)}: {plain(finding.detail)}", highlight=False, soft_wrap=True)
    if finding.hint:
        out.print(f"        {plain(finding.hint)}", highlight=False, soft_wrap=True)


def _settings(session: Session) -> list[Finding]:
    return [
        Finding("settings", "bad", problem.message, problem.hint or "") for problem in session.configuration.problems
    ] or [Finding("settings", "good", "right")]


def _state(session: Session) -> Finding:
    folders = session.directories
    try:
        check_directories(folders)
    except CodelupeError as error:
        return Finding("state directory", "bad", error.message, error.hint or "")
    return Finding("state directory", "good", str(folders.state))


def _disk(session: Session) -> Finding:
    place = next(
        folder for folder in (session.directories.state, *session.directories.state.parents) if folder.exists()
    )
    free = shutil.disk_usage(place).free
    detail = f"{free / 1024**3:.1f} GiB free"
    if free < _LEAST_FREE_BYTES:
        return Finding("disk", "warning", detail, "Make room: clones, models and the database need it.")
    return Finding("disk", "good", detail)


def _plugins(session: Session) -> list[Finding]:
    session.gather()
    active = Finding("plugins", "good", ", ".join(plugin.name for plugin in session.host.active) or "none")
    return [
        active,
        *map(_broken, session.host.broken),
    ]


def _broken(plugin: Plugin) -> Finding:
    return Finding(f"plugin {plugin.name}", "warning", str(plugin.failure), f"Mend or disable {plugin.distribution}.")


def _commands(host: Host) -> list[Finding]:
    brought = host.commands()
    plugins = sorted(host.active, key=lambda plugin: not plugin.is_built_in)
    return [
        Finding(
            f"command {command} of {plugin}",
            "warning",
            "another command has this name, so it is left out",
            f"Ask the authors of {plugin} for another name.",
        )
        for plugin, command in taken_commands((plugin.name, brought.get(plugin.name, {})) for plugin in plugins)
    ]


async def _database(session: Session) -> list[Finding]:
    try:
        async with open_session(session) as opened:
            found = [await _server(opened.database), await _schema(opened.database)]
            is_usable = all(finding.verdict == "good" for finding in found)
            found += [await _connections(opened), *await _plugins_migrations(opened)]
            return [*found, *(await _event_log(opened) if is_usable else [])]
    except CodelupeError as error:
        verdict: Verdict = "warning" if "no database" in error.message else "bad"
        return [Finding("database", verdict, error.message, error.hint or "")]


async def _server(database: Database) -> Finding:
    number = await database.fetchval(_DATABASE.server_version_number)
    detail = f"PostgreSQL {await database.fetchval(_DATABASE.server_version)} at {database.where}"
    if number < _OLDEST_POSTGRES:
        return Finding("database", "bad", detail, "PostgreSQL 15 or newer is needed.")
    if await database.fetchval(_METRICS.is_read_only):
        return Finding("database", "bad", f"{detail} takes no writes", "Name the primary, not a standby.")
    return Finding("database", "good", detail)


async def _schema(database: Database) -> Finding:
    if missing := await pending_migrations(database, own_migrations()):
        detail = f"{len(missing)} migrations to apply"
        return Finding("schema", "warning", detail, "`codelupe db migrate` applies them.")
    return Finding("schema", "good", "up to date")


async def _connections(session: Session) -> Finding:
    needed = connections_needed(session.settings, session.gather())
    server = await session.database.fetchrow(_DATABASE.connections)
    allowed, used = (server["allowed"], server["used"]) if server else (0, 0)
    detail = f"this process opens up to {needed}; {allowed} are allowed, of which others use {used}"
    hint = "Raise max_connections, or lower database_connections."
    if needed > allowed:
        return Finding("connections", "bad", detail, hint)
    return (
        Finding("connections", "warning", detail, hint)
        if needed > allowed - used
        else Finding("connections", "good", detail)
    )


async def _plugins_migrations(session: Session) -> list[Finding]:
    """Of plugins that were sound so far."""
    sound = session.host.active
    pending = await pending_plugin_migrations(session.database, session.host)
    found = [_broken(plugin) for plugin in sound if plugin.failure is not None]
    if pending:
        detail = f"{len(pending)} migrations of {', '.join(sorted({one.owner for one in pending}))} to apply"
        found.append(
            Finding("plugins' tables", "warning", detail, "`codelupe db migrate` applies them, or says why not.")
        )
    return found


async def _event_log(session: Session) -> list[Finding]:
    sample = await read_sample(session.database)
    extensions = session.gather()
    return [
        await _sequences(session.log) or _oldest_append_barrier(sample),
        await _partitions(session.database),
        await _vocabulary(session.database),
        *await _subscriptions(session, sample, {one.name for one in extensions.subscriptions}),
        _dead_letters(sample),
        *await _pauses(session.database),
    ]


async def _sequences(event_log: EventLog) -> Finding | None:
    try:
        await event_log.require_sequences()
    except SequenceBehind as error:
        return Finding("event log", "bad", error.message, error.hint or "")
    return None


def _oldest_append_barrier(sample: Sample) -> Finding:
    if not _is_held_back(sample):
        detail = f"the oldest transaction that is appending is {sample.oldest_barrier_seconds:.0f} s old"
        return Finding("event log", "good", detail)
    barrier = sample.append_barriers[0]
    age = "of unknown age" if barrier.seconds is None else f"{_duration(barrier.seconds)} old"
    holder, hint = "a prepared transaction", "See pg_prepared_xacts, and commit it or roll it back."
    if barrier.pid is not None:
        holder = f"pid {barrier.pid} ({barrier.application or 'unknown'}, {barrier.state or 'unknown'})"
        hint = f"See pg_stat_activity; the last resort is select pg_terminate_backend({barrier.pid})."
    return Finding(
        "event log",
        "warning",
        f"{holder} has appended in a transaction that is still open, {age}; all subscriptions wait for it with what "
        f"comes after position {sample.high_water_mark:,}, up to {sample.head - sample.high_water_mark:,} events",
        hint,
    )


def _is_held_back(sample: Sample) -> bool:
    seconds = sample.oldest_barrier_seconds
    return seconds > _LONG_TRANSACTION_SECONDS or math.isnan(seconds)


async def _partitions(database: Database) -> Finding:
    room = await database.fetchrow(_METRICS.room)
    positions, partition = (room["positions"], room["partition"]) if room else (0, 0)
    detail = f"the partitions that exist have room for {max(positions, 0):,} positions"
    if positions <= 0:
        return Finding("partitions", "bad", detail, "Nothing can be appended: a running daemon makes partitions.")
    if positions < partition:
        return Finding("partitions", "warning", detail, "A running daemon makes more: see its log for why it does not.")
    return Finding("partitions", "good", detail)


async def _vocabulary(database: Database) -> Finding:
    known = {event.__name__: event.version for event in event_types()}
    unknown = [
        f"{row['events']:,} {row['type']} version {row['version']}"
        for row in await database.fetch(_METRICS.newest_types, _NEWEST_EVENTS)
        if not 1 <= row["version"] <= known.get(row["type"], 0)
    ]
    if unknown:
        detail = f"of the newest {_NEWEST_EVENTS:,}, this code cannot read {', '.join(unknown)}"
        return Finding("events", "warning", detail, "They stay in the log. Install what declares them, or newer code.")
    return Finding("events", "good", f"this code can read the newest {_NEWEST_EVENTS:,}")


async def _subscriptions(session: Session, sample: Sample, active: AbstractSet[str]) -> list[Finding]:
    unused = [one for one in sample.consumers if without_rebuild(one.name) not in active]
    late = [one for one in await _late_and_idle(session.database, sample) if without_rebuild(one.name) in active]
    found = [
        Finding(
            f"subscription {one.name}",
            "warning",
            f"up to {one.lag:,} events wait, the oldest for {_duration(one.seconds)}, and nothing is running",
            _why_late(one, sample),
        )
        for one in late
    ]
    good = Finding("subscriptions", "good", "nothing waits for long without being worked on")
    return [*(_unused(one, session.host) for one in unused), *(found or [good])]


def _unused(consumer: Consumer, host: Host) -> Finding:
    name = without_rebuild(consumer.name)
    plugin = name.partition(".")[0]
    if any(one.name == plugin for one in host.broken):
        hint = f"Mend {plugin}, and it goes on from there."
    else:
        hint = f"`codelupe plugins list` names those that are; `codelupe plugins retire {name}` ends it for good."
    return Finding(
        f"subscription {consumer.name}",
        "warning",
        f"no active plugin has it: up to {consumer.lag:,} events wait for it, and keep the log from getting smaller",
        hint,
    )


async def _late_and_idle(database: Database, sample: Sample) -> list[Consumer]:
    """Those where within a second nothing was handled or running; catching up with old events is no fault."""
    before = {one.name: one.handled for one in sample.consumers if one.seconds > _LATE_SECONDS}
    if not before:
        return []
    await anyio.sleep(_LOOK_AGAIN_SECONDS)
    at_rest = {row["name"] for row in await database.fetch(_METRICS.cursors_at_rest, list(before))}
    now = await read_sample(database)
    return [
        one
        for one in now.consumers
        if one.name in at_rest
        and one.seconds > _LATE_SECONDS
        and one.handled == before[one.name]
        and not (one.running and now.workers)
    ]


def _why_late(consumer: Consumer, sample: Sample) -> str:
    if not sample.workers:
        return "No daemon is at work: `codelupe run` starts one."
    if consumer.undelivered and _is_held_back(sample):
        return "It waits for the open transaction that is named under event log."
    if consumer.dead_lettered:
        return f"A dead letter may hold it back: `codelupe dead-letters list --subscription {consumer.name}`."
    return "It may wait for its next attempt: see the daemon's log."


def _dead_letters(sample: Sample) -> Finding:
    dead = {one.name: one.dead_lettered for one in sample.consumers if one.dead_lettered}
    if dead:
        detail = ", ".join(f"{count:,} of {name}" for name, count in dead.items())
        return Finding("dead letters", "warning", detail, "`codelupe dead-letters list` says why.")
    return Finding("dead letters", "good", "none")


async def _pauses(database: Database) -> list[Finding]:
    return [
        Finding(str(pause.part), "warning", f"paused for {_duration(_age(pause))}: {pause.why}", pause.hint)
        for pause in await read_pauses(database)
    ]


def _age(pause: Pause) -> float:
    return (datetime.now(UTC) - pause.since).total_seconds()


def _duration(seconds: float) -> str:
    return str(timedelta(seconds=round(seconds)))
