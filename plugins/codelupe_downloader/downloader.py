"""The handler that clones."""

from __future__ import annotations

import errno
import re
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

import anyio
import anyio.to_thread

from codelupe import HandlerContext, Reject, RetryLater, load_queries, remove_tree
from codelupe_downloader import disk, git
from codelupe_downloader.clone_store import Clone, CloneStore
from codelupe_downloader.settings import DownloaderSettings
from codelupe_events import RepoAccepted, RepoCloned, RepoEmpty, RepoForgotten

SQL = load_queries("codelupe_sql", "downloader")
_FULL_DISK_PAUSE = timedelta(minutes=1)


class Downloader:
    """Clones each accepted repository once, whatever happens to the process meanwhile."""

    def __init__(self, settings: DownloaderSettings) -> None:
        self._settings = settings

    async def handle(self, event: RepoAccepted | RepoForgotten, context: HandlerContext) -> None:
        """Clone what was accepted, and remove the clone of what was forgotten: in this order, as the stream's events.

        Raises:
            Reject, RetryLater, codelupe_downloader.git.CloneFailed: as :meth:`clone`.
        """
        if isinstance(event, RepoForgotten):
            await _remove_clone(event, context)
        elif await context.database.fetchval(SQL.is_forgotten, event.repository_id):
            context.log.info("repository_forgotten", full_name=event.full_name)
        else:
            await self.clone(event, context)

    async def clone(self, event: RepoAccepted, context: HandlerContext) -> None:
        """Bring the repository's newest commit to disk.

        Raises:
            Reject: it is not there, too large, or not to be fetched in this way.
            RetryLater: the disk is full.
            codelupe_downloader.git.CloneFailed: it could not be reached this time.
        """
        store = CloneStore(context.directories.repositories, event.repository_id, event.full_name)
        key = str(context.idempotency_key)
        with _explained(event.url):
            await anyio.to_thread.run_sync(store.clean_up, key)
            finished = await anyio.to_thread.run_sync(store.find, key) or await self._fetch(event, context, store)
        if finished is None:
            await _record_empty(event, context)
        else:
            place, clone = finished
            await _leave_previous(event, context, store, place)
            await _record_clone(event, context, place.relative_to(store.root), clone)

    async def _fetch(
        self, event: RepoAccepted, context: HandlerContext, store: CloneStore
    ) -> tuple[Path, Clone] | None:
        if not event.url.isprintable():
            raise git.RepositoryRefused("the URL holds unprintable characters")
        key = str(context.idempotency_key)
        working = await anyio.to_thread.run_sync(store.working_folder, key, context.attempt)
        try:
            clone = await self._clone_into(working, event, key)
            if clone is None:
                return None
            return await anyio.to_thread.run_sync(store.install, working, clone), clone
        finally:
            with anyio.CancelScope(shield=True):
                await anyio.to_thread.run_sync(remove_tree, working)

    async def _clone_into(self, working: Path, event: RepoAccepted, key: str) -> Clone | None:
        began, limits = anyio.current_time(), (self._settings.max_size, self._settings.min_free_space)
        with anyio.fail_after(self._settings.timeout.total_seconds()):
            watch = disk.watcher(working, *limits)
            commit = await git.clone(event.url, working, self._settings.allowed_protocols, watch)
        if commit is None:
            return None
        return Clone(
            repository_id=event.repository_id,
            key=key,
            commit=commit,
            size_bytes=await anyio.to_thread.run_sync(disk.check, working, *limits),
            seconds=anyio.current_time() - began,
        )


@contextmanager
def _explained(url: str) -> Iterator[None]:
    """Tell the log's worker what to do about each kind of failure, without any password in the URL."""
    address = re.sub(r"://[^/]*@", "://", url)
    try:
        yield
    except (git.RepositoryRefused, disk.TooLarge) as error:
        raise Reject(f"{address} is not cloned: {error}{_advice(error)}") from error
    except git.DiskFull as error:
        raise _wait_for_space(error) from error
    except TimeoutError as error:
        raise git.CloneFailed(f"{address} took longer than the timeout") from error
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise _wait_for_space(error) from error
        raise


def _advice(error: Exception) -> str:
    if isinstance(error, disk.TooLarge):
        return "; max_size in [plugins.downloader] says so"
    if "not allowed" in str(error):
        return "; see allowed_protocols in [plugins.downloader]"
    return ""


def _wait_for_space(error: Exception) -> RetryLater:
    reason = f"no space for clones: {error}. Free some, or lower min_free_space in [plugins.downloader]"
    return RetryLater(reason, after=_FULL_DISK_PAUSE, counts=False)


async def _leave_previous(event: RepoAccepted, context: HandlerContext, store: CloneStore, place: Path) -> None:
    relative = await context.database.fetchval(SQL.clone_path, event.repository_id)
    if relative is not None and (previous := store.root / relative) != place:
        await anyio.to_thread.run_sync(store.leave, previous)


async def _record_clone(event: RepoAccepted, context: HandlerContext, path: Path, clone: Clone) -> None:
    async with context.transaction() as connection:
        await connection.execute(SQL.record_clone, event.repository_id, clone.commit, path.as_posix(), clone.size_bytes)
        context.emit(
            RepoCloned(
                repository_id=event.repository_id,
                commit=clone.commit,
                path=path.as_posix(),
                size_bytes=clone.size_bytes,
                seconds=clone.seconds,
            )
        )
    context.log.info("repository_cloned", path=path.as_posix(), commit=clone.commit, size_bytes=clone.size_bytes)


async def _record_empty(event: RepoAccepted, context: HandlerContext) -> None:
    async with context.transaction() as connection:
        await connection.execute(SQL.record_empty, event.repository_id)
        context.emit(RepoEmpty(repository_id=event.repository_id, url=event.url))
    context.log.info("repository_empty", full_name=event.full_name)


async def _remove_clone(event: RepoForgotten, context: HandlerContext) -> None:
    store = CloneStore(context.directories.repositories, event.repository_id, event.full_name)
    removed = await anyio.to_thread.run_sync(store.remove)
    context.log.info("clones_removed", full_name=event.full_name, paths=[str(path) for path in removed])
