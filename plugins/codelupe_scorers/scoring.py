"""Scores a repository's stored files in chunks, in worker processes."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field

import asyncpg
import msgspec

from codelupe import HandlerContext, Scorer, SourceFile, load_queries
from codelupe_events import FilesExtracted, FilesScored
from codelupe_scorers.quality import score_files

SQL = load_queries("codelupe_sql", "scorers")
_CHUNK_FILES = 100


@dataclass(kw_only=True)
class _Results:
    """The columns of what is written back."""

    ids: list[int] = field(default_factory=list)
    values: list[float | None] = field(default_factory=list)
    dimensions: list[str] = field(default_factory=list)


async def score(event: FilesExtracted, context: HandlerContext) -> None:
    """Handle :class:`FilesExtracted` by the scorers of all plugins.

    Files that have their scores by the present scorers already, each in its version and weight, are left alone: a
    replay after a change scores stored contents again without another clone.
    """
    started = time.monotonic()
    results = await _score_all(event, context)
    async with context.transaction() as connection:
        await connection.execute(SQL.store_scores, results.ids, results.values, results.dimensions)
        await connection.execute(SQL.finish_scoring, event.repository_id, event.commit)
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


async def _score_all(event: FilesExtracted, context: HandlerContext) -> _Results:
    scorers = [scorer for scorer in context.offers.scorers if scorer.weight > 0]
    marks = _marks(scorers)
    total = await context.database.fetchval(SQL.count_unscored, event.repository_id, event.commit, marks)
    results = _Results()
    async for rows in _unscored(event, context, marks):
        context.progress(len(results.ids), total, "files")
        qualities = await context.executor.run(score_files, [_as_file(row) for row in rows], scorers)
        results.ids += [row["id"] for row in rows]
        results.values += [quality.value for quality in qualities]
        results.dimensions += [msgspec.json.encode(quality.dimensions).decode() for quality in qualities]
    context.progress(len(results.ids), total, "files")
    return results


async def _unscored(event: FilesExtracted, context: HandlerContext, marks: str) -> AsyncIterator[list[asyncpg.Record]]:
    last = 0
    while rows := await context.database.fetch(
        SQL.read_unscored, event.repository_id, event.commit, marks, last, _CHUNK_FILES
    ):
        yield rows
        last = rows[-1]["id"]


def _marks(scorers: Sequence[Scorer]) -> str:
    """What a file's scores contain if it was scored by just these scorers."""
    return msgspec.json.encode(
        {scorer.name: {"version": scorer.version, "weight": scorer.weight} for scorer in scorers}
    ).decode()


def _as_file(row: asyncpg.Record) -> SourceFile:
    return SourceFile(path=row["file_path"], content=row["content"], language=row["language"], licence=row["licence"])
