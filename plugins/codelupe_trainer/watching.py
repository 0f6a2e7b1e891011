"""Tells how a training is doing while it goes on: on the display, and by the database to status and Prometheus."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

import anyio
import asyncpg

from codelupe import CodelupeError, Directories, HandlerContext, load_queries
from codelupe_trainer.gpus import GpuWatch
from codelupe_trainer.jobs import Activity, Done, Step, TrainJob
from codelupe_trainer.process import run_child, shown_in

_SQL = load_queries("codelupe_sql", "trainer")
_EVERY_SECONDS = 1.0


def tracked_folder(directories: Directories, model_id: str) -> Path:
    """Where TensorBoard and W&B write of a model's training; it stays when that is over."""
    return directories.state / "runs" / model_id


async def run_watched(job: TrainJob, model_id: str, context: HandlerContext) -> Done:
    """Run the training in a child, and record once a second how it is doing.

    Raises:
        CannotSucceed, ChildFailed, RetryLater: as :func:`run_child` does.
    """
    with GpuWatch(context.log) as gpus:
        progress = _Progress(model_id, context, gpus)
        try:
            async with anyio.create_task_group() as beside:
                beside.start_soon(progress.record_on)
                done = await run_child(job, progress.note)
                beside.cancel_scope.cancel()
        except BaseExceptionGroup as failures:
            raise failures.exceptions[0] from failures.exceptions[0].__cause__
    return done


class _Progress:
    """The newest that a child has told."""

    def __init__(self, model_id: str, context: HandlerContext, gpus: GpuWatch) -> None:
        self._model_id = model_id
        self._context = context
        self._gpus = gpus
        self._show = shown_in(context, "steps")
        self._newest: dict[str, Any] = {"activity": None, "step": 0, "steps": None, "figures": {}}

    def note(self, report: Activity | Step) -> None:
        self._show(report)
        told: dict[str, Any]
        if isinstance(report, Step):
            told = {"activity": None, "step": report.done, "steps": report.total, "figures": report.figures}
        else:
            told = {"activity": report.what}
            if report.is_warning:
                self._context.log.warning("training_warning", model=self._model_id, warning=report.what)
        self._newest |= told

    async def record_on(self) -> None:
        """Again and again; a database that is away is no matter of the training."""
        while True:
            progress = self._newest | {"gpus": [asdict(gpu) for gpu in self._gpus.newest()]}
            with suppress(CodelupeError, asyncpg.PostgresError):
                await self._context.database.execute(_SQL.record_progress, self._model_id, progress)
            await anyio.sleep(_EVERY_SECONDS)
