"""What came of crawling: the repositories, and the crawls themselves."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

from codelupe import Database, Metric, Table, listing, load_queries

SQL = load_queries("codelupe_sql", "crawler")
_ALL_KINDS = "all"
_COUNTERS = {
    ("requests", "requests"): "Requests that the newest crawl of the source in this mode has made.",
    ("repositories", "seen"): "Repositories that it has seen, once for each slice that holds them.",
    ("new_repositories", "new"): "Those of them with content that was not known before.",
    ("changed_repositories", "changed"): "Those of them whose metadata has moved.",
}


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


async def read_crawls(database: Database) -> dict[str, Any]:
    """Of each source and mode the crawl under way, or else the last one; the accounts; and what was given up."""
    crawls = [_crawl(row) for row in await database.fetch(SQL.crawl_progress, None)]
    waits = [{**row, "kind": row["kind"] or _ALL_KINDS} for row in await database.fetch(SQL.waits)]
    return {
        "crawls": crawls,
        "waits": waits,
        "given_up": [dict(row) for row in await database.fetch(SQL.given_up_slices)],
    }


def _crawl(row: Any) -> dict[str, Any]:
    """With the seconds that it still takes at its pace so far, if there is a total to tell by."""
    crawl = {name: row[name] for name in row.keys() if name not in ("completed_at", "began_at", "seconds")}  # noqa: SIM118
    is_known = row["completed_at"] is None and row["seen"] and row["total"] is not None
    to_go = max(0, row["total"] - row["seen"]) * row["seconds"] / row["seen"] if is_known else None
    return crawl | {
        "under_way": row["completed_at"] is None,
        "began_at": row["began_at"].isoformat(),
        "seconds_to_go": to_go if to_go is None else round(to_go),
    }


def count_crawls(found: dict[str, Any]) -> list[tuple[str, int, str]]:
    """A line of the summary while a crawl is under way."""
    under_way = [each for each in found["crawls"] if each["under_way"]]
    return [("crawls under way", len(under_way), ", ".join(each["source"] for each in under_way))] if under_way else []


def tables_of_crawls(found: dict[str, Any]) -> list[Table]:
    """What is under way, which accounts wait for more than their turn, and which slices were given up."""
    return [table for table in _tables(found) if table.rows]


def _tables(found: dict[str, Any]) -> Iterator[Table]:
    figures = ("slices_done", "slices_to_go", "seen", "total", "new", "changed", "missed", "requests")
    columns = ("source", "mode", *figures)
    yield Table(
        title="crawls under way",
        columns=[*(name.replace("_", " ") for name in columns), "time to go"],
        rows=[
            [*(each[name] for name in columns), _duration(each["seconds_to_go"])]
            for each in found["crawls"]
            if each["under_way"]
        ],
    )
    yield Table(
        title="accounts that wait",
        columns=["source", "account", "requests", "for", "because"],
        rows=[
            [each["source"], each["account"], each["kind"], _duration(each["seconds"]), each["reason"]]
            for each in found["waits"]
            if each["reason"] and each["seconds"]
        ],
    )
    parts = ("source", "mode", "query", "missed", "error")
    yield Table(
        title="slices that were given up",
        columns=parts,
        rows=[[each[name] for name in parts] for each in found["given_up"]],
    )


def _duration(seconds: float | None) -> str | None:
    return None if seconds is None else str(timedelta(seconds=round(seconds)))


def metrics_of_crawls(found: dict[str, Any]) -> list[Metric]:
    """Figures that begin at 0 with each crawl, and how long accounts wait."""
    labelled = [({"source": each["source"], "mode": each["mode"]}, each) for each in found["crawls"]]
    counters = [
        Metric(
            name=name,
            meaning=meaning,
            samples=[(labels, each[figure]) for labels, each in labelled],
            is_counter=True,
        )
        for (name, figure), meaning in _COUNTERS.items()
    ]
    slices = [
        ({**labels, "state": state}, each[f"slices_{state}"])
        for labels, each in labelled
        for state in ("to_go", "done", "failed")
    ]
    waits = [
        ({name: each[name] for name in ("source", "account", "kind")}, each["seconds"] if each["reason"] else 0)
        for each in found["waits"]
    ]
    return [
        *counters,
        Metric(name="slices", meaning="Its slices; those that failed are done, too.", samples=slices),
        Metric(
            name="missed_repositories",
            meaning="Repositories that its slices are said to hold, and that never came.",
            samples=[(labels, each["missed"]) for labels, each in labelled],
        ),
        Metric(
            name="wait_seconds",
            meaning="For how long the account makes no request of this kind since the source limits it, or is away.",
            samples=waits,
        ),
    ]
