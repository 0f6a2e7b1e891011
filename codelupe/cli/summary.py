"""The tables at the end of ``run --until-idle``, also what ``status`` prints."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any

from rich.console import Console

from codelupe.cli.output import make_table
from codelupe.config.directories import Directories
from codelupe.host.status_sections import StatusSection


def show_summary(
    console: Console,
    status: dict[str, Any],
    sections: Sequence[StatusSection],
    folders: Directories,
    seconds_of: Mapping[str, float],
    seconds: float,
) -> None:
    """What each subscription did and for how long, what it led to, and where everything lies."""
    show_status(console, status, sections, seconds_of)
    console.print()
    console.print(f"Finished in {timedelta(seconds=round(seconds))}. Where things lie:")
    places = {"repositories": folders.repositories, "models": folders.models, "everything else": folders.state}
    for name, path in places.items():
        console.print(f"  {name:16} {path}", soft_wrap=True, highlight=False)


def show_status(
    console: Console,
    status: dict[str, Any],
    sections: Sequence[StatusSection],
    seconds_of: Mapping[str, float] | None = None,
) -> None:
    """The status as tables, with the time that this run has spent in each subscription's handlers if it is known."""
    columns = ["subscription", "waiting", "running", "done", "dead letters"]
    rows = [tuple(one.values()) for one in status["subscriptions"]]
    if seconds_of is not None:
        jobs = [(job["name"], None, None, None, None) for job in status["jobs"]]
        columns.append("seconds")
        rows = [(*row, round(seconds_of.get(row[0], 0.0), 1)) for row in [*jobs, *rows]]
    console.print(make_table(columns, rows))
    counts = [line for section in sections for line in section.counts(status[section.name])]
    if counts:
        console.print()
        console.print(make_table(["", "count", "of which"], counts))
    for section in sections:
        for table in section.tables(status[section.name]) if section.tables else ():
            console.print()
            console.print(make_table(list(table.columns), list(table.rows), title=table.title))
    for one in status["paused"]:
        console.print(f"\nPaused: the {one['kind']} {one['name']}: {one['why']}.", markup=False, highlight=False)
        console.print(f"  `codelupe plugins resume {one['name']}` lets it go on.", markup=False, highlight=False)
    if any(one["dead_lettered"] for one in status["subscriptions"]):
        console.print("\nSome events could not be handled: `codelupe dead-letters list` says why.")
