"""Brings files out of the database into a job's folder, without holding them all in memory."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anyio.to_thread

from codelupe import Database
from codelupe_trainer.samples.files import CodeFile

_AT_A_TIME = 500


async def export_files(database: Database, query: str, *arguments: Any, to: Path) -> int:
    """Write the query's rows, each one JSON text, as lines; returns how many there were."""
    written = 0
    with to.open("w", encoding="utf-8") as file:
        async with database.transaction() as connection:
            cursor = await connection.cursor(query, *arguments)
            while rows := await cursor.fetch(_AT_A_TIME):
                await anyio.to_thread.run_sync(file.writelines, [f"{row[0]}\n" for row in rows])
                written += len(rows)
    return written


def read_files(path: Path) -> Iterator[CodeFile]:
    """What :func:`export_files` wrote."""
    with path.open(encoding="utf-8", newline="\n") as file:
        for line in file:
            yield CodeFile.model_validate_json(line)
