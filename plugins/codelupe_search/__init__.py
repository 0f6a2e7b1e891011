"""The search indexes, in Postgres and in Elasticsearch, and the subscription that keeps the chosen one up to date."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from codelupe import BatchContext, BatchSubscription, Database, SearchIndex, hookimpl
from codelupe_events import Event
from codelupe_search.elasticsearch import ElasticsearchIndex
from codelupe_search.history import EVENTS, Changes
from codelupe_search.postgres import PostgresIndex
from codelupe_search.settings import SearchSettings

if TYPE_CHECKING:
    import typer


@hookimpl
def codelupe_settings() -> type[SearchSettings]:
    return SearchSettings


@hookimpl
def codelupe_search_index(settings: SearchSettings, database: Database) -> Sequence[SearchIndex]:
    return [PostgresIndex(database), ElasticsearchIndex(settings.elasticsearch, database)]


@hookimpl
def codelupe_commands() -> typer.Typer:
    from codelupe_search.command import app

    return app


@hookimpl
def codelupe_subscriptions() -> Iterable[BatchSubscription]:
    return [BatchSubscription(name="index", events=EVENTS, handler=index, dead_letter_blocks_stream=False)]


async def index(events: Sequence[Event], context: BatchContext) -> None:
    """Bring the chosen index up to date. It may lie outside the transaction: indexing twice changes nothing."""
    positions = [recorded.position for recorded in await context.recorded()]
    changes = Changes.of(zip(positions, events, strict=True))
    await changes.write(context.search_index.index, context.search_index.remove)
