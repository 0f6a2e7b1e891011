"""Building the index anew beside the one in use, and taking its place.

First the new index is there under the alias of one that is built, and every process writes to it from then on; then
everything that was recorded until then is written, too; then the aliases are swapped in one step. Whatever is recorded
meanwhile has been written by a process that saw the new index. Versions decide wherever two writes meet.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import anyio
import structlog

from codelupe import CodelupeError, Connection, Database, Reject, RetryLater, SearchDocument, load_queries
from codelupe_search.elasticsearch.bulk import Write, write_all
from codelupe_search.elasticsearch.connection import ElasticsearchUnavailable, translated
from codelupe_search.elasticsearch.layout import (
    building_alias,
    find_layout,
    name_of,
    number_of,
    put_template,
)
from codelupe_search.entry import Entry
from codelupe_search.history import replay
from codelupe_search.settings import ElasticsearchSettings

if TYPE_CHECKING:
    from elasticsearch import AsyncElasticsearch

SQL = load_queries("codelupe_sql", "search")

log = structlog.get_logger("search")

_PAUSES_SECONDS = (1, 2, 4, 8, 16)
"""Between tries to write while Elasticsearch is away."""


class ReindexUnderWay(RetryLater, CodelupeError):
    """Another process is building the index."""

    code = "reindex-under-way"

    def __init__(self, alias: str) -> None:
        super().__init__(f"another process is building {alias}", after=timedelta(seconds=5), counts=False)
        self.hint = "Wait until it has; one that was killed holds nothing."


async def rebuild(
    client: AsyncElasticsearch, settings: ElasticsearchSettings, database: Database, report: Callable[[int, int], None]
) -> None:
    """Build the index anew from the log and put it in place. What an earlier try has left is removed.

    Raises:
        ReindexUnderWay: another process does so.
    """
    async with _held(database, settings) as connection:
        new = await _begin(client, settings)
        log.info("reindex_began", index=new)
        builder = _Builder(client, settings)
        await replay(database, builder.index, builder.remove, report)
        await client.indices.refresh(index=new)
        if not await connection.fetchval(SQL.hold_reindex, settings.alias):
            raise ReindexUnderWay(settings.alias)
        await _swap(client, settings, new)
        log.info("reindex_completed", index=new, refused=builder.refused)


async def is_abandoned(
    client: AsyncElasticsearch, settings: ElasticsearchSettings, database: Database, building: str
) -> bool:
    """Whether the process that was building this index was killed, or lost what made it the only one."""
    if await database.fetchval(SQL.is_reindex_held, settings.alias):
        return False
    layout = await find_layout(client, settings, checked=False)
    return layout.building == building  # and was not put in place just now


class _Builder:
    """Writes into the index that is being built, and waits for Elasticsearch where it is away."""

    def __init__(self, client: AsyncElasticsearch, settings: ElasticsearchSettings) -> None:
        self._client = client
        self._settings = settings
        self.refused = 0
        """Documents that cannot be taken; the subscription has made them dead letters, or will."""

    async def index(self, documents: Sequence[SearchDocument]) -> None:
        await self._write([Write.document(Entry.of(document)) for document in documents])

    async def remove(self, versions: Mapping[str, int]) -> None:
        await self._write([Write.removal(*removal) for removal in versions.items()])

    async def _write(self, writes: Sequence[Write]) -> None:
        for pause in _PAUSES_SECONDS:
            try:
                await self._try(writes)
            except ElasticsearchUnavailable as error:
                log.warning("reindex_waits", reason=str(error), seconds=pause)
                await anyio.sleep(pause)
            else:
                return
        await self._try(writes)

    async def _try(self, writes: Sequence[Write]) -> None:
        with translated(self._settings):
            outcome = await write_all(self._client, writes, [building_alias(self._settings)])
        if outcome.has_moved:
            raise ReindexUnderWay(self._settings.alias)
        try:
            outcome.require_taken()
        except Reject as rejection:
            self.refused += len(outcome.refused)
            log.warning("documents_refused", error=str(rejection))


@asynccontextmanager
async def _held(database: Database, settings: ElasticsearchSettings) -> AsyncIterator[Connection]:
    async with database.transaction() as connection:
        if not await connection.fetchval(SQL.hold_reindex, settings.alias):
            raise ReindexUnderWay(settings.alias)
        yield connection


async def _begin(client: AsyncElasticsearch, settings: ElasticsearchSettings) -> str:
    """Make a new index, under a name that no other one has had as long as there was any."""
    await put_template(client, settings)
    existing = await client.indices.get(index=f"{settings.alias}-v*", ignore_unavailable=True)
    new = name_of(1 + max((number_of(name, settings) or 0 for name in existing.body), default=0), settings)
    left_over = (await find_layout(client, settings, checked=False)).building
    if left_over is not None:
        await client.indices.delete(index=left_over, ignore_unavailable=True)
        log.warning("left_over_index_removed", index=left_over)
    made = await client.indices.create(index=new, aliases={building_alias(settings): {}})
    if not made["acknowledged"]:
        raise ElasticsearchUnavailable(f"not all nodes know the new index {new} yet")
    return new


async def _swap(client: AsyncElasticsearch, settings: ElasticsearchSettings, new: str) -> None:
    """In one step; it fails if this index is not the one that is built any more."""
    old = (await find_layout(client, settings, checked=False)).live
    actions: list[dict[str, Any]] = [
        {"remove": {"index": new, "alias": building_alias(settings), "must_exist": True}},
        {"add": {"index": new, "alias": settings.alias}},
    ]
    if old is not None and number_of(old, settings) is None:  # an operator's own
        actions.append({"remove": {"index": old, "alias": settings.alias}})
    elif old is not None:
        actions.append({"remove_index": {"index": old}})
    await client.indices.update_aliases(actions=actions)
