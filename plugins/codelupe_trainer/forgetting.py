"""What a forgotten repository leaves in the folders of jobs under way."""

from __future__ import annotations

from pathlib import Path

import anyio.to_thread

from codelupe import AtomicFile, HandlerContext, load_queries
from codelupe_events import RepoForgotten
from codelupe_trainer.exports import read_files
from codelupe_trainer.jobs import FILES
from codelupe_trainer.watching import tracked_folder

_SQL = load_queries("codelupe_sql", "forget")


async def empty_work_files(event: RepoForgotten, context: HandlerContext) -> None:
    """Take the contents out of the files that jobs read, and away the predictions kept for W&B of models that saw them.

    A training that has read them stops at its next step, and begins anew without these files.
    """
    for path in await anyio.to_thread.run_sync(lambda: list(context.directories.work.glob(f"*/{FILES}"))):
        emptied = await anyio.to_thread.run_sync(_empty, path, event.repository_id)
        if emptied:
            context.log.info("work_files_emptied", path=str(path), files=emptied)
    for model in await context.database.fetch(_SQL.models_trained_on, event.repository_id):
        folder = tracked_folder(context.directories, model["id"])
        await anyio.to_thread.run_sync(_remove_predictions, folder)


def _remove_predictions(folder: Path) -> None:
    """They show prompts: beginnings of files."""
    for table in folder.glob("wandb/*/files/media/table/*"):
        table.unlink(missing_ok=True)


def _empty(path: Path, repository_id: str) -> int:
    emptied = 0
    copy = AtomicFile(path)
    try:
        for file in read_files(path):
            is_theirs = file.repository_id == repository_id
            emptied += is_theirs
            kept = file.model_copy(update={"content": ""}) if is_theirs else file
            copy.file.write(kept.model_dump_json().encode() + b"\n")
        if emptied:
            copy.commit()
    finally:
        copy.discard()
    return emptied
