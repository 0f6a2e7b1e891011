"""The handler that turns a batch into a model."""

from __future__ import annotations

import shutil
from datetime import timedelta
from functools import partial
from pathlib import Path

import anyio
import anyio.to_thread

from codelupe import HandlerContext, Reject, RetryLater, load_queries
from codelupe_events import BatchReady, TrainingCompleted, TrainingFailed, TrainingStarted
from codelupe_trainer import model_folder
from codelupe_trainer.base_models import model_id
from codelupe_trainer.exports import export_files, read_files
from codelupe_trainer.jobs import ADAPTER, CHECKPOINTS, FILES, Trained, TrainJob, pack
from codelupe_trainer.model_folder import UnreadableRecord
from codelupe_trainer.process import CannotSucceed, NotInstalled
from codelupe_trainer.records import ModelRecord
from codelupe_trainer.settings import TrainerSettings
from codelupe_trainer.watching import run_watched, tracked_folder

SQL = load_queries("codelupe_sql", "trainer")
_AFTER_JUDGEMENT = timedelta(seconds=5)
_AT_ONCE = timedelta(seconds=1)


class Trainer:
    """Trains one model at a time. ``device`` is held while a child computes; the gate waits for the same."""

    def __init__(self, settings: TrainerSettings, device: anyio.Lock) -> None:
        self._settings = settings
        self._device = device

    async def train(self, event: BatchReady, context: HandlerContext) -> None:
        """Train a model on the batch, or go on from the checkpoint that an earlier attempt left.

        Raises:
            ChildFailed: training broke off; the next attempt resumes.
            RetryLater: the child was stopped from outside, files of the batch were forgotten meanwhile, or the gate is
                about to judge a model that this one may go on from.
            Reject: the model to go on from is gone, or a package is missing.
        """
        base = self._settings.base
        parent = await self._parent(context)
        model = await context.database.fetchrow(
            SQL.start_model,
            model_id(base, event.batch_id),
            event.batch_id,
            base,
            parent,
            self._settings.model_dump(mode="json"),
        )
        if model is None:
            context.log.info("already_trained", batch=event.batch_id)
            return
        started = TrainingStarted(batch_id=event.batch_id, model_id=model["id"], base=base, parent=model["parent"])
        await context.emit_now(started)
        folder, work = context.directories.models / started.model_id, context.directories.work / started.model_id
        try:
            record = _finished(folder, context) or await self._produce(started, folder, work, context)
        except NotInstalled as error:
            raise Reject(f"{error}; then `codelupe dead-letters retry` takes the batch up") from error
        except CannotSucceed as error:
            await _record_failure(event.batch_id, started.model_id, str(error), context)
            return
        await _record_success(record, context)
        await anyio.to_thread.run_sync(partial(shutil.rmtree, work, ignore_errors=True))

    async def _parent(self, context: HandlerContext) -> str | None:
        """The model promoted last on this base, if an adapter of this shape can go on from it."""
        base, lora = self._settings.base, self._settings.lora
        if (unjudged := await context.database.fetchval(SQL.unjudged_model, base)) is not None:
            raise RetryLater(f"the gate is about to judge {unjudged}", after=_AFTER_JUDGEMENT, counts=False)
        row = await context.database.fetchrow(SQL.model_in_use, base, "")
        if row is None:
            return None
        record = _record_of(row["id"], context)
        theirs = record.settings.lora
        if (theirs.rank, theirs.alpha) != (lora.rank, lora.alpha):
            context.log.warning(
                "parent_not_continued",
                model=row["id"],
                rank=theirs.rank,
                alpha=theirs.alpha,
                hint="The settings say another rank or alpha, so the new model begins with the base.",
            )
            return None
        return record.model_id

    async def _produce(
        self, started: TrainingStarted, folder: Path, work: Path, context: HandlerContext
    ) -> ModelRecord:
        batch_id = started.batch_id
        await anyio.Path(work).mkdir(parents=True, exist_ok=True)
        await _note_steps(work / CHECKPOINTS, context)
        exported = await export_files(context.database, SQL.batch_files_as_json, batch_id, to=work / FILES)
        parent = _record_of(started.parent, context) if started.parent else None
        job = TrainJob(
            settings=self._settings,
            folder=work,
            bases=context.directories.models / "base",
            draw=f"{batch_id}/{self._settings.seed}",
            formats=pack(context.sample_formats),
            parent=context.directories.models / parent.model_id if parent else None,
            parent_base=parent.base if parent else None,
            tracked=tracked_folder(context.directories, started.model_id),
        )
        async with self._device:
            trained = await run_watched(job, started.model_id, context)
        assert isinstance(trained, Trained)
        if await context.database.fetchval(SQL.count_batch_files, batch_id) != exported:
            await anyio.to_thread.run_sync(partial(shutil.rmtree, work))
            raise RetryLater("files of the batch were forgotten while it was trained", after=_AT_ONCE, counts=False)
        record = ModelRecord(
            model_id=folder.name,
            key=str(context.idempotency_key),
            batch_id=batch_id,
            parent=started.parent,
            batches=[row["batch_id"] for row in await context.database.fetch(SQL.lineage, folder.name)],
            settings=self._settings,
            unused_files=len(trained.unused),
            **trained.model_dump(exclude={"kind", "unused"}),
        )
        files = (file for file in read_files(work / FILES) if file.content_hash not in trained.unused)
        return await anyio.to_thread.run_sync(model_folder.publish, folder, work / ADAPTER, record, files)


def _record_of(model: str, context: HandlerContext) -> ModelRecord:
    folder = context.directories.models / model
    try:
        record = model_folder.read_record(folder)
    except UnreadableRecord as error:
        raise Reject(f"{error}; no model can go on from it: bring it back, or promote another model") from error
    if record is None:
        raise Reject(f"{folder} is gone, so no model can go on from it; bring it back, or promote another model")
    return record


async def _note_steps(checkpoints: Path, context: HandlerContext) -> None:
    """Say that earlier attempts have come forward: a long training may be restarted as often as it takes."""
    found = [path async for path in anyio.Path(checkpoints).glob("checkpoint-*")]
    steps = max((int(path.name.rpartition("-")[2]) for path in found), default=0)
    if steps > (context.checkpoint or {"steps": 0})["steps"]:
        await context.save_checkpoint({"steps": steps})


def _finished(folder: Path, context: HandlerContext) -> ModelRecord | None:
    """What an earlier attempt has finished.

    Raises:
        Reject: the folder holds the model of another training.
    """
    try:
        record = model_folder.read_record(folder)
    except UnreadableRecord as error:
        raise Reject(f"{error}; move {folder} away and retry this one") from error
    if record is not None and record.key != str(context.idempotency_key):
        raise Reject(f"{folder} holds a model of another database's batch; move it away and retry this one")
    return record


async def _record_success(record: ModelRecord, context: HandlerContext) -> None:
    losses = {"train": record.train_loss, "validation": record.validation_loss}
    async with context.transaction() as connection:
        await connection.execute(
            SQL.finish_training, record.model_id, record.model_id, losses, record.steps, record.samples
        )
        context.emit(
            TrainingCompleted(
                batch_id=record.batch_id,
                model_id=record.model_id,
                path=record.model_id,
                steps=record.steps,
                samples=record.samples,
                train_loss=record.train_loss,
                validation_loss=record.validation_loss,
                stopped_early=record.stopped_early,
                seconds=record.seconds,
                parent=record.parent,
                base=record.base.id,
                base_revision=record.base.revision,
                base_fingerprint=record.base.fingerprint,
            )
        )
    context.log.info(
        "model_trained", model=record.model_id, steps=record.steps, seconds=round(record.seconds), **losses
    )


async def _record_failure(batch_id: int, model: str, error: str, context: HandlerContext) -> None:
    async with context.transaction() as connection:
        await connection.execute(SQL.fail_training, model, [{"rule": "training", "detail": error}])
        context.emit(TrainingFailed(batch_id=batch_id, model_id=model, error=error))
    context.log.error("training_failed", model=model, error=error)
