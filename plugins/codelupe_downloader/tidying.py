"""Removes what interrupted clones have left, and clones that are over the space for them."""

from __future__ import annotations

import anyio.to_thread

from codelupe import JobContext, load_queries
from codelupe_downloader.clone_store import remove_left_overs, remove_unused
from codelupe_downloader.settings import DownloaderSettings

SQL = load_queries("codelupe_sql", "downloader")


class Tidying:
    """A job that keeps the repositories' folder in order."""

    def __init__(self, settings: DownloaderSettings) -> None:
        self._keep_size = settings.keep_size

    async def run(self, context: JobContext) -> None:
        """Remove left-overs, and then the clones used longest ago until the others are within ``keep_size``."""
        removed = await anyio.to_thread.run_sync(remove_left_overs, context.directories.repositories)
        if removed:
            context.log.info("left_overs_removed", names=removed)
        if self._keep_size is not None:
            await self._remove_clones(context, self._keep_size)

    async def _remove_clones(self, context: JobContext, keep_size: int) -> None:
        root = context.directories.repositories
        for row in await context.database.fetch(SQL.clones_to_remove, keep_size):
            if await anyio.to_thread.run_sync(remove_unused, root, row["id"], row["path"]):
                await context.database.execute(SQL.record_removed, row["id"], row["path"])
                context.log.info("clone_removed", repository_id=row["id"], path=row["path"])
