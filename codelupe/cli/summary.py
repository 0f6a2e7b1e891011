"""The table at the end of ``run --until-idle``, also what ``status`` prints."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from rich.console import Console

from codelupe.cli.output import make_table
from codelupe.config.directories import Directories

Rows = list[tuple[Any, ...]]


def show_summary(
    console: Console, status: dict[str, Any], folders: Directories, seconds_of: Mapping[str, float], seconds: float
) -> None:
    """What each subscription did and for how long, what it led to, and where everything lies."""
    show_status(console, status, seconds_of)
    console.print()
    console.print(f"Finished in {timedelta(seconds=round(seconds))}. Where things lie:")
    places = {"repositories": folders.repositories, "models": folders.models, "everything else": folders.state}
    for name, path in places.items():
        console.print(f"  {name:16} {path}", soft_wrap=True, highlight=False)


def show_status(console: Console, status: dict[str, Any], seconds_of: Mapping[str, float] | None = None) -> None:
    """The status as tables, with the time that this run has spent in each subscription's handlers if it is known."""
    columns = ["subscription", "waiting", "running", "done", "dead letters"]
    rows = [tuple(one.values()) for one in status["subscriptions"]]
    if seconds_of is not None:
        jobs = [(job["name"], None, None, None, None) for job in status["jobs"]]
        columns.append("seconds")
        rows = [(*row, round(seconds_of.get(row[0], 0.0), 1)) for row in [*jobs, *rows]]
    console.print(make_table(columns, rows))
    console.print()
    console.print(make_table(["", "count", "of which"], _counts(status)))
    if status["models"]:
        console.print()
        columns = ["model", "state", "batch", "steps", "train", "validation", "held-out current", "candidate"]
        console.print(make_table(columns, _models(status), title="models (losses in nats a token)"))
    if any(one["dead_lettered"] for one in status["subscriptions"]):
        console.print("\nSome events could not be handled: `codelupe dead-letters list` says why.")


def _counts(status: dict[str, Any]) -> Rows:
    repositories, files = status["repositories"], status["files"]
    batched = sum(batch["files"] for batch in status["batches"])
    return [
        ("repositories", repositories["total"], _listing(repositories["by_state"])),
        ("  rejected", repositories["by_state"].get("rejected", 0), _listing(repositories["rejected_by"])),
        ("files", files["seen"], f"{files['stored']:,} stored, {files['rejected']:,} rejected"),
        ("  rejected", files["rejected"], _listing(files["rejected_by"])),
        ("  scored", files["scored"], f"mean {files['mean_score'] or 0:.1f}, {files['good']:,} at 70 or more"),
        ("batches", len(status["batches"]), f"{batched:,} files"),
        ("models", len(status["models"]), _listing(_states(status["models"]))),
    ]


def _states(models: list[dict[str, Any]]) -> dict[str, int]:
    states = [model["state"] for model in models]
    return {state: states.count(state) for state in sorted(set(states))}


def _models(status: dict[str, Any]) -> Rows:
    return [
        (
            model["id"],
            model["state"],
            model["batch"],
            model["steps"],
            *(model["losses"].get(name) for name in ("train", "validation", "current", "candidate")),
        )
        for model in status["models"]
    ]


def _listing(counts: dict[str, int]) -> str:
    return ", ".join(f"{count:,} {name}" for name, count in counts.items())
