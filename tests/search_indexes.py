"""The search indexes as tests use them."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import Any, Literal

from elasticsearch import AsyncElasticsearch

from codelupe import Database, Repository, SearchDocument, SearchFilter, SearchHit, SearchIndex, SearchSort
from codelupe_search.elasticsearch import ElasticsearchIndex
from codelupe_search.postgres import PostgresIndex
from codelupe_search.settings import ElasticsearchSettings
from tests.elasticsearch import Server

Kind = Literal["postgres", "elasticsearch"]
KINDS: tuple[Kind, ...] = ("postgres", "elasticsearch")

_numbers = itertools.count(1)


def settings_for(server: Server, **values: Any) -> ElasticsearchSettings:
    """With an alias that no other test has."""
    defaults = {"urls": (server.url,), "alias": f"test-{next(_numbers)}-repos", "timeout_seconds": 20}
    return ElasticsearchSettings.model_validate(defaults | values)


class PromptIndex(ElasticsearchIndex):
    """Finds what was written just before, which Elasticsearch shows after a second."""

    def __init__(self, settings: ElasticsearchSettings, database: Database) -> None:
        super().__init__(settings, database)
        self.settings = settings

    async def search(
        self,
        query: str,
        limit: int,
        *,
        where: SearchFilter | None = None,
        sort: SearchSort = "relevance",
        after: str | None = None,
    ) -> list[SearchHit]:
        await self.refresh()
        return await super().search(query, limit, where=where, sort=sort, after=after)

    async def refresh(self) -> None:
        async with AsyncElasticsearch(list(self.settings.urls)) as client:
            await client.indices.refresh(index=self.settings.alias, ignore_unavailable=True)

    async def stored(self) -> dict[str, tuple[int, Mapping[str, Any]]]:
        """Every document behind the alias, removed ones too, with its version, by id."""
        await self.refresh()
        async with AsyncElasticsearch(list(self.settings.urls)) as client:
            answer = await client.search(
                index=self.settings.alias, query={"match_all": {}}, size=10_000, version=True, track_total_hits=False
            )
        return {hit["_id"]: (hit["_version"], hit["_source"]) for hit in answer["hits"]["hits"]}


def make_index(kind: Kind, database: Database, server: Server) -> SearchIndex:
    if kind == "postgres":
        return PostgresIndex(database)
    return PromptIndex(settings_for(server), database)


def repository(number: int | str, **values: Any) -> Repository:
    defaults = {"full_name": f"owner/name{number}", "url": f"https://host/{number}", "revision": "1"}
    return Repository(source="test", external_id=str(number), **{**defaults, **values})


def documents(*repositories: Repository, version: int = 1) -> list[SearchDocument]:
    return [SearchDocument(repository=each, version=version) for each in repositories]
