"""Which files are meant."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import msgspec

from codelupe import Database, load_queries

SQL = load_queries("codelupe_sql", "files")
_PAGE = 500


class Selection(msgspec.Struct, frozen=True, kw_only=True):
    """Those files that fit all that is given; without anything, all of them, the refused ones too."""

    repository: str | None = None
    """Its id or its full name."""
    language: str | None = None
    licence: str | None = None
    """An SPDX expression, or ``unknown``."""
    rejected_by: str | None = None
    min_score: float | None = None
    max_score: float | None = None

    def as_arguments(self) -> tuple[Any, ...]:
        """As the function ``matching_files`` in the database takes them."""
        return self.repository, self.language, self.licence, self.rejected_by, self.min_score, self.max_score


async def list_files(
    database: Database, selection: Selection, limit: int | None = None
) -> AsyncIterator[dict[str, Any]]:
    """The files by id, page by page, at most ``limit``."""
    last, left = 0, limit
    while left is None or left > 0:
        at_most = _PAGE if left is None else min(left, _PAGE)
        rows = await database.fetch(SQL.list_files, *selection.as_arguments(), last, at_most)
        for row in rows:
            yield dict(row)
        if len(rows) < at_most:
            return
        last = rows[-1]["id"]
        left = None if left is None else left - len(rows)
