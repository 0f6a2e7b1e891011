"""The search index in Elasticsearch, for more repositories than Postgres searches quickly."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

import structlog

from codelupe import CodelupeError, Database, SearchDocument, SearchFilter, SearchHit, SearchSort
from codelupe_search.cursor import Cursor
from codelupe_search.elasticsearch.bulk import Write, write_all
from codelupe_search.elasticsearch.connection import ElasticsearchUnavailable, connected
from codelupe_search.elasticsearch.layout import find_layout
from codelupe_search.elasticsearch.queries import search_body
from codelupe_search.elasticsearch.rebuild import is_abandoned, rebuild
from codelupe_search.entry import Conditions, Entry
from codelupe_search.settings import ElasticsearchSettings
from codelupe_search.words import parse

if TYPE_CHECKING:
    from elasticsearch import AsyncElasticsearch

log = structlog.get_logger("search")

_SWAPS = 3
"""How often the aliases may be found to have moved while one batch is written."""


class NoIndex(CodelupeError):
    """It has not been made, or was deleted."""

    code = "no-search-index"


class ElasticsearchIndex:
    """The index ``elasticsearch``; what it finds, and in which order, is what the index ``postgres`` finds.

    If there is none, the first write builds one from the log.
    """

    name = "elasticsearch"

    def __init__(self, settings: ElasticsearchSettings, database: Database) -> None:
        self._settings = settings
        self._database = database
        self._abandoned: str | None = None

    async def index(self, documents: Sequence[SearchDocument]) -> None:
        """Add or replace."""
        await self._write([Write.document(Entry.of(document)) for document in documents])

    async def remove(self, versions: Mapping[str, int]) -> None:
        """Put marks in the places of the documents."""
        await self._write([Write.removal(*removal) for removal in versions.items()])

    async def reindex(self, report: Callable[[int, int], None]) -> None:
        """Build the index anew from the log, beside the one in use, and put it in its place."""
        async with connected(self._settings) as client:
            await rebuild(client, self._settings, self._database, report)

    async def search(
        self,
        query: str,
        limit: int,
        *,
        where: SearchFilter | None = None,
        sort: SearchSort = "relevance",
        after: str | None = None,
    ) -> list[SearchHit]:
        """The best matches; none for a query without words.

        Raises:
            NoIndex: there is none.
        """
        cursor = None if after is None else Cursor.decode(after, sort)
        if (asked := parse(query)) is None:
            return []
        body = search_body(asked, limit, Conditions.of(where), sort, cursor)
        async with connected(self._settings) as client:
            if (await find_layout(client, self._settings)).live is None:
                raise NoIndex(
                    f"there is no index {self._settings.alias} in Elasticsearch",
                    hint="`codelupe search reindex` builds it, and so does `codelupe run` when a repository is found.",
                )
            answer = await client.search(index=self._settings.alias, **body)
        return [_hit(hit, sort) for hit in answer["hits"]["hits"]]

    async def _write(self, writes: Sequence[Write]) -> None:
        async with connected(self._settings) as client:
            for _ in range(_SWAPS):
                layout = await find_layout(client, self._settings)
                if layout.live is None:
                    await rebuild(client, self._settings, self._database, _unseen)
                    continue
                await self._report_abandoned(client, layout.building)
                outcome = await write_all(client, writes, layout.targets)
                if not outcome.has_moved:
                    outcome.require_taken()
                    return
        raise ElasticsearchUnavailable(f"the indexes behind {self._settings.alias} keep being replaced")

    async def _report_abandoned(self, client: AsyncElasticsearch, building: str | None) -> None:
        """Once for each: it is written to for nothing, and takes up space."""
        if building in (None, self._abandoned):
            return
        if await is_abandoned(client, self._settings, self._database, building):
            self._abandoned = building
            log.warning(
                "reindex_abandoned",
                index=building,
                hint="A reindex ended early, and what is found is written to its index, too. The one in use is whole."
                " `codelupe search reindex` removes what was left and builds anew.",
            )


def _unseen(position: int, end: int) -> None: ...


def _hit(hit: Mapping[str, Any], sort: SearchSort) -> SearchHit:
    source = hit["_source"]
    pushed_at = source["pushed_at"]
    return SearchHit(
        repository_id=source["repository_id"],
        full_name=source["full_name"],
        description=source["description"],
        language=source["language"],
        stars=source["stars"],
        rank=hit["_score"],
        url=source["url"],
        licence=source["licence"],
        topics=tuple(source["topics"]),
        pushed_at=None if pushed_at is None else datetime.fromisoformat(pushed_at),
        cursor=Cursor(sort=sort, key=hit["sort"][0], repository_id=hit["sort"][1]).encode(),
    )
