"""Plugins' migrations: one that fails breaks its plugin, and nothing else."""

from __future__ import annotations

import structlog

from codelupe.errors import DatabaseUnavailable, MigrationError
from codelupe.host.failure import describe
from codelupe.host.host import Host
from codelupe.postgres import Database
from codelupe.postgres.migrate import Migration, migrate, pending_migrations
from codelupe.postgres.queries import load_queries

log = structlog.get_logger("codelupe")
_DATABASE = load_queries("codelupe_sql", "database")
_HOOK = "codelupe_migrations"


async def migrate_plugins(database: Database, host: Host, *, seconds: float | None = None) -> list[Migration]:
    """Apply what each active plugin brings, for ``seconds`` at most for one migration; returns what was applied.

    A plugin whose migration fails is broken from then on.

    Raises:
        DatabaseUnavailable: the database is away, and no plugin's migration is to blame.
    """
    applied: list[Migration] = []
    for plugin in host.active:
        try:
            for migration in await pending_migrations(database, host.migrations_of(plugin)):
                applied += await _apply(database, migration, seconds)
        except MigrationError as error:
            plugin.fail(error, hook=_HOOK)
    return applied


async def pending_plugin_migrations(database: Database, host: Host) -> list[Migration]:
    """What :func:`migrate_plugins` would apply; a plugin whose applied migrations were changed is broken."""
    pending: list[Migration] = []
    for plugin in host.active:
        try:
            pending += await pending_migrations(database, host.migrations_of(plugin))
        except MigrationError as error:
            plugin.fail(error, hook=_HOOK)
    return pending


async def _apply(database: Database, migration: Migration, seconds: float | None) -> list[Migration]:
    """On a connection that is closed afterwards: a role or a temporary table would outlive a reset."""
    log.info("migration_started", owner=migration.owner, number=migration.number, name=migration.name)
    async with Database(database.url, connections=1) as connected:
        try:
            return await migrate(connected, [migration], seconds=seconds)
        except DatabaseUnavailable as error:
            await database.fetchval(_DATABASE.server_version)  # raises if it is no fault of the migration's
            raise MigrationError(
                f"{migration} broke its connection: {describe(error)}",
                hint="Nothing of it was kept; correct it and start again.",
            ) from error
