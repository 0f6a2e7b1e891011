"""What `codelupe run` shows while it works: live on a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from typing import Any

import anyio
import structlog
from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from codelupe.cli.output import printable
from codelupe.cli.summary import show_summary
from codelupe.host.extensions import Extensions
from codelupe.host.isolation import stdout_to_stderr
from codelupe.observability.progress import Progress, ProgressTracker, Work
from codelupe.postgres.retry import RetryWhileUnavailable
from codelupe.views.flow_order import flow_order
from codelupe.views.pipeline import read_status, read_subscriptions
from codelupe.work.runtime import Runtime

_REFRESH_SECONDS = 0.25
_LINE_SECONDS = 10.0
_LONG_SECONDS = 5.0
"""Work that takes longer is shown with its time."""
_ROOMY, _NARROW = 100, 70
"""Columns from which on there is room for a long bar, and for a short one."""

States = list[dict[str, Any]]
log = structlog.get_logger("codelupe")


def make_view(console: Console, *, summary: Console | None) -> View:
    """The right way to watch on this console; with ``summary`` the end is told there."""
    view = _LiveView if console.is_terminal else _LineView
    return view(console, summary)


class View(ABC):
    """Reads the subscriptions again and again; a subclass shows them."""

    interval: float

    def __init__(self, console: Console, summary: Console | None) -> None:
        self.console = console
        self._summary = summary
        self._began = time.monotonic()

    def stopping(self, *, at_once: bool) -> None:
        """Answer a request to stop while running work still ends."""
        self.console.print("stopping now" if at_once else "stopping; again to stop now", highlight=False)

    async def conclude(self, runtime: Runtime, extensions: Extensions) -> None:
        if self._summary is not None:
            with stdout_to_stderr():  # what a plugin prints is no part of the summary
                status = await read_status(runtime.database, extensions)
            took = time.monotonic() - self._began
            failed = show_summary(
                self._summary, status, extensions.status_sections, runtime.directories, runtime.progress.seconds, took
            )
            for one in failed:
                log.warning("status_section_failed", plugin=one.plugin, section=one.section, error=one.error)

    async def watch(self, runtime: Runtime, extensions: Extensions) -> None:
        order = flow_order(extensions.subscriptions)
        active = set(order)
        attempt = RetryWhileUnavailable("display", quiet=True, pause_seconds=self.interval)
        while True:
            is_away = True
            async with attempt:
                states = await read_subscriptions(runtime.log.database, order)
                is_away = False
                self.show([one for one in states if one["name"] in active], runtime, extensions)
                await anyio.sleep(self.interval)
            if is_away:
                self.show(None, runtime, extensions)

    @abstractmethod
    def show(self, states: States | None, runtime: Runtime, extensions: Extensions) -> None:
        """Show these; None means that the database is away."""


class _LiveView(View):
    """A line for each subscription that has had something, with a bar and what it works on right now."""

    interval = _REFRESH_SECONDS

    async def watch(self, runtime: Runtime, extensions: Extensions) -> None:
        self._width = self.console.width
        with Live(console=self.console, transient=True, refresh_per_second=8, redirect_stderr=True) as live:
            self._live = live
            await super().watch(runtime, extensions)

    def show(self, states: States | None, runtime: Runtime, extensions: Extensions) -> None:
        if self.console.width != self._width:  # terminals break the old lines anew, each in its own way
            self._width = self.console.width
            self.console.clear()
        if states is None:
            self._live.update(Spinner("dots", "the database is away; waiting for it"))
        else:
            self._live.update(_Picture(states, runtime.progress, [job.name for job in extensions.jobs]))


class _Picture:
    """Fits the width that the console has when it is drawn. Counts are never cut; names and bars give way to them."""

    def __init__(self, states: States, progress: ProgressTracker, jobs: Sequence[str]) -> None:
        self._jobs = [(name, work) for name in jobs if (work := progress.of(name))]
        lines = [_Line(state, progress.of(state["name"])) for state in states]
        self._lines = [line for line in lines if line.work or line.total]
        self._idle = [line.name for line in lines if not (line.work or line.total)]

    def __rich_console__(self, _console: Console, options: ConsoleOptions) -> RenderResult:
        width = options.max_width
        bar = 24 if width >= _ROOMY else 10 if width >= _NARROW else 0
        table = Table(box=None, pad_edge=False, show_header=False, expand=True)
        table.add_column(no_wrap=True, width=min(max((len(line.name) for line in self._lines), default=0), width // 3))
        if bar:
            table.add_column(width=bar)
        table.add_column(no_wrap=True, width=max((len(line.counts) for line in self._lines), default=0))
        table.add_column(no_wrap=True, ratio=1)
        for line in self._lines:
            table.add_row(*line.cells(bar))
        yield table
        for name, work in self._jobs:
            yield Text(printable(f"{name}: {_describe(work[0])}"), style="cyan", no_wrap=True, overflow="ellipsis")
        if self._idle:
            names = f"{len(self._idle)} idle: {', '.join(self._idle)}"
            yield Text(names, style="dim", no_wrap=True, overflow="ellipsis")


class _Line:
    """A subscription in the picture."""

    def __init__(self, state: dict[str, Any], work: list[Work]) -> None:
        self.name: str = state["name"]
        self.work = work
        self.total: int = state["waiting"] + state["running"] + state["done"] + state["dead_lettered"]
        self.counts = f"{state['done']:,}/{self.total:,}"
        self._state = state

    def cells(self, bar: int) -> Iterator[RenderableType]:
        yield Text(self.name, style="bold" if self.work else "", overflow="ellipsis")
        if bar:
            done = self._state["done"] + sum(_share(one.progress) for one in self.work)
            yield ProgressBar(total=max(self.total, 1), completed=done, width=bar)
        yield Text(self.counts, justify="right")
        yield Text(_now(self._state, self.work), style="cyan", overflow="ellipsis")


def _share(progress: Progress | None) -> float:
    """From 0 to 1; 0 where it is not known."""
    return min(1.0, progress.done / progress.total) if progress and progress.total else 0.0


def _now(state: dict[str, Any], work: list[Work]) -> str:
    dead_letters = f"{state['dead_lettered']} dead letters  " if state["dead_lettered"] else ""
    if not work:
        return dead_letters
    chosen = max(work, key=lambda one: one.progress is not None)
    others = f" and {len(work) - 1} more" if len(work) > 1 else ""
    return printable(f"{dead_letters}{_describe(chosen)}{others} ({chosen.stream})")


def _describe(work: Work) -> str:
    """For example ``converting the base model, 12 s`` or ``8/24 steps loss=1.94, 40 s, 1:20 to go``."""
    parts = [_steps(work.progress)] if work.progress is not None else []
    if work.elapsed >= _LONG_SECONDS:
        parts.append(_duration(work.elapsed))
    if work.to_go is not None and work.elapsed >= _LONG_SECONDS:
        parts.append(f"{_duration(work.to_go)} to go")
    return ", ".join(parts) or "working"


def _steps(progress: Progress) -> str:
    if progress.activity is not None:
        return progress.activity
    figures = " ".join(f"{name}={_figure(value)}" for name, value in progress.figures.items())
    total = "" if progress.total is None else f"/{progress.total:,.0f}"
    return f"{progress.done:,.0f}{total} {progress.unit} {figures}".rstrip()


def _figure(value: float | str) -> str:
    return value if isinstance(value, str) else f"{value:.4g}"


def _duration(seconds: float) -> str:
    """``12 s``, ``3:20`` or ``1:03:20``."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


class _LineView(View):
    """A line for each subscription that moved, at most every ten seconds."""

    interval = 1.0

    def __init__(self, console: Console, summary: Console | None) -> None:
        super().__init__(console, summary)
        self._last: dict[str, str] = {}
        self._spoke_at: dict[str, float] = {}

    def show(self, states: States | None, runtime: Runtime, extensions: Extensions) -> None:  # noqa: ARG002
        for state in states or []:
            name = state["name"]
            keys = [key for key in ("done", "running", "waiting", "dead_lettered") if state[key]]
            counts = ", ".join(f"{state[key]:,} {key.replace('_', '-')}" for key in keys)
            work = _now({**state, "dead_lettered": 0}, runtime.progress.of(name)) if state["running"] else ""
            line = f"{counts}  {work}".rstrip()
            is_due = time.monotonic() - self._spoke_at.get(name, -_LINE_SECONDS) >= _LINE_SECONDS
            if line and line != self._last.get(name) and (is_due or not state["waiting"] + state["running"]):
                self._last[name], self._spoke_at[name] = line, time.monotonic()
                self.console.print(f"{name}: {line}", highlight=False, soft_wrap=True, markup=False)
