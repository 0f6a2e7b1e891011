"""Runs a job for a command: in a process of its own, shown while it lasts, ended with the command."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from codelupe import CodelupeError, RetryLater, remove_tree
from codelupe.commands import Session, err, printable
from codelupe_trainer.jobs import Activity, AnyJob, Done, OnReport, Step
from codelupe_trainer.models.known import record_of
from codelupe_trainer.process import CannotSucceed, ChildFailed, run_child
from codelupe_trainer.settings import TrainerSettings


class JobFailed(CodelupeError):
    """The process that did a command's work could not do it."""

    code = "job-failed"


def trained_as(session: Session, model: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """What a job needs to know of how the model was trained: its settings, and its base.

    Where the folder has no record of it, today's settings stand.
    """
    now: TrainerSettings = session.settings.plugins.trainer  # type: ignore[attr-defined] # each plugin's own
    record = record_of(folder)
    if record is None:
        return {"settings": now.model_copy(update={"base": model["base"]}), "trained_on": None}
    own = {"threads": now.threads, "stop_timeout": now.stop_timeout}
    return {"settings": record.settings.model_copy(update=own), "trained_on": record.base}


@asynccontextmanager
async def job_folder(session: Session, name: str) -> AsyncIterator[Path]:
    """A folder for one job, gone at the end."""
    folder = session.directories.work / f"{name}-{secrets.token_hex(4)}"
    folder.mkdir(parents=True)
    try:
        yield folder
    finally:
        remove_tree(folder)


async def run_shown(job: AnyJob, *, is_silent: bool) -> Done:
    """Run the job; cancelled, it ends the process, which takes back what it has begun to write.

    Raises:
        JobFailed: with the cause.
    """
    with _shown(is_silent=is_silent) as report:
        try:
            return await run_child(job, report)
        except (CannotSucceed, ChildFailed, RetryLater) as error:
            cause, _, log = str(error).partition("\n")
            raise JobFailed(printable(cause), hint=printable(log) or None) from error


@contextmanager
def _shown(*, is_silent: bool) -> Iterator[OnReport]:
    """A bar on a terminal, else a line for each activity, on standard error."""
    if is_silent:
        yield lambda _: None
        return
    if not err.is_terminal:
        yield _say_activity
        return
    with Progress(TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn(), console=err) as progress:
        bar = progress.add_task("starting", total=None)

        def report(it: Activity | Step) -> None:
            match it:
                case Activity():
                    progress.update(bar, description=it.what, total=None)
                case Step():
                    progress.update(bar, total=it.total, completed=it.done)

        yield report


def _say_activity(report: Activity | Step) -> None:
    if isinstance(report, Activity):
        err.print(report.what, highlight=False, markup=False)
