"""Full-text search in the database that is there anyway."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from codelupe import Database, SearchDocument, SearchFilter, SearchHit, SearchSort, load_queries
from codelupe_search.cursor import Cursor
from codelupe_search.entry import Conditions, Entry
from codelupe_search.history import replay
from codelupe_search.words import Query, Term, parse, words

SQL = load_queries("codelupe_sql", "search")

_GAP = 1
"""Between the fields and the topics of a document, so that no phrase is found across."""
_LAST_POSITION = 16_383
_FIELDS = "ABCD"
"""A field's label in a document: name, topics, description, language."""


class PostgresIndex:
    """The index ``postgres``: names weigh most, then topics, description and language; all the more with stars."""

    name = "postgres"

    def __init__(self, database: Database) -> None:
        self._database = database

    async def index(self, documents: Sequence[SearchDocument]) -> None:
        """Add or replace."""
        await self._write(documents, repeat=False)

    async def remove(self, versions: Mapping[str, int]) -> None:
        """Empty the rows, which keep the versions."""
        await self._database.execute(SQL.remove_repositories, list(versions), list(versions.values()))

    async def reindex(self, report: Callable[[int, int], None]) -> None:
        """Make every row anew from the log. Searches and writes go on meanwhile, for a row is right at all times."""

        async def rewrite(documents: Sequence[SearchDocument]) -> None:
            await self._write(documents, repeat=True)

        await replay(self._database, rewrite, self.remove, report)

    async def search(
        self,
        query: str,
        limit: int,
        *,
        where: SearchFilter | None = None,
        sort: SearchSort = "relevance",
        after: str | None = None,
    ) -> list[SearchHit]:
        """The best matches; none for a query without words."""
        cursor = None if after is None else Cursor.decode(after, sort)
        if (asked := parse(query)) is None:
            return []
        rows = await self._database.fetch(
            SQL.search_repositories,
            _tsquery(asked),
            *([_phrase(term, label) for term in asked.wanted] for label in _FIELDS),
            *_conditions(Conditions.of(where)),
            sort,
            *((None, None, None) if cursor is None else _place(cursor)),
            limit,
        )
        return [_hit(dict(row), sort) for row in rows]

    async def _write(self, documents: Sequence[SearchDocument], *, repeat: bool) -> None:
        newest: dict[str, Entry] = {}
        for entry in map(Entry.of, documents):
            if (known := newest.get(entry.repository_id)) is None or known.version < entry.version:
                newest[entry.repository_id] = entry
        rows = [{**asdict(entry), "document": _tsvector(entry)} for entry in newest.values()]
        await self._database.execute(SQL.index_repositories, rows, repeat)


def _conditions(asked: Conditions) -> tuple[Any, ...]:
    languages, licences = [*asked.any_keys, None, None][:2]
    return asked.all_keys, languages, licences, asked.min_stars, asked.min_pushed_key


def _place(cursor: Cursor) -> tuple[float, str, str]:
    """Weight, label and id, as the query orders by them."""
    return (
        (0.0, cursor.key, cursor.repository_id)
        if isinstance(cursor.key, str)
        else (cursor.key, "", cursor.repository_id)
    )


def _hit(values: dict[str, Any], sort: SearchSort) -> SearchHit:
    weight, label = values.pop("weight"), values.pop("label")
    cursor = Cursor(sort=sort, key=label if sort == "name" else weight, repository_id=values["repository_id"])
    return SearchHit(**{**values, "topics": tuple(values["topics"])}, cursor=cursor.encode())


def _tsvector(entry: Entry) -> str:
    """The entry's words with their places and fields, as Postgres reads a tsvector."""
    places: dict[str, list[str]] = {}
    for word, position, label in _placed(entry):
        places.setdefault(word, []).append(f"{position}{label}")
    return " ".join(f"'{word}':{','.join(found)}" for word, found in places.items())


def _placed(entry: Entry) -> Iterator[tuple[str, int, str]]:
    texts = [("A", entry.full_name), *(("B", topic) for topic in entry.topics)]
    texts += [("C", entry.description or ""), ("D", entry.language or "")]
    position = 0
    for label, text in texts:
        for word in words(text):
            position += 1
            yield word, min(position, _LAST_POSITION), label
        position += _GAP


def _tsquery(query: Query) -> str:
    """The query as Postgres reads a tsquery."""
    return " | ".join(f"({' & '.join(map(_operand, alternative))})" for alternative in query.alternatives)


def _operand(term: Term) -> str:
    phrase = _phrase(term.words)
    return f"!({phrase})" if term.is_negated else f"({phrase})"


def _phrase(found: Iterable[str], label: str = "") -> str:
    return " <-> ".join(f"'{word}'{f':{label}' if label else ''}" for word in found)
