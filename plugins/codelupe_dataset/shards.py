"""A shard of an export: written under a hidden name, and given its own when it is whole and on disk."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec

from codelupe import AtomicFile
from codelupe_dataset.manifest import ExportError

_GROUP_CHARACTERS = 32_000_000
"""Files are collected up to this size of content; then they are written as one row group."""
Record = dict[str, Any]
"""One file: content and where it comes from."""


class Shard(ABC):
    """One file of an export under way."""

    def __init__(self, path: Path) -> None:
        self._shard = AtomicFile(path)
        self._file = self._shard.file

    @abstractmethod
    def write(self, records: Sequence[Record]) -> None:
        """Add these."""

    def complete(self) -> int:
        """Give it its name; returns how many bytes it has."""
        self._finish()
        self._shard.commit()
        return self._shard.path.stat().st_size

    def discard(self) -> None:
        """Close it and delete what is not complete."""
        self._shard.discard()

    @abstractmethod
    def _finish(self) -> None:
        """Write what is still held back."""


class JsonLinesShard(Shard):
    """A JSON document a line."""

    suffix = "jsonl"

    def write(self, records: Sequence[Record]) -> None:
        self._file.writelines(msgspec.json.encode(record) + b"\n" for record in records)

    def _finish(self) -> None:
        pass


class ParquetShard(Shard):
    """Columns, compressed with zstd, in row groups.

    Raises:
        ExportError: pyarrow is not installed.
    """

    suffix = "parquet"

    def __init__(self, path: Path) -> None:
        parquet = _parquet()
        super().__init__(path)
        self._schema = _schema()
        self._writer = parquet.ParquetWriter(
            self._file, self._schema, compression="zstd", use_dictionary=["repository", "licence", "language"]
        )
        self._waiting: list[Record] = []
        self._characters = 0

    def write(self, records: Sequence[Record]) -> None:
        self._waiting += records
        self._characters += sum(len(record["content"]) for record in records)
        if self._characters >= _GROUP_CHARACTERS:
            self._write_group()

    def discard(self) -> None:
        with suppress(OSError):
            self._writer.close()
        super().discard()

    def _finish(self) -> None:
        self._write_group()
        self._writer.close()

    def _write_group(self) -> None:
        import pyarrow as pa

        if self._waiting:
            self._writer.write_table(pa.Table.from_pylist(self._waiting, schema=self._schema))
            self._waiting, self._characters = [], 0


SHARDS: dict[str, type[JsonLinesShard | ParquetShard]] = {"jsonl": JsonLinesShard, "parquet": ParquetShard}
"""The kinds of shard by the name of their format."""


def require_library(format_name: str) -> None:
    """Make sure that shards of the format can be written here.

    Raises:
        ExportError: they cannot.
    """
    if format_name == ParquetShard.suffix:
        _parquet()


def _parquet() -> Any:
    try:
        from pyarrow import parquet
    except ImportError as error:
        raise ExportError(
            "Parquet needs pyarrow", hint="Run `pip install 'codelupe[archive]'`, or choose --format jsonl."
        ) from error
    return parquet


def _schema() -> Any:
    import pyarrow as pa

    text = pa.string()
    score = pa.struct(
        {
            "dimension": text,
            "value": pa.float64(),
            "weight": pa.float64(),
            "version": pa.int32(),
            "reasons": pa.list_(text),
        }
    )
    return pa.schema(
        {
            "id": pa.int64(),
            "repository_id": text,
            "repository": text,
            "url": text,
            "commit": text,
            "path": text,
            "language": text,
            "licence": text,
            "labels": pa.list_(text),
            "characters": pa.int32(),
            "score": pa.float64(),
            "scores": pa.list_(score),
            "cluster": pa.int64(),
            "content_hash": text,
            "content": text,
        }
    )
