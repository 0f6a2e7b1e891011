"""The job that freezes batches, and the subscription by which they know what they come of."""

from __future__ import annotations

from collections.abc import Sequence

from codelupe import BatchContext, JobContext, load_queries
from codelupe_events import BatchReady, FilesScored
from codelupe_trainer.gate.evaluation_sets import EvaluationSets
from codelupe_trainer.settings import TrainerSettings

SQL = load_queries("codelupe_sql", "trainer")
JOB = "batch"


class Batcher:
    """Waits for enough good files that no model was trained on."""

    def __init__(self, settings: TrainerSettings) -> None:
        self._settings = settings
        self._evaluation_sets = EvaluationSets(settings)

    async def freeze(self, context: JobContext) -> None:
        """Freeze one batch if there are files enough; it comes of the last event that scored some of them."""
        settings = self._settings
        await self._evaluation_sets.prepare(context)
        async with context.transaction() as connection:
            row = await connection.fetchrow(
                SQL.freeze_batch,
                settings.min_score,
                settings.min_characters,
                settings.max_characters,
                settings.min_files,
                settings.max_files,
                settings.validation_share,
                settings.seed,
            )
            assert row is not None
            if row["id"] is not None:
                replayed = await connection.fetchval(
                    SQL.draw_replays, row["id"], settings.replay_share, settings.seed, settings.max_files
                )
                event = BatchReady(
                    batch_id=row["id"],
                    files=row["files"],
                    characters=row["characters"],
                    repositories=row["repositories"],
                    min_score=settings.min_score,
                )
                context.emit(event, key=str(row["id"]), caused_by=row["cause"])
        context.progress(min(row["waiting"], settings.min_files), settings.min_files, "files")
        if row["id"] is not None:
            context.log.info(
                "batch_frozen",
                batch=row["id"],
                files=row["files"],
                repositories=row["repositories"],
                replayed=replayed,
            )


async def record_scored(events: Sequence[FilesScored], context: BatchContext) -> None:
    """Keep which event said that the files of a commit are scored, for the batch that is made of them, and look now
    whether they are enough for one.
    """
    recorded = await context.recorded()
    await context.connection.execute(
        SQL.record_scored_commits,
        [event.repository_id for event in events],
        [event.commit for event in events],
        [each.id for each in recorded],
        [each.position for each in recorded],
    )
    await context.want_job(JOB)
