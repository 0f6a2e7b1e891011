"""Copies of sources that are not under git: where they lie, and how they go when their repository is forgotten."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from urllib.parse import unquote, urlsplit

import anyio.to_thread

from codelupe import Database, HandlerContext, load_queries
from codelupe_events import RepoForgotten

SQL = load_queries("codelupe_sql", "crawler")
FOLDER = "sources"
"""Below the state directory."""
REVISION_FILE = "codelupe-revision"
"""Says in each copy of which revision it is."""


def copy_name(name: str, version: str) -> str:
    """The folder of a version's copy."""
    return re.sub(r"[^\w.+-]", "_", f"{name}-{version}", flags=re.ASCII)


def revision_of(place: Path) -> str | None:
    """The revision of the copy there, if there is one."""
    try:
        return (place / REVISION_FILE).read_text()
    except (FileNotFoundError, NotADirectoryError):
        return None


async def forgotten_ids(database: Database, source: str) -> frozenset[str]:
    """The ids of a source's repositories that were forgotten."""
    return frozenset(row["repository_id"] for row in await database.fetch(SQL.forgotten_ids, source))


async def remove_copies(event: RepoForgotten, context: HandlerContext) -> None:
    """Remove the copy that the repository was cloned from, of every version, if it was one of ours."""
    folder = context.directories.state / FOLDER
    removed = await anyio.to_thread.run_sync(_remove, folder, Path(unquote(urlsplit(event.url).path)))
    context.log.info("copies_removed", full_name=event.full_name, copies=removed)


def _remove(folder: Path, place: Path) -> list[str]:
    revision = revision_of(place)
    if place.parent != folder or revision is None:
        return []
    name = place.name.removesuffix(copy_name("", revision))
    copies = [
        copy for copy in folder.iterdir() if copy == place or copy.name == copy_name(name, revision_of(copy) or "")
    ]
    for copy in copies:
        shutil.rmtree(copy)
    return sorted(copy.name for copy in copies)
