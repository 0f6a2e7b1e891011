"""How many repositories are known, in which state, and why some were turned down."""

from __future__ import annotations

from typing import Any

from codelupe import Database, listing, load_queries

SQL = load_queries("codelupe_sql", "crawler")


async def read_repositories(database: Database) -> dict[str, Any]:
    """Counts by state, and by the rule that turned repositories down."""
    states = {row["state"]: row["n"] for row in await database.fetch(SQL.count_by_state)}
    reasons = {row["rule"]: row["n"] for row in await database.fetch(SQL.count_by_rule)}
    return {"total": sum(states.values()), "by_state": states, "rejected_by": reasons}


def count_repositories(found: dict[str, Any]) -> list[tuple[str, int, str]]:
    """The lines of the summary."""
    return [
        ("repositories", found["total"], listing(found["by_state"])),
        ("  rejected", found["by_state"].get("rejected", 0), listing(found["rejected_by"])),
    ]
