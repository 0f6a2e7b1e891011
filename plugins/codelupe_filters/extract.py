"""Turns a clone into rows of ``processed_files``.

The files are judged in chunks by worker processes, which send back rows. These wait on disk for the one transaction
at the end: memory holds one chunk, and the transaction lasts no longer than the writing.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from datetime import timedelta
from pathlib import Path

import anyio
import anyio.to_thread
import asyncpg

from codelupe import Connection, HandlerContext, Reject, RetryLater, Spool, WorkerLost, load_queries
from codelupe_events import FilesExtracted, RepoCloned
from codelupe_filters.clone import find_clone, head_commit
from codelupe_filters.judge import Judge, judge_file
from codelupe_filters.licences import Licences, find_licences, stated_licence
from codelupe_filters.redaction import MaxRedacted, compile_rules
from codelupe_filters.refusals import VERSION, Rejection
from codelupe_filters.settings import FiltersSettings
from codelupe_filters.verdicts import COLUMNS, Verdict
from codelupe_filters.walk import Found, Listing, walk
from codelupe_git.clones import in_use

SQL = load_queries("codelupe_sql", "filters")
_CHUNK_FILES = 1000
_CHUNK_BYTES = 16 * 1024 * 1024
_MOVING = timedelta(seconds=1)


class ExtractFiles:
    """Handles :class:`RepoCloned` by the file rules of all plugins."""

    def __init__(self, settings: FiltersSettings) -> None:
        self._settings = settings
        self._compiling = anyio.Lock()

    async def __call__(self, event: RepoCloned, context: HandlerContext) -> None:
        """Judge and store the clone's files, unless the clone has moved on to another commit.

        What was stored of an earlier commit and is not there any more is retired.
        """
        repository = await context.database.fetchrow(SQL.read_repository, event.repository_id)
        if repository is None:
            raise Reject(f"the repository {event.repository_id} is not known")
        if await context.database.fetchval(SQL.was_forgotten, event.repository_id):
            return
        hints = (repository["path"], event.path)
        root = await anyio.to_thread.run_sync(
            find_clone, context.directories.repositories, event.repository_id, repository["full_name"], hints
        )
        with in_use(root) as is_there:
            if not is_there:
                raise RetryLater(f"the clone {root} is being moved or removed", after=_MOVING, counts=False)
            await self._extract(event, root, repository, context)

    async def _extract(
        self, event: RepoCloned, root: Path, repository: asyncpg.Record, context: HandlerContext
    ) -> None:
        started = time.monotonic()
        if await _is_superseded(root, event, context):
            return
        listing = await context.executor.run(walk, bytes(root), self._settings.max_files)
        judge = await self._make_judge(root, listing, repository, context)
        rule_set = await context.database.fetchval(SQL.keep_rule_set, judge.rule_set())
        async with self._compiling:  # once, not in every worker
            await context.executor.run(compile_rules, judge.secrets_cache)
        with Spool(context.directories.work) as rows:
            await _judge(listing, judge, rows, context)
            if await _is_superseded(root, event, context):
                return
            async with context.transaction() as connection:
                if await connection.fetchval(SQL.was_forgotten, event.repository_id):
                    return
                await _store(connection, rows, (event.repository_id, event.commit, rule_set))
                context.emit(await _count(connection, event, time.monotonic() - started))

    async def _make_judge(
        self, root: Path, listing: Listing, repository: asyncpg.Record, context: HandlerContext
    ) -> Judge:
        return Judge(
            root=bytes(root),
            max_file_bytes=self._settings.max_file_bytes,
            licences=await _licences(root, listing, repository["licence"], context),
            rules=tuple(context.file_rules),
            max_redacted=MaxRedacted(self._settings.max_redacted_share),
            redaction_key=repository["redaction_key"],
            secrets_cache=str(context.directories.work / "secret-rules"),
        )


async def _licences(root: Path, listing: Listing, metadata: str | None, context: HandlerContext) -> Licences:
    stated = stated_licence(metadata)
    if stated is not None:
        return {b"": stated}
    return await context.executor.run(find_licences, bytes(root), [found.path for found in listing.files])


async def _judge(listing: Listing, judge: Judge, rows: Spool, context: HandlerContext) -> None:
    """Write a row for each file, in chunks."""
    await rows.add([verdict.as_row() for verdict in listing.refused])
    done = 0
    for chunk in _chunks(listing.files):
        context.progress(done, len(listing.files), "files")
        outcomes = await context.executor.map(judge_file, chunk, judge)
        await rows.add(map(_row, chunk, outcomes))
        done += len(chunk)
    context.progress(done, len(listing.files), "files")


def _row(found: Found, outcome: bytes | WorkerLost) -> bytes:
    if isinstance(outcome, WorkerLost):
        rejection = Rejection(rule="worker-limit", version=VERSION, detail=outcome.reason)
        return Verdict(path=found.path, size_bytes=found.size, rejection=rejection).as_row()
    return outcome


async def _store(connection: Connection, rows: Spool, key: tuple[str, str, int]) -> None:
    await connection.execute(SQL.create_incoming_files)
    await rows.copy_into(connection, "incoming_files", COLUMNS)
    await connection.execute(SQL.store_first_copies, *key)
    await connection.execute(SQL.lock_stored_files, *key[:2])
    await connection.execute(SQL.carry_over, *key)
    await connection.execute(SQL.exchange_copies, *key)
    await connection.execute(SQL.store_refused_files, *key)
    await connection.execute(SQL.leave_to_copies, *key[:2])
    await connection.execute(SQL.retire_vanished, *key[:2])
    await connection.execute(SQL.delete_superseded, *key[:2])
    await connection.execute(SQL.finish_extraction, *key[:2])


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


def _chunks(files: Iterable[Found]) -> Iterator[Sequence[Found]]:
    """Files in runs that together stay below a few megabytes, unless one alone is larger."""
    chunk: list[Found] = []
    size = 0
    for found in files:
        if chunk and (size + found.size > _CHUNK_BYTES or len(chunk) == _CHUNK_FILES):
            yield chunk
            chunk, size = [], 0
        chunk.append(found)
        size += found.size
    if chunk:
        yield chunk
