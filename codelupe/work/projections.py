"""Rebuilding what a batch subscription projects: beside the live tables, then in their place."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import asyncpg
import structlog

from codelupe.errors import CodelupeError
from codelupe.log.event_log import SQL as LOG
from codelupe.postgres import Database
from codelupe.postgres.queries import load_queries
from codelupe.work.context import BatchContext
from codelupe.work.subscriptions import BatchSubscription, Subscribed
from codelupe_events import Event

SQL = load_queries("codelupe_sql", "projections")
_CANNOT_BE_SWAPPED = "CL002"

log = structlog.get_logger("codelupe")


async def begin_rebuild(database: Database, subscription: Subscribed, schema: str | None = None) -> None:
    """Make empty tables beside the live ones; a running daemon fills them from the log's beginning and swaps them.

    The live ones lie in the ``schema`` of the plugin; if it has none, in the database's default schema.

    Raises:
        CodelupeError: the subscription is no projection, or its tables cannot be swapped.
    """
    if not isinstance(subscription, BatchSubscription) or not subscription.projects_to:
        raise CodelupeError(
            f"{subscription.name} has no tables that could be rebuilt",
            hint="Only a batch subscription that says what it projects to has; `codelupe replay` works on any.",
        )
    if subscription.emits:
        raise CodelupeError(f"{subscription.name} emits events, so rebuilding its tables would emit them again")
    try:
        await database.execute(SQL.begin_rebuild, subscription.name, subscription.projects_to, schema)
    except asyncpg.PostgresError as error:
        if getattr(error, "sqlstate", None) != _CANNOT_BE_SWAPPED:
            raise
        raise CodelupeError(f"the tables of {subscription.name} cannot be rebuilt: {error}") from error
    await database.execute(LOG.notify_of_tasks)


def rebuilding(subscription: BatchSubscription) -> BatchSubscription:
    """The subscription that fills the tables beside the live ones, with the same handler."""

    async def handle(events: Sequence[Event], context: BatchContext) -> None:
        await context.connection.execute(SQL.write_beside, subscription.name)
        await subscription.handler(events, context)

    return replace(subscription, name=f"{subscription.name}~rebuild", handler=handle)


async def finish_rebuild(database: Database, subscription: BatchSubscription, schema: str | None = None) -> bool:
    """Swap the tables if a rebuild has come as far as the live ones; whether it did."""
    try:
        swapped: Any = await database.fetchval(SQL.finish_rebuild, subscription.name, subscription.projects_to, schema)
    except asyncpg.PostgresError as error:
        log.error("rebuild_not_swapped", stage=subscription.name, error=str(error))
        return False
    if swapped:
        log.info("projection_rebuilt", stage=subscription.name, tables=subscription.projects_to)
    return bool(swapped)
