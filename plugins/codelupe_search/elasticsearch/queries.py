"""A search as Elasticsearch is asked it. It ranks as Postgres does, so that both show the same."""

from __future__ import annotations

from typing import Any

from codelupe import SearchSort
from codelupe_search.cursor import Cursor
from codelupe_search.entry import Conditions
from codelupe_search.words import Query, Term

_WEIGHTS = {"full_name": 10, "topics": 4, "description": 2, "language": 1}
_ORDERS: dict[SearchSort, dict[str, str]] = {
    "relevance": {"_score": "desc"},
    "stars": {"stars": "desc"},
    "pushed": {"pushed_key": "desc"},
    "name": {"name_key": "asc"},
}


def search_body(query: Query, limit: int, where: Conditions, sort: SearchSort, after: Cursor | None) -> dict[str, Any]:
    """The parameters of the search."""
    body: dict[str, Any] = {
        "query": _ranked(query, where),
        "sort": [_ORDERS[sort], {"repository_id": "asc"}],
        "size": limit,
        "track_total_hits": False,
        "track_scores": True,
        "allow_partial_search_results": False,
    }
    if after is not None:
        body["search_after"] = [after.key, after.repository_id]
    return body


def _ranked(query: Query, where: Conditions) -> dict[str, Any]:
    """A wanted term counts by the best field that has it; the sum, times the logarithm of 2 plus the stars."""
    alternatives = [_all_of(alternative) for alternative in query.alternatives]
    matches = {"bool": {"should": alternatives, "minimum_should_match": 1}}
    wanted = [_weighed(words) for words in query.wanted]
    return {
        "function_score": {
            "query": {"bool": {"filter": [matches, *_conditions(where)], "should": wanted}},
            "functions": [{"field_value_factor": {"field": "stars", "modifier": "log2p"}}],
            "boost_mode": "multiply",
        }
    }


def _all_of(alternative: tuple[Term, ...]) -> dict[str, Any]:
    return {
        "bool": {
            "filter": [_anywhere(term.words) for term in alternative if not term.is_negated],
            "must_not": [_anywhere(term.words) for term in alternative if term.is_negated],
        }
    }


def _anywhere(words: tuple[str, ...]) -> dict[str, Any]:
    return {"bool": {"should": [_phrase(field, words) for field in _WEIGHTS], "minimum_should_match": 1}}


def _weighed(words: tuple[str, ...]) -> dict[str, Any]:
    scores = [
        {"constant_score": {"filter": _phrase(field, words), "boost": boost}} for field, boost in _WEIGHTS.items()
    ]
    return {"dis_max": {"queries": scores}}


def _phrase(field: str, words: tuple[str, ...]) -> dict[str, Any]:
    return {"match_phrase": {field: " ".join(words)}}


def _conditions(where: Conditions) -> list[dict[str, Any]]:
    return [
        {"term": {"removed": False}},
        {"range": {"stars": {"gte": where.min_stars}}},
        {"range": {"pushed_key": {"gte": where.min_pushed_key}}},
        *({"term": {"keys": key}} for key in where.all_keys),
        *({"terms": {"keys": keys}} for keys in where.any_keys),
    ]
