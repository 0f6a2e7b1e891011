"""Writes the curated data set: shard by shard from one snapshot, so that a killed export can go on."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import anyio
import anyio.to_thread
import asyncpg
import msgspec

import codelupe
from codelupe import Connection, Database, load_queries, open_lock, write_file
from codelupe_dataset.card import read_facts, render_card
from codelupe_dataset.manifest import (
    ExportError,
    Manifest,
    Options,
    Shard,
    Snapshot,
    read_manifest,
    write_manifest,
)
from codelupe_dataset.shards import SHARDS, Record, require_library

SQL = load_queries("codelupe_sql", "export")
_PAGE = 64
"""Files read at a time: of at most 1 MiB each, which bounds what they take in memory."""

T = TypeVar("T")
Report = Callable[[Manifest, int], None]
"""Told after each page: the manifest, and how many files are written by now."""


async def export(database: Database, folder: Path, options: Options, report: Report) -> Manifest:
    """Write the data set into the folder, or what an earlier export of the same has left to do.

    Raises:
        ExportError: the folder holds something else, the data has changed since an earlier export began there, or the
            disk will not take it.
    """
    require_library(options.format)
    await _on_disk(folder, partial(folder.mkdir, parents=True, exist_ok=True))
    with _held(folder):
        async with _snapshot_of(database) as connection:
            manifest = await _begin_or_go_on(connection, folder, options)
            report(manifest, manifest.files)
            while manifest.files < manifest.snapshot.files:
                manifest.shards.append(await _write_shard(connection, folder, manifest, report))
                await _on_disk(folder, write_manifest, folder, manifest)
            facts = await read_facts(connection, options.selection)
        await _on_disk(folder, write_file, folder / "README.md", render_card(manifest, facts).encode())
        manifest.complete = True
        await _on_disk(folder, write_manifest, folder, manifest)
    return manifest


@asynccontextmanager
async def _snapshot_of(database: Database) -> AsyncIterator[Connection]:
    """A transaction that sees the database as it was when it began, whatever others commit meanwhile."""
    async with database.statement() as connection, connection.transaction(isolation="repeatable_read", readonly=True):
        yield connection


async def _begin_or_go_on(connection: Connection, folder: Path, options: Options) -> Manifest:
    row = await connection.fetchrow(SQL.snapshot, *options.selection.as_arguments())
    assert row is not None
    snapshot = Snapshot(**dict(row))
    manifest = await _on_disk(folder, read_manifest, folder)
    if manifest is not None:
        await _on_disk(folder, _require_same, folder, manifest, options, snapshot)
        return manifest
    begun_at = datetime.now(UTC)
    manifest = Manifest(codelupe=codelupe.__version__, begun_at=begun_at, options=options, snapshot=snapshot, shards=[])
    await _on_disk(folder, write_manifest, folder, manifest)
    return manifest


def _require_same(folder: Path, manifest: Manifest, options: Options, snapshot: Snapshot) -> None:
    hint = "Name another folder for this export, or delete that one."
    if manifest.options != options:
        before, now = (msgspec.json.encode(each).decode() for each in (manifest.options, options))
        raise ExportError(f"{folder} holds an export of something else: {before}, not {now}", hint=hint)
    if manifest.snapshot != snapshot:
        raise ExportError(
            f"the files have changed since the export in {folder} began: {manifest.snapshot.files:,} then, "
            f"{snapshot.files:,} now, or others, or with other scores",
            hint=hint,
        )
    for shard in manifest.shards:
        path = folder / shard.name
        if not path.is_file() or path.stat().st_size != shard.bytes:
            raise ExportError(f"{path} is not as it was written", hint=hint)


async def _write_shard(connection: Connection, folder: Path, manifest: Manifest, report: Report) -> Shard:
    options, last, written = manifest.options, manifest.last_id, 0
    name = f"part-{len(manifest.shards):05}.{options.format}"
    shard = await _on_disk(folder, SHARDS[options.format], folder / name)
    try:
        while written < options.shard_files:
            at_most = min(_PAGE, options.shard_files - written)
            rows = await connection.fetch(SQL.page, *options.selection.as_arguments(), last, at_most)
            if not rows:
                break
            await _on_disk(folder, shard.write, [_record(row) for row in rows])
            last, written = rows[-1]["id"], written + len(rows)
            report(manifest, manifest.files + written)
        size = await _on_disk(folder, shard.complete)
    finally:
        with anyio.CancelScope(shield=True):
            await _on_disk(folder, shard.discard)
    return Shard(name=name, files=written, bytes=size, last_id=last)


def _record(row: asyncpg.Record) -> Record:
    record: dict[str, Any] = dict(row)
    scores = record["scores"] or {}
    record["scores"] = [{"dimension": name, **score} for name, score in sorted(scores.items())]
    return record


async def _on_disk(folder: Path, function: Callable[..., T], *arguments: Any) -> T:
    """Call it in a thread; whatever the file system has against it becomes one kind of error."""
    try:
        return await anyio.to_thread.run_sync(function, *arguments)
    except OSError as error:
        raise ExportError(
            f"{folder} cannot be written: {error.strerror or error}",
            hint="Make room or give write access there, then give the same command again; it goes on.",
        ) from error


@contextmanager
def _held(folder: Path) -> Iterator[None]:
    """Hold the folder against other exports; the kernel frees it however the process ends."""
    with open_lock(folder / ".lock") as lock:
        if not lock.try_acquire():
            raise ExportError(f"another export is writing to {folder}", hint="Wait for it.")
        yield
