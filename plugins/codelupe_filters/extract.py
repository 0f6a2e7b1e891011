"""Turns a clone into rows of ``processed_files``.

The files are judged in chunks by worker processes, which send back verdicts without contents. The contents are read
once more when the rows are written, so that memory holds one chunk of them at a time.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from datetime import timedelta
from pathlib import Path

import anyio.to_thread

from codelupe import Connection, HandlerContext, Reject, RetryLater, load_queries
from codelupe_events import FilesExtracted, RepoCloned
from codelupe_filters.clone import head_commit, locate
from codelupe_filters.contents import Refusal, content_hash, normalise, read_bytes
from codelupe_filters.judge import Judge, judge_files
from codelupe_filters.licences import Licences, find_licences
from codelupe_filters.settings import FiltersSettings
from codelupe_filters.verdicts import Verdict, readable_path
from codelupe_filters.walk import walk

SQL = load_queries("codelupe_sql", "filters")
_CHUNK_FILES = 200
_CHUNK_BYTES = 8 * 1024 * 1024
_COLUMNS = (
    "file_path",
    "language",
    "licence",
    "content",
    "content_hash",
    "size_bytes",
    "characters",
    "labels",
    "rejected_by",
    "rejected_detail",
)


class ExtractFiles:
    """Handles :class:`RepoCloned` by the file rules of all plugins."""

    def __init__(self, settings: FiltersSettings) -> None:
        self._settings = settings

    async def __call__(self, event: RepoCloned, context: HandlerContext) -> None:
        """Judge and store the clone's files, unless the clone has moved on to another commit."""
        started = time.monotonic()
        repository = await context.database.fetchrow(SQL.read_licence, event.repository_id)
        if repository is None:
            raise Reject(f"the repository {event.repository_id} is not known")
        root = locate(context.directories.repositories, event.path)
        if await _is_superseded(root, event, context):
            return
        verdicts = await self._judge(root, repository["licence"], context)
        if await _is_superseded(root, event, context):
            return
        async with context.transaction() as connection:
            await self._store(connection, root, event, verdicts)
            context.emit(await _count(connection, event, time.monotonic() - started))

    async def _judge(self, root: Path, licence: str | None, context: HandlerContext) -> list[Verdict]:
        executor, settings, place = context.executor, self._settings, bytes(root)
        listing = await executor.run(walk, place, settings.max_files)
        licences: Licences = {b"": licence} if licence else await executor.run(find_licences, place, listing.files)
        judge = Judge(
            root=place,
            languages=frozenset(language.casefold() for language in settings.languages),
            max_file_bytes=settings.max_file_bytes,
            rules=tuple(context.offers.file_rules),
            licences=licences,
        )
        verdicts = listing.refused
        for start in range(0, len(listing.files), _CHUNK_FILES):
            context.progress(start, len(listing.files), "files")
            verdicts += await executor.run(judge_files, judge, listing.files[start : start + _CHUNK_FILES])
        context.progress(len(listing.files), len(listing.files), "files")
        return verdicts

    async def _store(self, connection: Connection, root: Path, event: RepoCloned, verdicts: Sequence[Verdict]) -> None:
        await connection.execute(SQL.create_incoming_files)
        for chunk in _chunks(verdicts):
            records = await anyio.to_thread.run_sync(_records, bytes(root), chunk, self._settings.max_file_bytes)
            await connection.copy_records_to_table("incoming_files", records=records, columns=_COLUMNS)
        await connection.execute(SQL.store_first_copies, event.repository_id, event.commit)
        await connection.execute(SQL.store_refused_files, event.repository_id, event.commit)
        await connection.execute(SQL.finish_extraction, event.repository_id, event.commit)


async def _is_superseded(root: Path, event: RepoCloned, context: HandlerContext) -> bool:
    head = await anyio.to_thread.run_sync(head_commit, root)
    if head != event.commit:
        context.log.info("clone_superseded", commit=event.commit, head=head)
    return head != event.commit


async def _count(connection: Connection, event: RepoCloned, seconds: float) -> FilesExtracted:
    rows = await connection.fetch(SQL.count_files, event.repository_id, event.commit)
    counts = {row["rejected_by"]: row["files"] for row in rows}
    return FilesExtracted(
        repository_id=event.repository_id,
        commit=event.commit,
        stored=counts.pop(None, 0),
        rejected=counts,
        seconds=round(seconds, 3),
    )


def _chunks(verdicts: Iterable[Verdict]) -> Iterator[list[Verdict]]:
    """Verdicts in runs whose contents together stay below a few megabytes."""
    chunk: list[Verdict] = []
    size = 0
    for verdict in verdicts:
        if chunk and (size + verdict.size_bytes > _CHUNK_BYTES or len(chunk) == _CHUNK_FILES):
            yield chunk
            chunk, size = [], 0
        chunk.append(verdict)
        size += verdict.size_bytes if verdict.is_kept else 0
    if chunk:
        yield chunk


def _records(root: bytes, verdicts: Iterable[Verdict], max_bytes: int) -> list[tuple[object, ...]]:
    return [
        (
            readable_path(verdict.path),
            verdict.language,
            verdict.licence,
            _content(root, verdict, max_bytes) if verdict.is_kept else None,
            verdict.content_hash,
            verdict.size_bytes,
            verdict.characters,
            verdict.labels,
            verdict.rejected_by,
            verdict.rejected_detail,
        )
        for verdict in verdicts
    ]


def _content(root: bytes, verdict: Verdict, max_bytes: int) -> str:
    """The content that was judged.

    Raises:
        RetryLater: it is there no more; the next attempt sees what has become of the clone.
    """
    try:
        data = normalise(read_bytes(root, verdict.path, max_bytes))
    except Refusal:
        data = b""
    if content_hash(data) != verdict.content_hash:
        raise RetryLater(f"{readable_path(verdict.path)} changed while it was read", after=timedelta(seconds=5))
    return data.decode()
