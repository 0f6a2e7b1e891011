"""Rows that wait on disk for the one transaction that copies them into a table."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Sequence
from pathlib import Path
from tempfile import TemporaryFile
from types import TracebackType
from typing import Self

import anyio
import anyio.to_thread

from codelupe.postgres.sessions import Connection

_PIECE_BYTES = 1024 * 1024


def encode_row(values: Iterable[object]) -> bytes:
    """A row in Postgres' text format for COPY: None as NULL, bytes as UTF-8 text, everything else by ``str``."""
    return b"\t".join(map(_field, values)) + b"\n"


class Spool:
    """Rows, as :func:`encode_row` makes them, in a file without a name in the folder; it goes with the process."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._file = TemporaryFile(dir=folder)  # noqa: SIM115 - closed by __exit__

    async def add(self, rows: Iterable[bytes]) -> None:
        """Write rows, in a thread.

        Raises:
            OSError: the disk is full.
        """
        await anyio.to_thread.run_sync(self._file.writelines, rows)

    async def copy_into(self, connection: Connection, table: str, columns: Sequence[str] | None = None) -> None:
        """Copy all rows into the table; ``columns`` are all of its own unless given."""
        await connection.copy_to_table(table, source=self._pieces(), columns=columns, format="text")

    async def _pieces(self) -> AsyncIterator[bytes]:
        await anyio.to_thread.run_sync(self._file.seek, 0)
        while piece := await anyio.to_thread.run_sync(self._file.read, _PIECE_BYTES):
            yield piece

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._file.close()


def _field(value: object) -> bytes:
    if value is None:
        return rb"\N"
    text = value if isinstance(value, bytes) else str(value).encode()
    text = text.replace(b"\\", rb"\\")
    return text.replace(b"\n", rb"\n").replace(b"\t", rb"\t").replace(b"\r", rb"\r")
