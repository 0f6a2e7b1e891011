"""The link to the model in use, which follows the promotions in the log."""

from __future__ import annotations

import anyio.to_thread

from codelupe import HandlerContext, Reject, load_queries
from codelupe_events import ModelPromoted
from codelupe_trainer import model_folder

SQL = load_queries("codelupe_sql", "trainer")
CURRENT = "current"
"""The link, in the models' folder, to the model in use."""


async def follow_promotions(_event: ModelPromoted, context: HandlerContext) -> None:
    """Put the model of the newest promotion in use, whichever promotion this one is.

    Promotions of several batches are handled at the same time, and any of them may come again. Under the lock each
    handling looks for the newest in the log, by position, and moves the link before it commits: the last to do so has
    seen all that the others saw.

    Raises:
        Reject: the newest promotion names a model that is not known, or whose folder is gone.
    """
    models = context.directories.models
    async with context.transaction() as connection:
        await connection.execute(SQL.lock_current_model)
        newest = await connection.fetchrow(SQL.newest_promotion, context.recorded.position)
        assert newest is not None, "the event that is handled is a promotion itself"
        path = await connection.fetchval(SQL.put_in_use, newest["model_id"], newest["recorded_at"])
        if path is None:
            raise Reject(f"the model {newest['model_id']} is not in the table of models, or was never trained")
        if not await anyio.Path(models / path).is_dir():
            raise Reject(f"{models / path} is gone, so {models / CURRENT} stays as it is")
        await anyio.to_thread.run_sync(model_folder.point_to, models / CURRENT, models / path)
    context.log.info("model_in_use", model=newest["model_id"])
