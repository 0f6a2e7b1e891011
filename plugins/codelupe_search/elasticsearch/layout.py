"""How the index is laid out: numbered indexes, made from a template, behind an alias.

While a new one is being built it has an alias of its own, under which it is written to beside the one in use.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from codelupe_search.elasticsearch.connection import ElasticsearchSetupWrong
from codelupe_search.settings import ElasticsearchSettings
from codelupe_search.words import LONGEST_WORD

if TYPE_CHECKING:
    from elasticsearch import AsyncElasticsearch

MAPPING_VERSION = 1
"""To be raised with every change of what follows; `codelupe search reindex` then brings it about."""
_TEXT = {"type": "text", "analyzer": "words"}
_KEYWORD = {"type": "keyword", "ignore_above": 1000}
_PROPERTIES: dict[str, Any] = {
    "repository_id": {"type": "keyword"},
    "removed": {"type": "boolean"},
    "full_name": _TEXT,
    "url": {"type": "keyword", "index": False, "doc_values": False},
    "description": _TEXT,
    "language": _TEXT,
    "licence": _KEYWORD,
    "stars": {"type": "integer"},
    "forks": {"type": "integer"},
    "topics": _TEXT,
    "pushed_at": {"type": "date"},
    "name_key": _KEYWORD,
    "pushed_key": {"type": "long"},
    "keys": _KEYWORD,
}
_ANALYSIS = {
    "tokenizer": {"words": {"type": "pattern", "pattern": r"[^\p{L}\p{N}]+"}},
    "filter": {"cut": {"type": "truncate", "length": LONGEST_WORD}},
    "analyzer": {"words": {"type": "custom", "tokenizer": "words", "filter": ["lowercase", "cut"]}},
}


@dataclass(frozen=True, kw_only=True)
class Layout:
    """What lies behind the aliases now."""

    live: str | None
    building: str | None
    targets: tuple[str, ...]
    """The aliases to write to."""


def building_alias(settings: ElasticsearchSettings) -> str:
    return f"{settings.alias}-building"


async def find_layout(client: AsyncElasticsearch, settings: ElasticsearchSettings, *, checked: bool = True) -> Layout:
    """Look at the aliases and, if ``checked``, at the mappings behind them.

    Raises:
        ElasticsearchSetupWrong: an index is in an alias's place or is laid out otherwise.
    """
    aliases = (settings.alias, building_alias(settings))
    answer = await client.indices.get(index=",".join(aliases), ignore_unavailable=True)
    found: dict[str, str] = {}
    for name, index in answer.body.items():
        if name in aliases:
            raise ElasticsearchSetupWrong(
                f"{name} is an index, where an alias belongs",
                hint=f"Delete it, or choose another plugins.search.elasticsearch.alias than {settings.alias}.",
            )
        for alias in index["aliases"].keys() & set(aliases):
            if alias in found:
                raise ElasticsearchSetupWrong(
                    f"the alias {alias} leads to {found[alias]} and to {name}", hint="Remove it from one of the two."
                )
            found[alias] = name
    for name in found.values() if checked else ():
        _require_mapping(name, answer.body[name]["mappings"])
    return Layout(
        live=found.get(aliases[0]),
        building=found.get(aliases[1]),
        targets=tuple(one for one in aliases if one in found),
    )


async def put_template(client: AsyncElasticsearch, settings: ElasticsearchSettings) -> None:
    """Say what an index that is made from now on looks like. None is made by writing to it."""
    await client.indices.put_index_template(
        name=settings.alias,
        index_patterns=[f"{settings.alias}-v*"],
        priority=500,
        allow_auto_create=False,
        template={
            "settings": {
                "number_of_shards": settings.shards,
                "number_of_replicas": settings.replicas,
                "analysis": _ANALYSIS,
            },
            "mappings": {"dynamic": "strict", "_meta": {"version": MAPPING_VERSION}, "properties": _PROPERTIES},
        },
    )


def number_of(name: str, settings: ElasticsearchSettings) -> int | None:
    """The number in the name of an index of ours; None for any other."""
    match = re.fullmatch(rf"{re.escape(settings.alias)}-v(\d{{6}})", name)
    return int(match[1]) if match else None


def name_of(number: int, settings: ElasticsearchSettings) -> str:
    return f"{settings.alias}-v{number:06}"


def _require_mapping(name: str, mapping: dict[str, Any]) -> None:
    version = mapping.get("_meta", {}).get("version")
    fields = {field: each.get("type") for field, each in mapping.get("properties", {}).items()}
    wanted = {field: each["type"] for field, each in _PROPERTIES.items()}
    if version == MAPPING_VERSION and fields == wanted:
        return
    different = sorted(field for field in fields.keys() | wanted.keys() if fields.get(field) != wanted.get(field))
    found = f"has the mapping {version}, not {MAPPING_VERSION}" if version != MAPPING_VERSION else "has another mapping"
    raise ElasticsearchSetupWrong(
        f"the index {name} {found}" + (f": it differs in {', '.join(different[:10])}" if different else ""),
        hint="`codelupe search reindex` builds one as this version writes it.",
    )
