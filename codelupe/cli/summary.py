"""The tables at the end of ``run --until-idle``, also what ``status`` prints."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any

from rich.console import Console

from codelupe.cli.output import make_table, plain, printable
from codelupe.config.directories import Directories
from codelupe.contracts.boundary import ContributionFailed
from codelupe.host.status_sections import StatusSection, Table
from codelupe.views.pipeline import FailedSection


def show_summary(
    console: Console,
    status: dict[str, Any],
    sections: Sequence[StatusSection],
    folders: Directories,
    seconds_of: Mapping[str, float],
    seconds: float,
) -> list[FailedSection]:
    """What each subscription did and for how long, what it led to, and where everything lies.

    Returns the sections that could not be shown.
    """
    failed = show_status(console, status, sections, seconds_of)
    console.print()
    console.print(f"Finished in {timedelta(seconds=round(seconds))}. Where things lie:")
    places = {"repositories": folders.repositories, "models": folders.models, "everything else": folders.state}
    for name, path in places.items():
        console.print(f"  {name:16} {path}", soft_wrap=True, highlight=False)
    return failed


def show_status(
    console: Console,
    status: dict[str, Any],
    sections: Sequence[StatusSection],
    seconds_of: Mapping[str, float] | None = None,
) -> list[FailedSection]:
    """The status as tables, with the time that this run has spent in each subscription's handlers if it is known.

    Returns the sections that could not be shown, each of which a line tells of.
    """
    columns = ["subscription", "waiting", "running", "done", "dead letters"]
    rows = [tuple(one.values()) for one in status["subscriptions"]]
    if seconds_of is not None:
        jobs = [(job["name"], None, None, None, None) for job in status["jobs"]]
        columns.append("seconds")
        rows = [(*row, round(seconds_of.get(row[0], 0.0), 1)) for row in [*jobs, *rows]]
    console.print(make_table(columns, rows))
    counts, tables, failed = _ask(sections, status)
    if counts:
        console.print()
        console.print(make_table(["", "count", "of which"], counts))
    for table in tables:
        console.print()
        console.print(make_table([plain(column) for column in table.columns], table.rows, title=plain(table.title)))
    for one in failed:
        console.print(f"\nNot shown: {printable(one.error)}", markup=False, highlight=False, soft_wrap=True)
    for pause in status["paused"]:
        console.print(f"\nPaused: the {pause['kind']} {pause['name']}: {pause['why']}.", markup=False, highlight=False)
        console.print(f"  `codelupe plugins resume {pause['name']}` lets it go on.", markup=False, highlight=False)
    if any(one["dead_lettered"] for one in status["subscriptions"]):
        console.print("\nSome events could not be handled: `codelupe dead-letters list` says why.")
    return failed


def _ask(
    sections: Sequence[StatusSection], status: Mapping[str, Any]
) -> tuple[list[tuple[str, int, str]], list[Table], list[FailedSection]]:
    """The lines and the tables that the sections make of their data, and those that failed at it or before."""
    lines: list[tuple[str, int, str]] = []
    tables: list[Table] = []
    failed: list[FailedSection] = []
    for section in sections:
        data = status[section.name]
        if isinstance(data, FailedSection):
            failed.append(data)
            continue
        try:
            lines += section.counts(data)
            tables += section.tables(data) if section.tables is not None else ()
        except ContributionFailed as failure:
            failed.append(FailedSection.of(failure))
    return lines, tables, failed
