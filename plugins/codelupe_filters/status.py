"""How many files were looked at, and what became of them."""

from __future__ import annotations

from typing import Any

from codelupe import Database, listing, load_queries

SQL = load_queries("codelupe_sql", "filters")


async def read_files(database: Database) -> dict[str, Any]:
    """Counts of files seen, stored, rejected (also by rule), scored and good (70 or more), and the mean score."""
    row = await database.fetchrow(SQL.summarise_files)
    rejections = {row["rule"]: row["n"] for row in await database.fetch(SQL.count_rejections)}
    return {**dict(row or {}), "rejected_by": rejections}


def count_files(files: dict[str, Any]) -> list[tuple[str, int, str]]:
    """The lines of the summary."""
    return [
        ("files", files["seen"], f"{files['stored']:,} stored, {files['rejected']:,} rejected"),
        ("  rejected", files["rejected"], listing(files["rejected_by"])),
        ("  scored", files["scored"], f"mean {files['mean_score'] or 0:.1f}, {files['good']:,} at 70 or more"),
    ]
