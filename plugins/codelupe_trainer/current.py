"""The links to the model in use, which follow the promotions in the log."""

from __future__ import annotations

from pathlib import Path

import anyio
import anyio.to_thread

from codelupe import Connection, HandlerContext, Reject, load_queries
from codelupe_events import ModelPromoted
from codelupe_trainer import model_folder

SQL = load_queries("codelupe_sql", "trainer")
CURRENT = "current"
"""The link, in the models' folder, to the model in use."""


_LINKS = ("qwen-codelupe", CURRENT)
"""The first is the seed's name for the same link, whatever the base is."""


async def follow_promotions(_event: ModelPromoted, context: HandlerContext) -> None:
    """Put the model of the newest promotion in use, whichever promotion this one is.

    Raises:
        Reject: as :func:`put_newest_in_use`.
    """
    async with context.transaction() as connection:
        model = await put_newest_in_use(connection, context.directories.models, context.recorded.position)
    context.log.info("model_in_use", model=model)


async def put_newest_in_use(connection: Connection, models: Path, since: int) -> str:
    """Put the model of the newest promotion in use, which lies at this position in the log or later.

    Promotions of several batches are handled at the same time, and any of them may come again. Under the lock each
    handling looks for the newest in the log, by position, and moves the links before it commits: the last to do so has
    seen all that the others saw.

    Raises:
        Reject: the newest promotion names a model that is not known, or whose folder is gone.
    """
    await connection.execute(SQL.lock_current_model)
    newest = await connection.fetchrow(SQL.newest_promotion, since)
    assert newest is not None, "the caller knows of a promotion"
    model = str(newest["model_id"])
    row = await connection.fetchrow(SQL.put_in_use, model, newest["recorded_at"])
    if row is None:
        raise Reject(f"the model {model} is not in the table of models, or was never trained")
    folder = models / row["path"]
    if not await anyio.Path(folder).is_dir():
        raise Reject(f"{folder} is gone, so {models / CURRENT} stays as it is")
    for link in _LINKS:
        await anyio.to_thread.run_sync(model_folder.point_to, models / link, folder)
    return model
