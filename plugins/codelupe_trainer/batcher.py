"""The job that freezes batches."""

from __future__ import annotations

from codelupe import JobContext, load_queries
from codelupe_events import BatchReady
from codelupe_trainer.settings import TrainerSettings

SQL = load_queries("codelupe_sql", "trainer")


class Batcher:
    """Waits for enough good files that no model was trained on."""

    def __init__(self, settings: TrainerSettings) -> None:
        self._settings = settings

    async def freeze(self, context: JobContext) -> None:
        """Freeze one batch if there are files enough."""
        settings = self._settings
        async with context.transaction() as connection:
            row = await connection.fetchrow(
                SQL.freeze_batch,
                settings.min_score,
                settings.min_characters,
                settings.max_characters,
                settings.held_out_share,
                settings.min_files,
                settings.max_files,
                settings.validation_share,
                settings.seed,
            )
            assert row is not None
            if row["id"] is not None:
                event = BatchReady(
                    batch_id=row["id"],
                    files=row["files"],
                    characters=row["characters"],
                    repositories=row["repositories"],
                    min_score=settings.min_score,
                )
                context.emit(event, key=str(row["id"]))
        context.progress(min(row["waiting"], settings.min_files), settings.min_files, "files")
        if row["id"] is not None:
            context.log.info("batch_frozen", batch=row["id"], files=row["files"], repositories=row["repositories"])
