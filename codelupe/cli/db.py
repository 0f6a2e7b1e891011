"""``codelupe db``."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import anyio
import typer

from codelupe import state
from codelupe.cli.output import out, print_json, print_table
from codelupe.cli.session import AsJson, ConfigFile, Profile, Setup, load
from codelupe.daemon import open_database
from codelupe.journal import configure_logging
from codelupe.postgres import Database
from codelupe.postgres.migrate import migrate as apply_migrations
from codelupe.postgres.migrate import own_migrations, pending_migrations
from codelupe.queries import load_queries

app = typer.Typer(no_args_is_help=True, help="See to the database.")

_SQL = load_queries("codelupe_sql", "database")


@app.command()
def migrate(config: ConfigFile = None, profile: Profile = None) -> None:
    """Bring the database's tables up to date; it is made if need be."""

    async def do(setup: Setup, database: Database) -> None:
        applied = await apply_migrations(database, [*own_migrations(), *setup.host.migrations()])
        for one in applied:
            out.print(f"applied {one.owner} {one.number:04}_{one.name}", highlight=False)
        if not applied:
            out.print("Nothing to apply.")

    _with_database(config, profile, do)


@app.command()
def status(config: ConfigFile = None, profile: Profile = None, as_json: AsJson = False) -> None:
    """Show the server, the migrations and the tables' sizes."""

    async def do(setup: Setup, database: Database) -> None:
        missing = await pending_migrations(database, [*own_migrations(), *setup.host.migrations()])
        data = {
            "where": database.where,
            "server": await database.fetchval(_SQL.server_version),
            "size_bytes": await database.fetchval(_SQL.database_size),
            "pending_migrations": [f"{one.owner} {one.number:04}_{one.name}" for one in missing],
            "tables": [dict(row) for row in await database.fetch(_SQL.table_sizes)],
        }
        if as_json:
            print_json(data)
            return
        print_table(["", "value"], [(name, data[name]) for name in ("where", "server", "size_bytes")])
        print_table(["table", "rows (estimate)", "bytes"], [tuple(table.values()) for table in data["tables"]])
        for name in data["pending_migrations"]:
            out.print(f"to be applied: {name}")

    _with_database(config, profile, do)


def _with_database(config: ConfigFile, profile: Profile, action: Callable[[Setup, Database], Awaitable[None]]) -> None:
    async def run() -> None:
        setup = load(config, profile)
        state.create(setup.directories)
        async with open_database(setup.settings, setup.directories) as database:
            await action(setup, database)

    configure_logging("warning", "auto")
    anyio.run(run)
