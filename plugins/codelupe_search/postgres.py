"""Full-text search in the database that is there anyway."""

from __future__ import annotations

from collections.abc import Sequence

from codelupe import Database, Repository, SearchHit, load_queries, storable

SQL = load_queries("codelupe_sql", "search")


class PostgresIndex:
    """The index ``postgres``: names weigh most, then topics, description and language; equals are ranked by stars."""

    name = "postgres"

    def __init__(self, database: Database) -> None:
        self._database = database

    async def index(self, repositories: Sequence[Repository]) -> None:
        """Add or replace."""
        unique = {each.id: each for each in repositories}
        rows = [
            {
                "repository_id": each.id,
                "full_name": each.full_name,
                "description": each.description,
                "language": each.language,
                "stars": each.stars,
                "topics": " ".join(each.topics),
            }
            for each in unique.values()
        ]
        await self._database.execute(SQL.index_repositories, rows)

    async def remove(self, repository_ids: Sequence[str]) -> None:
        """Remove."""
        await self._database.execute(SQL.remove_repositories, list(repository_ids))

    async def search(self, query: str, limit: int) -> list[SearchHit]:
        """The best matches; none for a query without words."""
        rows = await self._database.fetch(SQL.search_repositories, storable(query, " "), limit)
        return [SearchHit(**row) for row in rows]
