"""Finds the near duplicates of new files among all stored ones.

A file's bands are published before its near duplicates are looked up. So of two files that come at the same moment,
in different processes, at least the later one finds the other, and no lock is held meanwhile.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import asyncpg

from codelupe import HandlerContext, WorkerLost, load_queries
from codelupe_scorers.shingles import THRESHOLD, similarities

SQL = load_queries("codelupe_sql", "scorers")
_GROUP_CHARACTERS = 8 * 1024 * 1024
"""Contents that are read and compared at a time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NewFile:
    """A file whose near duplicates are wanted; ``bands`` is empty if it cannot have any."""

    id: int
    content: str
    bands: list[int]


@dataclass(frozen=True, slots=True, order=True)
class Pair:
    """Two near duplicates, and the Jaccard index of their shingles; the file has the higher id."""

    file_id: int
    other_id: int
    jaccard: float


async def find_near_duplicates(files: Mapping[int, NewFile], context: HandlerContext) -> list[Pair]:
    """The pairs between these files, by id, and those stored before, and among themselves."""
    bands = [band for file in files.values() for band in file.bands]
    owners = [file.id for file in files.values() for _ in file.bands]
    await context.database.execute(SQL.publish_bands, bands, owners, list(files))
    found: set[Pair] = set()
    for group in _groups(await context.database.fetch(SQL.find_candidates, bands, owners)):
        found |= await _compare(files, group, context)
    return sorted(found)


def _groups(rows: list[asyncpg.Record]) -> Iterator[dict[int, list[int]]]:
    """The candidates of each file, in groups whose contents together stay below a few megabytes."""
    group: defaultdict[int, list[int]] = defaultdict(list)
    size = 0
    for row in rows:
        if group and size + row["characters"] > _GROUP_CHARACTERS:
            yield group
            group, size = defaultdict(list), 0
        group[row["file_id"]].append(row["candidate"])
        size += row["characters"]
    if group:
        yield group


async def _compare(files: Mapping[int, NewFile], group: dict[int, list[int]], context: HandlerContext) -> set[Pair]:
    wanted = sorted({candidate for candidates in group.values() for candidate in candidates})
    contents = {row["id"]: row["content"] for row in await context.database.fetch(SQL.read_contents, wanted)}
    candidates = {id_: [other for other in others if other in contents] for id_, others in group.items()}
    texts = [(files[id_].content, [contents[other] for other in others]) for id_, others in candidates.items()]
    pairs: set[Pair] = set()
    for (id_, others), indices in zip(candidates.items(), await context.executor.map(similarities, texts), strict=True):
        if isinstance(indices, WorkerLost):
            context.log.warning("comparison_lost", file=id_, reason=indices.reason)
            continue
        pairs |= {
            Pair(max(id_, other), min(id_, other), index)
            for other, index in zip(others, indices, strict=True)
            if index >= THRESHOLD
        }
    return pairs
