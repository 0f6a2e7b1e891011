"""What `codelupe run` shows while it works: live on a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from typing import Any

import anyio
import structlog
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from codelupe.cli.output import printable
from codelupe.cli.summary import show_summary
from codelupe.errors import DatabaseUnavailable
from codelupe.host.extensions import Extensions
from codelupe.observability.progress import Progress
from codelupe.views.flow_order import flow_order
from codelupe.views.pipeline import read_status, read_subscriptions
from codelupe.work.runtime import Runtime

_REFRESH_SECONDS = 0.25
_LINE_SECONDS = 10.0

log = structlog.get_logger("codelupe")

States = list[dict[str, Any]]


def make_view(console: Console, *, summary: Console | None) -> View:
    """The right way to watch on this console; with ``summary`` the end is told there."""
    view = _LiveView if console.is_terminal else _LineView
    return view(console, summary)


class View(ABC):
    """Reads the stages again and again; a subclass shows them."""

    interval: float

    def __init__(self, console: Console, summary: Console | None) -> None:
        self.console = console
        self._summary = summary
        self._began = time.monotonic()

    async def conclude(self, runtime: Runtime, extensions: Extensions) -> None:
        if self._summary is not None:
            status = await read_status(runtime.log.database, extensions)
            took = time.monotonic() - self._began
            show_summary(
                self._summary, status, extensions.status_sections, runtime.directories, runtime.progress.seconds, took
            )

    async def watch(self, runtime: Runtime, extensions: Extensions) -> None:
        order = flow_order(extensions.subscriptions)
        active = set(order)
        while True:
            stages: States | None = None
            try:
                stages = [one for one in await read_subscriptions(runtime.log.database, order) if one["name"] in active]
            except DatabaseUnavailable:
                log.debug("database_away")
            self.show(stages, runtime, extensions)
            await anyio.sleep(self.interval)

    @abstractmethod
    def show(self, stages: States | None, runtime: Runtime, extensions: Extensions) -> None:
        """Show these; None means that the database is away."""


class _LiveView(View):
    """One line a stage, with a bar and what it works on right now."""

    interval = _REFRESH_SECONDS

    async def watch(self, runtime: Runtime, extensions: Extensions) -> None:
        with Live(console=self.console, transient=True, refresh_per_second=8, redirect_stderr=True) as live:
            self._live = live
            await super().watch(runtime, extensions)

    def show(self, stages: States | None, runtime: Runtime, extensions: Extensions) -> None:
        if stages is None:
            self._live.update(Spinner("dots", "the database is away; waiting for it"))
        else:
            self._live.update(_picture(stages, runtime, extensions))


def _picture(stages: States, runtime: Runtime, extensions: Extensions) -> RenderableType:
    table = Table(box=None, pad_edge=False, show_header=False)
    for width in (26, 24, 12):
        table.add_column(width=width)
    table.add_column(no_wrap=True, ratio=1)
    for stage in stages:
        work = runtime.progress.of(stage["name"])
        total = stage["waiting"] + stage["running"] + stage["done"] + stage["dead_lettered"]
        done = stage["done"] + sum(_share(progress) for _, progress in work)
        table.add_row(
            Text(stage["name"], style="bold" if work else "dim" if not total else ""),
            ProgressBar(total=max(total, 1), completed=done, width=24),
            f"{stage['done']:,}/{total:,}",
            Text(_now(stage, work), style="cyan"),
        )
    jobs = [_job_line(job.name, runtime) for job in extensions.jobs if runtime.progress.of(job.name)]
    return Group(table, *jobs)


def _share(progress: Progress | None) -> float:
    """From 0 to 1; 0 where nobody knows."""
    return min(1.0, progress.done / progress.total) if progress and progress.total else 0.0


def _now(stage: dict[str, Any], work: list[tuple[str, Progress | None]]) -> str:
    dead_letters = f"{stage['dead_lettered']} dead letters  " if stage["dead_lettered"] else ""
    if not work:
        return dead_letters
    stream, progress = max(work, key=lambda one: one[1] is not None)
    others = f" and {len(work) - 1} more" if len(work) > 1 else ""
    return printable(f"{dead_letters}{stream} {_describe(progress)}".rstrip() + others)


def _job_line(name: str, runtime: Runtime) -> Text:
    [(_, progress), *_] = runtime.progress.of(name)
    return Text(printable(f"{name}: {_describe(progress)}"), style="cyan")


def _describe(progress: Progress | None) -> str:
    if progress is None:
        return ""
    figures = " ".join(f"{name}={_figure(value)}" for name, value in progress.figures.items())
    total = "" if progress.total is None else f"/{progress.total:,.0f}"
    return f"{progress.done:,.0f}{total} {progress.unit} {figures}".rstrip()


def _figure(value: float | str) -> str:
    return value if isinstance(value, str) else f"{value:.4g}"


class _LineView(View):
    """A line for each stage that moved, at most every ten seconds."""

    interval = 1.0

    def __init__(self, console: Console, summary: Console | None) -> None:
        super().__init__(console, summary)
        self._last: dict[str, str] = {}
        self._spoke_at: dict[str, float] = {}

    def show(self, stages: States | None, runtime: Runtime, extensions: Extensions) -> None:  # noqa: ARG002
        for stage in stages or []:
            name = stage["name"]
            keys = [key for key in ("done", "running", "waiting", "dead_lettered") if stage[key]]
            counts = ", ".join(f"{stage[key]:,} {key.replace('_', '-')}" for key in keys)
            work = _now({**stage, "dead_lettered": 0}, runtime.progress.of(name)) if stage["running"] else ""
            line = f"{counts}  {work}".rstrip()
            is_due = time.monotonic() - self._spoke_at.get(name, -_LINE_SECONDS) >= _LINE_SECONDS
            if line and line != self._last.get(name) and (is_due or not stage["waiting"] + stage["running"]):
                self._last[name], self._spoke_at[name] = line, time.monotonic()
                self.console.print(f"{name}: {line}", highlight=False, soft_wrap=True, markup=False)
