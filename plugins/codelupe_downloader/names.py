"""Clones follow the names of their repositories, also where two have exchanged theirs."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import timedelta
from pathlib import Path

import anyio.to_thread

from codelupe import Connection, HandlerContext, RetryLater, load_queries
from codelupe_downloader.clone_store import CloneStore
from codelupe_events import RepoGone
from codelupe_git.clones import folder_name

SQL = load_queries("codelupe_sql", "downloader")
_IN_USE_PAUSE = timedelta(seconds=5)


async def move_to_name(repository_id: str, context: HandlerContext) -> None:
    """Put the repository's clone, if it has one, where its present name says.

    Raises:
        RetryLater: it is in use, or what lies in its place is.
    """
    await _move_all([repository_id], context)


async def move_namesakes(event: RepoGone, context: HandlerContext) -> None:
    """The repository has no claim to its name any more: what is called so now takes its place.

    Raises:
        RetryLater: one of the clones is in use.
    """
    rows = await context.database.fetch(SQL.namesakes, event.repository_id, event.full_name)
    await _move_all([row["id"] for row in rows], context)


async def make_room(store: CloneStore, context: HandlerContext) -> tuple[tuple[str, Path], ...]:
    """Move the clone that lies where that of ``store`` belongs, if its repository is called otherwise by now or gone.

    Returns whose clone went where. One that is in use stays.
    """
    occupant = await anyio.to_thread.run_sync(store.occupant)
    if occupant is None:
        return ()
    row = await context.database.fetchrow(SQL.read_repository, occupant.repository_id)
    if row is None or (row["full_name"] is not None and store.root / folder_name(row["full_name"]) == store.place):
        return ()
    name = row["full_name"] or store.place.relative_to(store.root).as_posix()
    theirs = CloneStore(store.root, occupant.repository_id, name)
    place = await anyio.to_thread.run_sync(lambda: theirs.move(store.place, out_of=store.place))
    return () if place is None else ((occupant.repository_id, place),)


async def find_places(connection: Connection, root: Path, moved: Iterable[tuple[str, Path]]) -> dict[str, str]:
    """Where these clones lie now, to the end of the transaction: they may have been moved again since."""
    places = dict(moved)
    found = {}
    for row in await connection.fetch(SQL.hold_repositories, list(places)):
        paths = (row["path"], places[row["id"]].relative_to(root).as_posix())
        store = CloneStore(root, row["id"], row["full_name"])
        current = await anyio.to_thread.run_sync(store.current, *paths)
        if current is not None:
            found[row["id"]] = current[0].relative_to(root).as_posix()
    return found


async def record_places(connection: Connection, root: Path, moved: Iterable[tuple[str, Path]]) -> None:
    """Record where these clones lie now."""
    for repository_id, path in (await find_places(connection, root, moved)).items():
        await connection.execute(SQL.record_path, repository_id, path)


async def _move_all(repository_ids: list[str], context: HandlerContext) -> None:
    root = context.directories.repositories
    moved: dict[str, Path] = {}
    for repository_id in repository_ids:
        row = await context.database.fetchrow(SQL.read_repository, repository_id)
        if row is None or row["path"] is None or row["full_name"] is None:
            continue
        store = CloneStore(root, repository_id, row["full_name"])
        moved |= await _move(store, repository_id, row["path"], context)
    async with context.transaction() as connection:
        await record_places(connection, root, moved.items())
    for repository_id, place in sorted(moved.items()):
        context.log.info("clone_moved", repository_id=repository_id, path=place.relative_to(root).as_posix())


async def _move(store: CloneStore, repository_id: str, path: str, context: HandlerContext) -> dict[str, Path]:
    current = await anyio.to_thread.run_sync(store.current, path)
    if current is None or current[0] == store.place:
        return {} if current is None else {repository_id: store.place}
    moved = dict(await make_room(store, context))
    place = await anyio.to_thread.run_sync(store.move, current[0])
    if place is None:
        raise RetryLater(f"the clone {path} is in use", after=_IN_USE_PAUSE, counts=False)
    return moved | {repository_id: place}
