"""What became of the scores when files were scored anew by other scorers."""

from __future__ import annotations

from typing import Any

from codelupe import CodelupeError, Database
from codelupe_dataset.selection import SQL, Selection

TOTAL = "total"
"""In the place of a dimension's name: the weighted mean of them all."""


async def compare_scores(
    database: Database, selection: Selection, *, dimension: str | None, threshold: float, largest: int
) -> dict[str, Any]:
    """Means before and after, how many files came to the threshold or fell below it, and the largest changes.

    Only files that were scored anew count, each with its scores and those just before them.

    Raises:
        CodelupeError: no such dimension was scored.
    """
    arguments = selection.as_arguments()
    rows = [dict(row) for row in await database.fetch(SQL.score_changes, *arguments, threshold)]
    known = [row["dimension"] for row in rows]
    if rows and dimension is not None and dimension not in known:
        raise CodelupeError(f"there is no dimension {dimension!r}", hint=f"There are: {', '.join(known)}.")
    changes = await database.fetch(SQL.largest_changes, *arguments, dimension or TOTAL, largest)
    return {
        "threshold": threshold,
        "dimensions": [row for row in rows if dimension in (None, row["dimension"])],
        "largest": {"dimension": dimension or TOTAL, "files": [dict(row) for row in changes]},
    }
