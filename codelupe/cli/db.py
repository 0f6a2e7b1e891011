"""``codelupe db``."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Annotated, Any

import anyio
import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from codelupe.cli.output import err, out, print_json, print_table
from codelupe.cli.session import AsJson, ConfigFile, Profile, Session, load, open_session, require_schema
from codelupe.config.directories import create_directories, retention_policy
from codelupe.daemon import open_database
from codelupe.errors import ConfigurationError
from codelupe.host.migrations import migrate_plugins, pending_plugin_migrations
from codelupe.log.archive import Report
from codelupe.log.partitions import Partition, list_partitions
from codelupe.log.retention import RetentionPolicy, Retired, apply_retention, due
from codelupe.observability.logs import configure_logging
from codelupe.postgres.migrate import Migration, own_migrations, pending_migrations
from codelupe.postgres.migrate import migrate as apply_migrations
from codelupe.postgres.queries import load_queries

app = typer.Typer(no_args_is_help=True, help="Manage the database.")

_SQL = load_queries("codelupe_sql", "database")


@app.command()
def migrate(config: ConfigFile = None, profile: Profile = None) -> None:
    """Bring the database's tables up to date; it is made if need be.

    A plugin whose migration fails is named, the others' are applied, and it ends with 1.
    """

    async def run() -> None:
        session = load(config, profile)
        create_directories(session.directories)
        async with open_database(session.settings, session.directories) as database:
            applied = await apply_migrations(database, own_migrations())
            applied += await migrate_plugins(database, session.host)
        for one in applied:
            out.print(f"applied {_name(one)}", highlight=False)
        has_failed = any(plugin.failed_at("codelupe_migrations") for plugin in session.host.broken)
        if not applied and not has_failed:
            out.print("Nothing to apply.")
        _say_broken(session)
        raise typer.Exit(int(has_failed))

    configure_logging("critical", "auto")
    anyio.run(run)


@app.command()
def status(config: ConfigFile = None, profile: Profile = None, as_json: AsJson = False) -> None:
    """Show the server, the migrations, the tables' sizes and the log's partitions."""

    async def run() -> None:
        async with open_session(load(config, profile)) as session:
            data = await _read_status(session)
        if as_json:
            print_json(data)
        else:
            _print_status(data)
        _say_broken(session)

    configure_logging("critical", "auto")
    anyio.run(run)


@app.command()
def archive(
    config: ConfigFile = None,
    profile: Profile = None,
    keep: Annotated[
        str | None, typer.Option("--keep", metavar="DURATION", help="Instead of the setting retention.keep: P90D, 90d.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say which partitions it would be.")] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    as_json: AsJson = False,
) -> None:
    """Let old events go now, as the settings under retention say: into Parquet files, or for good."""

    async def do(session: Session) -> None:
        database = session.database
        policy = _required_policy(session)
        partitions = await list_partitions(database)
        going = due(partitions, policy)
        if not as_json:
            _print_plan(partitions, going, policy)
        retired: list[Retired] = []
        if going and not dry_run and (yes or as_json or typer.confirm("Go on?", err=True)):
            with _progress(going) as report:
                retired = await apply_retention(database, policy, report)
        if as_json:
            print_json(_as_data(partitions, going, retired, policy))
        else:
            _print_retired(retired)

    async def run() -> None:
        overrides = {"retention": {"keep": keep}} if keep else None
        async with open_session(load(config, profile, overrides)) as session:
            await require_schema(session)
            await do(session)

    configure_logging("warning", "auto")
    anyio.run(run)


def _say_broken(session: Session) -> None:
    for plugin in session.host.broken:
        err.print(f"{plugin.name} is broken: {plugin.failure}", markup=False, highlight=False, soft_wrap=True)


def _name(migration: Migration) -> str:
    return f"{migration.owner} {migration.number:04}_{migration.name}"


# --- status ---


async def _read_status(session: Session) -> dict[str, Any]:
    database = session.database
    missing = await pending_migrations(database, own_migrations())
    has_log = not missing
    missing += await pending_plugin_migrations(database, session.host)
    return {
        "where": database.where,
        "server": await database.fetchval(_SQL.server_version),
        "size_bytes": await database.fetchval(_SQL.database_size),
        "pending_migrations": [_name(one) for one in missing],
        "tables": [dict(row) for row in await database.fetch(_SQL.table_sizes)],
        "partitions": [_partition(one, session) for one in await list_partitions(database)] if has_log else [],
    }


def _partition(partition: Partition, session: Session) -> dict[str, Any]:
    return {
        "name": partition.name,
        "first_position": partition.first,
        "last_position": partition.last - 1,
        "state": partition.state,
        "events": partition.events,
        "bytes": partition.bytes,
        "oldest": partition.oldest,
        "newest": partition.newest,
        "held_by": partition.held_by(session.settings.retention.keep),
    }


def _print_status(data: dict[str, Any]) -> None:
    print_table(["", "value"], [(name, data[name]) for name in ("where", "server", "size_bytes")])
    columns = ["table", "rows (estimate)", "bytes", "of these in indexes"]
    print_table(columns, [tuple(table.values()) for table in data["tables"]])
    columns = ["partition", "from", "to", "state", "events (estimate)", "bytes", "oldest", "newest", "held by"]
    rows = [(*list(one.values())[:-1], "; ".join(one["held_by"])) for one in data["partitions"]]
    print_table(columns, rows)
    for name in data["pending_migrations"]:
        out.print(f"to be applied: {name}")


# --- archive ---


def _required_policy(session: Session) -> RetentionPolicy:
    policy = retention_policy(session.settings)
    if policy is None:
        raise ConfigurationError(
            "nothing says how long events are kept", hint="Give --keep P365D, or set retention.keep."
        )
    return policy


def _print_plan(partitions: Sequence[Partition], going: Sequence[Partition], policy: RetentionPolicy) -> None:
    if going:
        columns = ["partition", "from", "to", "events (estimate)", "bytes", "oldest", "newest"]
        rows = [(one.name, one.first, one.last - 1, one.events, one.bytes, one.oldest, one.newest) for one in going]
        print_table(columns, rows)
        fate = f"be archived in {policy.archive}" if policy.archive else "be dropped for good"
        out.print(f"These are to {fate}.", markup=False, highlight=False, soft_wrap=True)
    if (held := _first_held(partitions, going, policy)) is not None:
        reasons = "; ".join(held.held_by(policy.keep))
        out.print(f"{held.name} and what follows stay: {reasons}.", markup=False, highlight=False, soft_wrap=True)


def _first_held(
    partitions: Sequence[Partition], going: Sequence[Partition], policy: RetentionPolicy
) -> Partition | None:
    return next((one for one in partitions if one not in going and one.held_by(policy.keep)), None)


def _print_retired(retired: Sequence[Retired]) -> None:
    for one in retired:
        fate = f"in {one.path}" if one.path else "dropped"
        out.print(f"{one.partition.name}: {one.events:,} events {fate}", markup=False, highlight=False, soft_wrap=True)


def _as_data(
    partitions: Sequence[Partition], going: Sequence[Partition], retired: Sequence[Retired], policy: RetentionPolicy
) -> dict[str, Any]:
    held = _first_held(partitions, going, policy)
    return {
        "due": [one.name for one in going],
        "retired": [{"name": one.partition.name, "events": one.events, "path": one.path} for one in retired],
        "held": {"name": held.name, "by": held.held_by(policy.keep)} if held else None,
    }


@contextmanager
def _progress(going: Sequence[Partition]) -> Iterator[Report]:
    """A bar for the partitions on standard error, if that is a terminal."""
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    with Progress(*columns, console=err, disable=not err.is_terminal) as progress:
        bars = {one.name: progress.add_task(one.name, total=one.events) for one in going}

        def report(partition: Partition, written: int) -> None:
            progress.update(bars[partition.name], completed=written)

        yield report
