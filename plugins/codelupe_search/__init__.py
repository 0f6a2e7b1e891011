"""The search index in Postgres, and the subscription that keeps whichever index is chosen up to date."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from codelupe import BatchContext, BatchSubscription, Database, Repository, hookimpl
from codelupe_events import RepoDiscovered, RepoForgotten
from codelupe_search.postgres import PostgresIndex

if TYPE_CHECKING:
    import typer


@hookimpl
def codelupe_search_index(database: Database) -> PostgresIndex:
    return PostgresIndex(database)


@hookimpl
def codelupe_commands() -> typer.Typer:
    from codelupe_search.command import app

    return app


@hookimpl
def codelupe_subscriptions() -> Iterable[BatchSubscription]:
    return [BatchSubscription(name="index", events=(RepoDiscovered, RepoForgotten), handler=index)]


async def index(events: Sequence[RepoDiscovered | RepoForgotten], context: BatchContext) -> None:
    """Bring the chosen index up to date. It may lie outside the transaction: indexing twice changes nothing."""
    last = {event.repository_id: event for event in events}
    forgotten = [event.repository_id for event in last.values() if isinstance(event, RepoForgotten)]
    await context.search_index.index(
        [Repository.from_event(event) for event in last.values() if isinstance(event, RepoDiscovered)]
    )
    if forgotten:
        await context.search_index.remove(forgotten)
