"""Asking the sources, and recording what is new."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import fields, replace
from typing import Any

from codelupe import (
    Connection,
    HandlerContext,
    JobContext,
    PagedSource,
    Reject,
    Repository,
    RepositorySource,
    load_queries,
    storable,
)
from codelupe_events import CrawlRequested, CrawlSliceCompleted, RepoDiscovered

SQL = load_queries("codelupe_sql", "crawler")
SLICE = 50
"""Repositories recorded in one transaction."""
_DESCRIPTION_CHARACTERS = 1000


class Crawler:
    """Asks every source for its repositories and appends ``RepoDiscovered`` for each new revision."""

    def __init__(self) -> None:
        self._has_explained = False

    async def crawl(self, context: JobContext) -> None:
        """Ask all sources, a transaction for each slice. A source that fails does not stop the others."""
        if not context.sources:
            self._explain_once(context)
        for source in _discovering(context.sources):
            async for found in _slices(source, context):
                async with context.transaction() as connection:
                    await _record(connection, context, source.name, found)

    async def answer(self, event: CrawlRequested, context: HandlerContext) -> None:
        """Ask the source that the request names, or all; everything is recorded at once.

        Raises:
            Reject: there is no such source.
        """
        sources = [each for each in context.sources if event.source in (None, each.name)]
        if event.source is not None and not sources:
            known = ", ".join(sorted(each.name for each in context.sources)) or "none"
            raise Reject(f"no source is called {event.source!r}; there are: {known}")
        slices = [(source.name, found) for source in _discovering(sources) async for found in _slices(source, context)]
        async with context.transaction() as connection:
            for name, found in slices:
                await _record(connection, context, name, found)

    def _explain_once(self, context: JobContext) -> None:
        if not self._has_explained:
            context.log.warning(
                "no_sources",
                hint="Name a folder or git URL by --source or in `sources` of [plugins.crawler], or set its "
                "`installed_packages`.",
            )
        self._has_explained = True


def _discovering(sources: Sequence[RepositorySource | PagedSource]) -> list[RepositorySource]:
    return [source for source in sources if isinstance(source, RepositorySource)]


async def _slices(
    source: RepositorySource, context: JobContext | HandlerContext
) -> AsyncIterator[list[RepoDiscovered]]:
    """What the source has, up to its end or its failure."""
    found: dict[str, RepoDiscovered] = {}
    seen = 0
    try:
        async for repository in source.discover():
            found[repository.id] = storable_repository(repository).to_event(RepoDiscovered)
            seen += 1
            context.progress(seen, None, "repositories", source=source.name)
            if len(found) == SLICE:
                yield list(found.values())
                found = {}
    except Exception as error:
        context.log.exception("source_failed", source=source.name, error=f"{type(error).__name__}: {error}")
    if found:
        yield list(found.values())


async def _record(
    connection: Connection, context: JobContext | HandlerContext, source: str, found: Sequence[RepoDiscovered]
) -> None:
    rows = await connection.fetch(SQL.record_repositories, [Repository.from_event(event).to_row() for event in found])
    new = {row["id"] for row in rows}
    for event in found:
        if event.repository_id in new:
            context.emit(event)
    if new:
        context.emit(CrawlSliceCompleted(source=source, seen=len(found), new=len(new)))


def storable_repository(repository: Repository) -> Repository:
    """The repository with U+FFFD for the characters that Postgres cannot hold, and its description cut short."""
    clean = replace(repository, **{each.name: _storable(getattr(repository, each.name)) for each in fields(repository)})
    if clean.description is None:
        return clean
    return replace(clean, description=clean.description[:_DESCRIPTION_CHARACTERS])


def _storable(value: Any) -> Any:
    """The value with U+FFFD in every string for what Postgres cannot hold."""
    match value:
        case str():
            return storable(value, "\N{REPLACEMENT CHARACTER}")
        case tuple() | list():
            return tuple(_storable(each) for each in value)
        case _:
            return value
