"""Scores a repository's stored files in chunks, in worker processes, and finds their near duplicates.

What came of each chunk waits on disk for the one transaction at the end: memory holds one chunk, and the transaction
lasts no longer than the writing.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import asyncpg

from codelupe import Connection, HandlerContext, Scorer, SourceFile, Spool, WorkerLost, encode_row, load_queries
from codelupe_events import FilesExtracted, FilesScored
from codelupe_scorers.assessment import Assessment, assess
from codelupe_scorers.near_duplicates import NewFile, Pair, find_near_duplicates
from codelupe_scorers.shingles import VERSION

SQL = load_queries("codelupe_sql", "scorers")
_CHUNK_FILES = 200
_CHUNK_CHARACTERS = 8 * 1024 * 1024


async def score(event: FilesExtracted, context: HandlerContext) -> None:
    """Handle :class:`FilesExtracted` by the scorers of all plugins.

    Files that have their scores by the present scorers already, each in its version and weight, are left alone: a
    replay after a change scores stored contents again without another clone.
    """
    started = time.monotonic()
    with Spool(context.directories.work) as scores, Spool(context.directories.work) as pairs:
        results = _Results(scores=scores, pairs=pairs)
        await _score_all(event, context, results)
        async with context.transaction() as connection:
            await _store(connection, event, results)
            row = await connection.fetchrow(SQL.mean_score, event.repository_id, event.commit)
            assert row is not None
            context.emit(
                FilesScored(
                    repository_id=event.repository_id,
                    commit=event.commit,
                    scored=row["files"],
                    mean_score=round(row["mean"], 2),
                    seconds=round(time.monotonic() - started, 3),
                )
            )


@dataclass(kw_only=True)
class _Results:
    """Rows for the tables ``incoming_…``."""

    scores: Spool
    pairs: Spool
    files: int = 0

    async def add(self, ids: Sequence[int], outcomes: Iterable[Assessment | WorkerLost], pairs: Iterable[Pair]) -> None:
        await self.scores.add(encode_row(_score_row(*each)) for each in zip(ids, outcomes, strict=True))
        await self.pairs.add(encode_row((pair.file_id, pair.other_id, pair.jaccard)) for pair in pairs)
        self.files += len(ids)


def _score_row(file_id: int, outcome: Assessment | WorkerLost) -> tuple[object, ...]:
    if isinstance(outcome, WorkerLost):
        return file_id, None, None, outcome.reason
    return file_id, outcome.quality, outcome.scores, None


async def _score_all(event: FilesExtracted, context: HandlerContext, results: _Results) -> None:
    scorers = [scorer for scorer in context.scorers if scorer.weight > 0]
    wanted = (event.repository_id, event.commit, _marks(scorers), VERSION)
    total = await context.database.fetchval(SQL.count_unscored, *wanted)
    async for rows in _unscored(context, wanted):
        context.progress(results.files, total, "files")
        items = [(_as_file(row), row["is_new"]) for row in rows]
        outcomes = await context.executor.map(assess, items, scorers)
        pairs = await find_near_duplicates(_new_files(rows, outcomes), context)
        await results.add([row["id"] for row in rows], outcomes, pairs)
    context.progress(results.files, total, "files")


async def _unscored(context: HandlerContext, wanted: tuple[object, ...]) -> AsyncIterator[list[asyncpg.Record]]:
    last = 0
    while rows := await context.database.fetch(SQL.read_unscored, *wanted, last, _CHUNK_FILES, _CHUNK_CHARACTERS):
        yield rows
        last = rows[-1]["id"]


def _marks(scorers: Sequence[Scorer]) -> dict[str, dict[str, Any]]:
    """What a file's scores contain if it was scored by just these scorers."""
    return {scorer.name: {"version": scorer.version, "weight": scorer.weight} for scorer in scorers}


def _as_file(row: asyncpg.Record) -> SourceFile:
    return SourceFile(path=row["file_path"], content=row["content"], language=row["language"], licence=row["licence"])


def _new_files(rows: Sequence[asyncpg.Record], outcomes: Iterable[Assessment | WorkerLost]) -> dict[int, NewFile]:
    return {
        row["id"]: NewFile(id=row["id"], content=row["content"], bands=outcome.bands)
        for row, outcome in zip(rows, outcomes, strict=True)
        if row["is_new"] and isinstance(outcome, Assessment)
    }


async def _store(connection: Connection, event: FilesExtracted, results: _Results) -> None:
    await connection.execute(SQL.create_incoming_scores)
    await connection.execute(SQL.create_incoming_pairs)
    await results.scores.copy_into(connection, "incoming_scores")
    await results.pairs.copy_into(connection, "incoming_pairs")
    await connection.execute(SQL.lock_clusters)
    await connection.execute(SQL.store_scores, VERSION)
    await connection.execute(SQL.reject_lost)
    await connection.execute(SQL.store_pairs)
    await connection.execute(SQL.open_clusters)
    await connection.execute(SQL.settle_clusters, event.repository_id, event.commit)
    await connection.execute(SQL.finish_scoring, event.repository_id, event.commit)
