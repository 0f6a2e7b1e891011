"""A partition as a Parquet file: written under a hidden name, verified, and only then given its own."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import anyio
import anyio.to_thread
import asyncpg

from codelupe.errors import CodelupeError
from codelupe.log.partitions import SQL, Partition
from codelupe.postgres import Connection
from codelupe.storage.atomic import AtomicFile, sync_folder

T = TypeVar("T")
_PAGE_ROWS = 500
"""Few, so that turning them into columns never keeps the event loop waiting."""
_GROUP_BYTES = 32_000_000
"""Events are collected, uncompressed, up to this size; then they are written as one row group."""
_FIRST_ID, _LAST_ID = b"codelupe.first_id", b"codelupe.last_id"


class ArchiveError(CodelupeError):
    """A partition could not be archived; all of its events are still in the database."""

    code = "archive"


Report = Callable[[Partition, int], None]
"""Told while a partition is written: how many of its events are."""


@dataclass(frozen=True, kw_only=True)
class Contents:
    """What a partition or its file holds; the ids tell one log's events from another's."""

    events: int
    first_position: int | None
    last_position: int | None
    first_id: str | None
    last_id: str | None


async def contents_of(connection: Connection, partition: Partition) -> Contents:
    row = await connection.fetchrow(SQL.contents, partition.first, partition.last)
    assert row is not None
    return Contents(**dict(row))


async def archive(
    connection: Connection, partition: Partition, contents: Contents, folder: Path, report: Report
) -> Path:
    """The verified file of a partition, written unless it is there already."""
    path = folder / f"{partition.name}.parquet"
    if await _on_disk(path, path.exists):
        await _on_disk(path, _verify, path, contents)
    else:
        await _write(connection, partition, contents, path, report)
    await _on_disk(path, sync_folder, folder)
    return path


async def _write(connection: Connection, partition: Partition, contents: Contents, path: Path, report: Report) -> None:
    written = 0
    file = await _on_disk(path, _PartitionFile, path, contents)
    try:
        async for page in _pages(connection, partition):
            await _on_disk(path, file.write, page)
            written += len(page)
            report(partition, written)
        await _on_disk(path, file.complete)
    finally:
        with anyio.CancelScope(shield=True):
            await _on_disk(path, file.discard)


async def _pages(connection: Connection, partition: Partition) -> AsyncIterator[list[asyncpg.Record]]:
    """Its events in order. They never change, so no transaction needs to span the pages."""
    after = partition.first - 1
    while page := await connection.fetch(SQL.read_page, after, partition.last, _PAGE_ROWS):
        yield page
        after = page[-1]["position"]


async def _on_disk(path: Path, function: Callable[..., T], *arguments: Any) -> T:
    """Call it in a thread; whatever the file system has against it becomes one kind of error."""
    try:
        return await anyio.to_thread.run_sync(function, *arguments)
    except OSError as error:
        raise ArchiveError(
            f"the archive {path} cannot be used: {error.strerror or error}",
            hint="Make room or give write access there, or set retention.archive_dir; no event was dropped.",
        ) from error


class _PartitionFile:
    """A partition's Parquet file under way.

    Until it is complete its name is a hidden one, which readers of the folder pass over.
    """

    def __init__(self, path: Path, contents: Contents) -> None:
        parquet = _parquet()
        self._contents, self._schema = contents, _schema(contents)
        self._waiting: list[Any] = []
        self._waiting_bytes = 0
        self._file = AtomicFile(path)
        self._writer = parquet.ParquetWriter(
            self._file.file,
            self._schema,
            compression="zstd",
            use_dictionary=["stream", "type"],
            write_page_checksum=True,
        )

    def write(self, page: Sequence[asyncpg.Record]) -> None:
        import pyarrow as pa

        self._waiting.append(pa.table(list(zip(*page, strict=True)), schema=self._schema))
        self._waiting_bytes += self._waiting[-1].nbytes
        if self._waiting_bytes >= _GROUP_BYTES:
            self._write_group()

    def complete(self) -> None:
        """Verify it and give it its name."""
        self._write_group()
        self._writer.close()
        self._file.file.flush()
        _verify(self._file.temporary, self._contents)
        self._file.commit()

    def _write_group(self) -> None:
        import pyarrow as pa

        if self._waiting:
            self._writer.write_table(pa.concat_tables(self._waiting))
            self._waiting, self._waiting_bytes = [], 0

    def discard(self) -> None:
        """Close it, and delete what is not complete."""
        with suppress(OSError):  # what it still had to write
            self._writer.close()
        self._file.discard()


def _parquet() -> Any:
    try:
        from pyarrow import parquet
    except ImportError as error:
        raise ArchiveError(
            "archiving events needs pyarrow", hint="Run `pip install 'codelupe[archive]'`; no event was dropped."
        ) from error
    return parquet


def _schema(contents: Contents) -> Any:
    import pyarrow as pa

    text = pa.string()
    types = {
        "position": pa.int64(),
        "stream": text,
        "type": text,
        "version": pa.int32(),
        "id": text,
        "data": text,
        "metadata": text,
        "recorded_at": pa.timestamp("us", tz="UTC"),
    }
    fields = [pa.field(name, kind, nullable=False) for name, kind in types.items()]
    return pa.schema(fields, metadata={_FIRST_ID: contents.first_id, _LAST_ID: contents.last_id})


def _verify(path: Path, contents: Contents) -> None:
    """Read back what the file says of itself.

    Raises:
        ArchiveError: it is damaged, or holds something else.
    """
    try:
        found = _contents_of_file(path)
    except (ValueError, KeyError, AttributeError):
        found = None
    if found != contents:
        raise ArchiveError(
            f"{path} does not hold the {contents.events:,} events of this log that it should",
            hint="Move it away, or give this log an archive_dir of its own; no event was dropped.",
        )


def _contents_of_file(path: Path) -> Contents:
    found = _parquet().read_metadata(path)
    ids = found.metadata or {}
    positions = [found.row_group(number).column(0).statistics for number in range(found.num_row_groups)]
    return Contents(
        events=found.num_rows,
        first_position=min(group.min for group in positions),
        last_position=max(group.max for group in positions),
        first_id=ids[_FIRST_ID].decode(),
        last_id=ids[_LAST_ID].decode(),
    )
