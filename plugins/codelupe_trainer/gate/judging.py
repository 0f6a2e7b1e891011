"""The handler that decides whether a new model replaces the one in use."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import anyio
import anyio.to_thread

from codelupe import HandlerContext, Reject, load_queries
from codelupe_events import ModelPromoted, ModelRejected, TrainingCompleted
from codelupe_trainer import model_folder
from codelupe_trainer.decision import objections
from codelupe_trainer.exports import export_files
from codelupe_trainer.jobs import FILES, Compared, CompareJob
from codelupe_trainer.process import CannotSucceed, run_child, shown_in
from codelupe_trainer.records import Comparison
from codelupe_trainer.settings import TrainerSettings

SQL = load_queries("codelupe_sql", "trainer")


@dataclass(frozen=True)
class _InUse:
    name: str
    adapter: Path | None


class Gate:
    """Compares on repositories that neither model was trained on. ``device`` is held while a child computes."""

    def __init__(self, settings: TrainerSettings, device: anyio.Lock) -> None:
        self._settings = settings
        self._device = device

    async def judge(self, event: TrainingCompleted, context: HandlerContext) -> None:
        """Promote the model or reject it.

        Raises:
            ChildFailed: the comparison broke off.
            Reject: it can never be made, for instance because a model's folder is gone.
        """
        row = await context.database.fetchrow(SQL.model_to_judge, event.model_id)
        if row is None:
            raise Reject(f"the model {event.model_id} is not in the table of models")
        if row["state"] in {"promoted", "rejected"}:
            context.log.info("already_judged", model=event.model_id)
            return
        settings = self._settings.model_copy(update={"base": row["base"]})
        candidate = context.directories.models / event.path
        in_use = await _model_in_use(row["base"], event.model_id, context)
        for folder in filter(None, (candidate, in_use.adapter)):
            if not folder.is_dir():
                raise Reject(f"{folder} is gone, so {event.model_id} cannot be compared with {in_use.name}")
        work = context.directories.work / f"{event.model_id}-gate"
        compared = await self._compare(settings, work, in_use.adapter, candidate, context)
        reasons = objections(compared, settings.gate)
        comparison = Comparison(current=in_use.name, measured=compared, reasons=reasons)
        await anyio.to_thread.run_sync(model_folder.add_comparison, candidate, comparison)
        await _record(event, comparison, context)
        await anyio.to_thread.run_sync(partial(shutil.rmtree, work, ignore_errors=True))

    async def _compare(
        self, settings: TrainerSettings, work: Path, current: Path | None, candidate: Path, context: HandlerContext
    ) -> Compared:
        await anyio.Path(work).mkdir(parents=True, exist_ok=True)
        files = await export_files(
            context.database,
            SQL.held_out_files_as_json,
            settings.min_score,
            settings.min_characters,
            settings.max_characters,
            settings.held_out_share,
            settings.gate.max_files,
            to=work / FILES,
        )
        if files == 0:
            return Compared()
        job = CompareJob(
            settings=settings,
            folder=work,
            bases=context.directories.models / "base",
            current=current,
            candidate=candidate,
        )
        async with self._device:
            try:
                result = await run_child(job, shown_in(context, "files"))
            except CannotSucceed as error:
                raise Reject(str(error)) from error
        assert isinstance(result, Compared)
        return result


async def _model_in_use(base: str, candidate: str, context: HandlerContext) -> _InUse:
    row = await context.database.fetchrow(SQL.model_in_use, base, candidate)
    return _InUse("base", None) if row is None else _InUse(row["id"], context.directories.models / row["path"])


async def _record(event: TrainingCompleted, comparison: Comparison, context: HandlerContext) -> None:
    metrics = comparison.measured.metrics
    losses = {name: values["loss"] for name, values in metrics.items()}
    reasons = comparison.reasons
    state = "promoted" if comparison.promoted else "rejected"
    async with context.transaction() as connection:
        await connection.execute(
            SQL.decide,
            event.model_id,
            state,
            losses,
            metrics,
            reasons,
        )
        if comparison.promoted:
            context.emit(ModelPromoted(batch_id=event.batch_id, model_id=event.model_id, metrics=metrics))
        else:
            context.emit(
                ModelRejected(batch_id=event.batch_id, model_id=event.model_id, metrics=metrics, reasons=reasons)
            )
    context.log.info("model_judged", state=state, model=event.model_id, compared_with=comparison.current, **losses)
