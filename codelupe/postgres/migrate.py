"""Numbered SQL migrations: each applied once, in order, in a transaction of its own."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass
from importlib.resources import files
from importlib.resources.abc import Traversable

import asyncpg

from codelupe.errors import MigrationError
from codelupe.postgres.database import Database
from codelupe.postgres.queries import load_queries
from codelupe.postgres.sessions import Connection

_SQL = load_queries("codelupe_sql", "migrations")
_DAY_SECONDS = 86_400
"""No default limit on statements cuts a migration off; ours take as long as they take."""
_FILE_NAME = re.compile(r"(\d{4})_(\w+)\.sql")


@dataclass(frozen=True, kw_only=True)
class Migration:
    """One file; ``owner`` is ``codelupe`` or the plugin that brings it."""

    owner: str
    number: int
    name: str
    sql: str

    def __str__(self) -> str:
        return f"migration {self.number:04}_{self.name} of {self.owner}"

    @property
    def schema(self) -> str | None:
        """Where the tables of a plugin lie; None for CodeLupe's own, which lie in the database's default schema."""
        return None if self.owner == "codelupe" else schema_of(self.owner)

    @property
    def checksum(self) -> str:
        return hashlib.sha256(self.sql.encode()).hexdigest()


def schema_of(plugin: str) -> str:
    """Where the tables of a plugin lie."""
    return f"plugin_{plugin}"


def own_migrations() -> list[Migration]:
    """CodeLupe's own."""
    return read_migrations("codelupe", files("codelupe_sql") / "migrations")


def read_migrations(owner: str, folder: Traversable) -> list[Migration]:
    """The folder's ``NNNN_name.sql`` files by number.

    Raises:
        MigrationError: two files share a number.
        FileNotFoundError: there is no such folder, often since the package was built without it.
    """
    found: dict[int, Migration] = {}
    if not folder.is_dir():
        raise FileNotFoundError(
            f"the folder of {owner}'s migrations is missing: {folder}. "
            "Does [tool.setuptools.package-data] name its files?"
        )
    for entry in sorted(folder.iterdir(), key=lambda entry: entry.name):
        match = _FILE_NAME.fullmatch(entry.name)
        if match is None:
            continue
        number = int(match[1])
        if number in found:
            raise MigrationError(f"{owner} has two migrations with the number {number:04}")
        found[number] = Migration(owner=owner, number=number, name=match[2], sql=entry.read_text(encoding="utf-8"))
    return list(found.values())


async def migrate(
    database: Database, migrations: Iterable[Migration], *, seconds: float | None = None
) -> list[Migration]:
    """Apply what is not applied yet; returns what was applied. Several processes may call it at once.

    One that takes longer than ``seconds`` fails. Plugins' migrations run in a schema of their own, which alone is on
    the search path.

    Raises:
        MigrationError: an applied migration's text differs from the file, the database has one that this code
            lacks, or a statement failed (that migration is rolled back, the ones before it stand).
    """
    migrations = list(migrations)
    async with database.connection() as connection:
        await connection.execute(_SQL.lock_until_the_session_ends, timeout=_DAY_SECONDS)
        await connection.execute(_SQL.create_table)
        pending = await _pending(connection, migrations)
        for migration in pending:
            await _apply(connection, migration, seconds)
    return pending


async def pending_migrations(database: Database, migrations: Iterable[Migration]) -> list[Migration]:
    """What :func:`migrate` would apply."""
    async with database.connection() as connection:
        if not await connection.fetchval(_SQL.table_exists):
            return list(migrations)
        return await _pending(connection, list(migrations))


async def _pending(connection: Connection, migrations: list[Migration]) -> list[Migration]:
    applied = {(row["owner"], row["number"]): row for row in await connection.fetch(_SQL.applied)}
    known = {(migration.owner, migration.number): migration for migration in migrations}
    has_own = any(migration.owner == "codelupe" for migration in migrations)
    for key, row in applied.items():
        if key not in known:
            if key[0] == "codelupe" and has_own:
                raise MigrationError(
                    f"the database has migration {key[1]:04}_{row['name']}, which this version of CodeLupe lacks",
                    hint="Run the newer CodeLupe that applied it, or restore a backup from before it.",
                )
        elif row["checksum"] != known[key].checksum:
            raise MigrationError(
                f"{known[key]} was changed after it had been applied",
                hint="Restore the file and put the change into a new migration.",
            )
    return [migration for key, migration in known.items() if key not in applied]


async def _apply(connection: Connection, migration: Migration, seconds: float | None) -> None:
    """The record comes first: what the migration sets for its session would also hold for that."""
    try:
        async with connection.transaction():
            await connection.execute(_SQL.record, migration.owner, migration.number, migration.name, migration.checksum)
            if migration.schema is not None:
                await connection.execute(_SQL.set_schema, migration.schema)
                await connection.execute(_SQL.create_schema)
                await connection.execute(_SQL.enter_schema)
            if seconds is not None:
                await connection.execute(_SQL.limit_time, f"{seconds}s")
            await connection.execute(_SQL.set_migration, migration.sql)
            await connection.execute(_SQL.run_migration, timeout=_DAY_SECONDS)
    except asyncpg.QueryCanceledError as error:
        raise MigrationError(
            f"{migration} failed: {error}",
            hint="Nothing of it was kept; `codelupe db migrate` applies it without a limit of time.",
        ) from error
    except asyncpg.PostgresError as error:
        raise MigrationError(
            f"{migration} failed{_line(error)}: {error}", hint="Nothing of it was kept; correct it and start again."
        ) from error


def _line(error: asyncpg.PostgresError) -> str:
    position, text = getattr(error, "internal_position", None), getattr(error, "internal_query", None)
    return f" in line {text.count(chr(10), 0, int(position)) + 1}" if position and text else ""
