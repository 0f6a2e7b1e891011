"""The handlers that decide whether a new model replaces the one in use."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import anyio
import anyio.to_thread
import asyncpg

from codelupe import Connection, HandlerContext, Reject, load_queries
from codelupe_events import EvaluationSetFrozen, ModelPromoted, ModelRejected, Reason, TrainingCompleted
from codelupe_trainer import model_folder
from codelupe_trainer.decision import objections
from codelupe_trainer.exports import export_files
from codelupe_trainer.jobs import FILES, BaseIdentity, Compared, CompareJob
from codelupe_trainer.process import CannotSucceed, run_child, shown_in
from codelupe_trainer.records import Comparison, EvaluationSet
from codelupe_trainer.settings import GateSettings, TrainerSettings

SQL = load_queries("codelupe_sql", "trainer")
SETS = load_queries("codelupe_sql", "evaluation")
_DECIDES = "decides"


@dataclass(frozen=True)
class _Model:
    """A model that is to be judged."""

    id: str
    batch_id: int
    base: str
    folder: Path


@dataclass(frozen=True)
class _InUse:
    name: str
    adapter: Path | None


class Gate:
    """Compares on repositories that neither model was trained on. ``device`` is held while a child computes.

    Where there is too little to measure on, a model waits: it stays trained, with the reason, until another set comes.
    """

    def __init__(self, settings: TrainerSettings, device: anyio.Lock) -> None:
        self._settings = settings
        self._device = device

    async def handle(self, event: TrainingCompleted | EvaluationSetFrozen, context: HandlerContext) -> None:
        """Judge the model that was trained; with another set to measure on, those that have waited.

        Raises:
            ChildFailed: a comparison broke off.
            Reject: it can never be made, for instance because a model's folder is gone.
        """
        if isinstance(event, TrainingCompleted):
            await self._judge_trained(event, context)
        else:
            await self._judge_waiting(event, context)

    async def _judge_trained(self, event: TrainingCompleted, context: HandlerContext) -> None:
        row = await context.database.fetchrow(SQL.model_to_judge, event.model_id)
        if row is None:
            raise Reject(f"the model {event.model_id} is not in the table of models")
        model = _Model(event.model_id, event.batch_id, row["base"], context.directories.models / event.path)
        try:
            verdict = await self._verdict(model, context)
        except Reject as error:
            await context.database.execute(SQL.wait_to_be_judged, model.id, [Reason(rule="gate", detail=str(error))])
            raise
        if verdict is not None:
            async with context.transaction() as connection:
                await _record(model, verdict, connection, context)

    async def _judge_waiting(self, event: EvaluationSetFrozen, context: HandlerContext) -> None:
        """Every model that is not judged yet, the earliest first; one that cannot be holds up no other."""
        for row in await context.database.fetch(SQL.models_to_judge):
            model = _Model(row["id"], row["batch_id"], row["base"], context.directories.models / row["path"])
            try:
                verdict = await self._verdict(model, context)
            except Reject as error:
                context.log.warning("model_cannot_be_judged", model=model.id, error=str(error))
                continue
            if verdict is not None:
                async with context.step({"judged": model.id}) as connection:
                    await _record(model, verdict, connection, context)
        context.log.info("waiting_models_judged", evaluation_set=event.evaluation_set)

    async def _verdict(self, model: _Model, context: HandlerContext) -> Comparison | Reason | None:
        """What came of a comparison, or what it waits for; None if the model is judged by now."""
        async with self._device:
            row = await context.database.fetchrow(SQL.model_to_judge, model.id)
            if row is None or row["state"] in {"promoted", "rejected"}:
                context.log.info("already_judged", model=model.id)
                return None
            newest_set = await context.database.fetchrow(SETS.newest_set)
            if missing := too_little(newest_set, self._settings.gate):
                return missing
            assert newest_set is not None
            return await self._judge(model, EvaluationSet(**newest_set), context)

    async def _judge(self, model: _Model, newest_set: EvaluationSet, context: HandlerContext) -> Comparison | Reason:
        in_use = await _model_in_use(model, context)
        for folder in filter(None, (model.folder, in_use.adapter)):
            if not folder.is_dir():
                raise Reject(f"{folder} is gone, so {model.id} cannot be compared with {in_use.name}")
        work = context.directories.work / f"{model.id}-gate"
        compared = await self._compare(model, in_use, newest_set.version, work, context)
        await anyio.to_thread.run_sync(partial(shutil.rmtree, work, ignore_errors=True))
        if compared.current is None:
            return Reason(rule="held-out", detail="no window of the evaluation set makes a sample to compare on")
        comparison = Comparison(
            current=in_use.name,
            measured=compared,
            reasons=objections(compared, self._settings.gate),
            evaluation_set=newest_set,
        )
        await anyio.to_thread.run_sync(model_folder.add_comparison, model.folder, comparison)
        return comparison

    async def _compare(
        self, model: _Model, in_use: _InUse, version: int, work: Path, context: HandlerContext
    ) -> Compared:
        await anyio.Path(work).mkdir(parents=True, exist_ok=True)
        await export_files(context.database, SETS.windows_as_json, version, _DECIDES, to=work / FILES)
        job = CompareJob(
            settings=self._settings.model_copy(update={"base": model.base}),
            folder=work,
            bases=context.directories.models / "base",
            current=in_use.adapter,
            candidate=model.folder,
            trained_on={
                folder.name: _base_of(folder) for folder in (model.folder, in_use.adapter) if folder is not None
            },
        )
        try:
            result = await run_child(job, shown_in(context, "files"))
        except CannotSucceed as error:
            raise Reject(str(error)) from error
        assert isinstance(result, Compared)
        return result


def _base_of(folder: Path) -> BaseIdentity:
    try:
        record = model_folder.read_record(folder)
    except model_folder.UnreadableRecord as error:
        raise Reject(f"{error}; it cannot be compared") from error
    if record is None:
        raise Reject(f"{folder} does not say what it was trained on, so it cannot be compared")
    return record.base


def too_little(newest_set: asyncpg.Record | None, gate: GateSettings) -> Reason | None:
    """What is missing to judge by; None if there is enough."""
    groups, windows = (newest_set["groups"], newest_set["windows"]) if newest_set else (0, 0)
    if groups >= gate.min_groups and windows >= gate.min_windows:
        return None
    detail = (
        f"waits for held-out repositories: {groups:,} groups with {windows:,} windows decide, "
        f"and at least {gate.min_groups:,} with {gate.min_windows:,} are needed"
    )
    return Reason(rule="held-out", detail=detail)


async def _model_in_use(model: _Model, context: HandlerContext) -> _InUse:
    row = await context.database.fetchrow(SQL.model_in_use, model.base, model.id)
    return _InUse("base", None) if row is None else _InUse(row["id"], context.directories.models / row["path"])


async def _record(model: _Model, verdict: Comparison | Reason, connection: Connection, context: HandlerContext) -> None:
    if isinstance(verdict, Reason):
        await connection.execute(SQL.wait_to_be_judged, model.id, [verdict])
        context.log.warning("model_waits", model=model.id, reason=verdict.detail)
        return
    metrics = verdict.measured.metrics
    losses = {name: values["loss"] for name, values in metrics.items()}
    state = "promoted" if verdict.promoted else "rejected"
    version = verdict.evaluation_set.version if verdict.evaluation_set else None
    if not await connection.fetchval(SQL.decide, model.id, state, losses, metrics, verdict.reasons, version):
        context.log.info("already_judged", model=model.id)
        return
    if verdict.promoted:
        context.emit(ModelPromoted(batch_id=model.batch_id, model_id=model.id, metrics=metrics, evaluation_set=version))
    else:
        context.emit(
            ModelRejected(
                batch_id=model.batch_id,
                model_id=model.id,
                metrics=metrics,
                reasons=verdict.reasons,
                evaluation_set=version,
            )
        )
    context.log.info("model_judged", state=state, model=model.id, compared_with=verdict.current, **losses)
