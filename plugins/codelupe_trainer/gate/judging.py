"""The handlers that decide whether a new model replaces the one in use."""

from __future__ import annotations

import shutil
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
import asyncpg

from codelupe import Connection, HandlerContext, Reject, load_queries
from codelupe_events import EvaluationSetFrozen, ModelPromoted, ModelRejected, Reason, TrainingCompleted
from codelupe_trainer import model_folder
from codelupe_trainer.exports import export_files
from codelupe_trainer.gate.comparing import HeldOut, compare, figures, window_lines
from codelupe_trainer.gate.measurements import Key, Measurement, measurement_path, read_measurements
from codelupe_trainer.gate.rule import Limits, decide
from codelupe_trainer.jobs import FILES, BaseIdentity, MeasureJob, pack
from codelupe_trainer.process import CannotSucceed, NotInstalled, run_child, shown_in
from codelupe_trainer.records import Comparison, EvaluationSet
from codelupe_trainer.settings import GateSettings, TrainerSettings

SQL = load_queries("codelupe_sql", "trainer")
SETS = load_queries("codelupe_sql", "evaluation")
_SET_FOLDER = "gate-set-"

Measured = dict[str, dict[Key, Measurement]]
"""What was measured of models, by their names."""


@dataclass(frozen=True)
class _Model:
    """A model that is to be judged."""

    id: str
    batch_id: int
    folder: Path


@dataclass(frozen=True)
class _Measurable:
    """A model as it is served; without an adapter it is the base alone."""

    name: str
    adapter: Path | None
    settings: TrainerSettings
    base: BaseIdentity


@dataclass(frozen=True)
class _Waits:
    """What there is too little of to judge by."""

    reasons: tuple[Reason, ...]


class Gate:
    """Compares on repositories that no model was trained on. ``device`` is held while a child computes.

    Where there is too little to measure on, a model waits: it stays trained, with the reason, until another set comes.
    """

    def __init__(self, settings: TrainerSettings, device: anyio.Lock) -> None:
        self._settings = settings
        self._limits = Limits(min_groups=settings.gate.min_groups, min_windows=settings.gate.min_windows)
        self._device = device

    async def handle(self, event: TrainingCompleted | EvaluationSetFrozen, context: HandlerContext) -> None:
        """Judge the model that was trained; with another set to measure on, those that have waited.

        Raises:
            ChildFailed: a measurement broke off; the next attempt goes on with it.
            Reject: it can never be made, for instance because a model's folder is gone.
        """
        if isinstance(event, TrainingCompleted):
            await self._judge_trained(event, context)
        else:
            await self._judge_waiting(event, context)

    async def _judge_trained(self, event: TrainingCompleted, context: HandlerContext) -> None:
        if not await context.database.fetchval(SQL.model_state, event.model_id):
            raise Reject(f"the model {event.model_id} is not in the table of models")
        model = _Model(event.model_id, event.batch_id, context.directories.models / event.path)
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
            model = _Model(row["id"], row["batch_id"], context.directories.models / row["path"])
            try:
                verdict = await self._verdict(model, context)
            except Reject as error:
                context.log.warning("model_cannot_be_judged", model=model.id, error=str(error))
                continue
            if verdict is not None:
                async with context.step({"judged": model.id}) as connection:
                    await _record(model, verdict, connection, context)
        context.log.info("waiting_models_judged", evaluation_set=event.evaluation_set)

    async def _verdict(self, model: _Model, context: HandlerContext) -> Comparison | _Waits | None:
        """What came of a comparison, or what it waits for; None if the model is judged by now."""
        async with self._device:
            if await context.database.fetchval(SQL.model_state, model.id) in {"promoted", "rejected"}:
                context.log.info("already_judged", model=model.id)
                return None
            newest_set = await context.database.fetchrow(SETS.newest_set)
            if missing := too_little(newest_set, self._settings.gate):
                return _Waits((missing,))
            assert newest_set is not None
            return await self._judge(model, EvaluationSet(**newest_set), context)

    async def _judge(self, model: _Model, newest_set: EvaluationSet, context: HandlerContext) -> Comparison | _Waits:
        """Measure the candidate beside the model in use and its own base, and decide."""
        candidate = _measurable(model.folder)
        base = _Measurable("base", None, candidate.settings, candidate.base)
        row = await context.database.fetchrow(SQL.model_to_beat, model.id)
        current = base if row is None else _measurable(context.directories.models / row["path"])
        models = {one.name: one for one in (base, current, candidate)}
        gate = self._settings.gate
        texts = (newest_set.version, model.batch_id, gate.first_batch_files, gate.window_bytes)
        folder = context.directories.work / f"{_SET_FOLDER}{newest_set.version}"
        measured = await self._measure(models.values(), texts, folder, context)
        held_out = [HeldOut(**row) for row in await context.database.fetch(SETS.held_out, *texts)]
        compared = compare(held_out, measured[current.name], measured[candidate.name])
        decision = await anyio.to_thread.run_sync(decide, compared, self._limits)
        if decision.outcome == "waits":
            return _Waits(decision.reasons)
        comparison = Comparison(
            current=current.name,
            decision=decision,
            metrics={
                role: figures(held_out, measured[one.name])
                for role, one in {"base": base, "current": current, "candidate": candidate}.items()
                if role != "base" or current is not base
            },
            evaluation_set=newest_set,
        )
        lines = window_lines(held_out, measured[current.name], measured[candidate.name])
        await anyio.to_thread.run_sync(model_folder.add_comparison, model.folder, comparison, lines)
        await anyio.to_thread.run_sync(_clear, folder, comparison, candidate.name)
        return comparison

    async def _measure(
        self, models: Collection[_Measurable], texts: tuple[int, ...], folder: Path, context: HandlerContext
    ) -> Measured:
        """What is known of the models, asked one base after another."""
        await anyio.Path(folder).mkdir(parents=True, exist_ok=True)
        await export_files(context.database, SETS.held_out_as_json, *texts, to=folder / FILES)
        served = {one.name: (one.settings.base, one.settings.quantisation, one.settings.system) for one in models}
        for base, quantisation, system in dict.fromkeys(served.values()):
            chosen = [one for one in models if served[one.name] == (base, quantisation, system)]
            changes = {"base": base, "quantisation": quantisation, "system": system}
            job = MeasureJob(
                settings=self._settings.model_copy(update=changes),
                folder=folder,
                bases=context.directories.models / "base",
                models={one.name: one.adapter for one in chosen},
                trained_on={one.name: one.base for one in chosen},
                evaluators=pack(context.evaluators),
            )
            try:
                await run_child(job, shown_in(context, "questions"))
            except NotInstalled as error:
                raise Reject(f"{error}; then `codelupe dead-letters retry` has the model judged") from error
            except CannotSucceed as error:
                raise Reject(str(error)) from error
        return {one.name: await anyio.to_thread.run_sync(_read, folder, one.name) for one in models}


def _measurable(folder: Path) -> _Measurable:
    try:
        record = model_folder.read_record(folder)
    except model_folder.UnreadableRecord as error:
        raise Reject(f"{error}; it cannot be compared") from error
    if record is None:
        raise Reject(f"{folder} is gone, or does not say what it was trained on, so {folder.name} cannot be compared")
    return _Measurable(folder.name, folder, record.settings, record.base)


def _read(folder: Path, name: str) -> dict[Key, Measurement]:
    return read_measurements(measurement_path(folder, name))


def _clear(folder: Path, comparison: Comparison, candidate: str) -> None:
    """Keep what the next candidate is compared with: the figures of the base and the model in use on this set."""
    for other in folder.parent.glob(f"{_SET_FOLDER}*"):
        if other != folder:
            shutil.rmtree(other, ignore_errors=True)
    if not comparison.promoted:
        measurement_path(folder, candidate).unlink(missing_ok=True)


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


async def _record(model: _Model, verdict: Comparison | _Waits, connection: Connection, context: HandlerContext) -> None:
    if isinstance(verdict, _Waits):
        await connection.execute(SQL.wait_to_be_judged, model.id, verdict.reasons)
        context.log.warning("model_waits", model=model.id, reasons=[one.detail for one in verdict.reasons])
        return
    state, reasons, version = verdict.decision.outcome, verdict.decision.reasons, verdict.evaluation_set.version
    if not await connection.fetchval(SQL.decide, model.id, state, verdict.metrics, verdict.table, reasons, version):
        context.log.info("already_judged", model=model.id)
        return
    told: dict[str, Any] = {
        "batch_id": model.batch_id,
        "model_id": model.id,
        "metrics": verdict.metrics,
        "evaluation_set": version,
        "table": verdict.table,
        "problems": verdict.problems,
    }
    context.emit(ModelPromoted(**told) if verdict.promoted else ModelRejected(**told, reasons=reasons))
    context.log.info(
        "model_judged",
        state=state,
        model=model.id,
        compared_with=verdict.current,
        reasons=[one.rule for one in reasons],
    )
