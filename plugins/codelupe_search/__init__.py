"""The search index in Postgres, and the subscription that keeps whichever index is chosen up to date."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import fields

from codelupe import Database, HandlerContext, Repository, Subscription, hookimpl
from codelupe_events import RepoDiscovered
from codelupe_search.postgres import PostgresIndex


@hookimpl
def codelupe_search_index(database: Database) -> PostgresIndex:
    return PostgresIndex(database)


@hookimpl
def codelupe_subscriptions() -> Iterable[Subscription]:
    return [Subscription(name="index", events=(RepoDiscovered,), handler=index)]


async def index(event: RepoDiscovered, context: HandlerContext) -> None:
    """Bring the chosen index up to date."""
    await context.search_index.index([as_repository(event)])


def as_repository(event: RepoDiscovered) -> Repository:
    """The repository that the event describes."""
    values = {each.name: getattr(event, each.name) for each in fields(Repository) if each.name != "external_id"}
    return Repository(external_id=event.repository_id.removeprefix(f"{event.source}:"), **values)
