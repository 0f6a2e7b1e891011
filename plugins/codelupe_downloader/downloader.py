"""The handler that clones."""

from __future__ import annotations

import errno
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from datetime import timedelta
from functools import cached_property, partial
from pathlib import Path

import anyio
import anyio.to_thread
import asyncpg
import msgspec

from codelupe import HandlerContext, Reject, RetryLater, load_queries, remove_tree
from codelupe_downloader import disk, git
from codelupe_downloader.clone_store import CloneStore, clear, held, write_note
from codelupe_downloader.hosts import Hosts
from codelupe_downloader.names import find_places, make_room, move_namesakes, move_to_name, record_places
from codelupe_downloader.settings import DownloaderSettings
from codelupe_events import RepoAccepted, RepoChanged, RepoCloned, RepoEmpty, RepoForgotten, RepoGone
from codelupe_git.clones import Clone, in_use
from codelupe_git.credentials import host_of

SQL = load_queries("codelupe_sql", "downloader")
_FULL_DISK_PAUSE = timedelta(minutes=1)
_REFUSALS = 5
"""So many times a repository may be turned away between others that its host serves; then it is the repository."""
_REFUSALS_IN_ALL = 10
_DETAIL_CHARACTERS = 500
_RENAMED_PAUSE = timedelta(seconds=1)
_GROWTH = 2
"""A clone that has grown so many times over by what was fetched is cloned from nothing again."""


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What came of an accepted repository."""

    place: Path | None
    clone: Clone | None
    """None: there is no commit, or, with ``is_unmoved``, no clone is kept."""
    is_unmoved: bool = False
    """HEAD stands where the clone stood."""
    moved: tuple[tuple[str, Path], ...] = ()
    """Clones of other repositories that made room, by repository."""


class Downloader:
    """Clones each accepted repository once, whatever happens to the process meanwhile."""

    def __init__(self, settings: DownloaderSettings) -> None:
        self._settings = settings

    async def handle(
        self, event: RepoAccepted | RepoChanged | RepoForgotten | RepoGone, context: HandlerContext
    ) -> None:
        """Clone what was accepted, remove what was forgotten, follow names: in this order, as the stream's events.

        Raises:
            Reject: it is too large, or not to be fetched in this way.
            RetryLater: the disk is full, its host is left alone for now, or a clone is in use.
            codelupe_downloader.git.CloneFailed: it could not be cloned this time.
        """
        match event:
            case RepoForgotten():
                await _remove_clone(event, context)
            case RepoChanged():
                await self._follow(event, context)
            case RepoGone():
                await move_namesakes(event, context)
            case RepoAccepted():
                await self._accept(event, context)

    async def _accept(self, event: RepoAccepted, context: HandlerContext) -> None:
        known = await context.database.fetchrow(SQL.read_repository, event.repository_id)
        if known is None:
            is_forgotten = await context.database.fetchval(SQL.is_forgotten, event.repository_id)
        else:
            is_forgotten = known["is_forgotten"]
        if is_forgotten:
            context.log.info("repository_forgotten", full_name=event.full_name)
        else:
            await self._clone(event, known, context)

    async def _follow(self, event: RepoChanged, context: HandlerContext) -> None:
        """Put the clone where it belongs, and make sure that it is of this repository if its URL is another one now.

        While the source had not told so, another repository may have been at the one that was cloned from.
        """
        known = await context.database.fetchrow(SQL.read_repository, event.repository_id)
        if known is None or known["url"] is None:
            return await move_to_name(event.repository_id, context)
        store = CloneStore(context.directories.repositories, event.repository_id, event.full_name)
        current = await anyio.to_thread.run_sync(store.current, known["path"])
        url, _ = self._settings.credential_for(known["url"])
        if current is None or current[1].url in (None, url):
            return await move_to_name(event.repository_id, context)
        about = {name: getattr(event, name) for name in ("repository_id", "full_name", "revision")}
        return await self._clone(RepoAccepted(url=url, score=0, **about), known, context)

    async def _clone(self, event: RepoAccepted, known: asyncpg.Record | None, context: HandlerContext) -> None:
        """Bring the repository's newest commit to disk, unless it is there.

        Raises:
            Reject: it is too large, or not to be fetched in this way.
            RetryLater: the disk is full, or its host is left alone for now.
            codelupe_downloader.git.CloneFailed: it could not be reached this time.
        """
        url, credential = self._settings.credential_for((known and known["url"]) or event.url)
        remote = git.Remote(url=url, protocols=self._settings.allowed_protocols, credential=credential)
        handling = _Handling(event, context, remote, self._settings)
        try:
            with _explained(url):
                outcome = await handling.run(known)
        except git.RepositoryGone as error:
            return await _record_gone(event, context, remote, error)
        if outcome.is_unmoved:
            await _record_unmoved(event, context, outcome)
        elif outcome.place is None or outcome.clone is None:
            await _record_empty(event, context, remote)
        else:
            await _record_clone(event, context, outcome.place, outcome.clone, outcome.moved)
        return None


class _Handling:
    """One attempt at one accepted repository."""

    def __init__(
        self, event: RepoAccepted, context: HandlerContext, remote: git.Remote, settings: DownloaderSettings
    ) -> None:
        self._event = event
        self._context = context
        self._remote = remote
        self._settings = settings
        self._key = str(context.idempotency_key)
        self._url = remote.url
        self._store = CloneStore(context.directories.repositories, event.repository_id, event.full_name)
        self._limits = (settings.max_size, settings.min_free_space)

    @cached_property
    def _hosts(self) -> Hosts:
        folder = self._context.directories.repositories
        return Hosts(self._context.database, folder, self._settings.concurrency_per_host)

    async def run(self, known: asyncpg.Record | None) -> Outcome:
        path = known["path"] if known else None
        finished, previous = await anyio.to_thread.run_sync(self._look, path)
        if finished:
            return Outcome(place=finished[0], clone=finished[1])
        if not self._remote.url.isprintable():
            raise git.RepositoryRefused("the URL holds unprintable characters")
        host = host_of(self._remote.url)
        try:
            async with self._hosts.asked(host), self._working_folder() as working:
                if known and await self._is_unmoved(known, previous, working):
                    return await self._stay(previous)
                return await self._fetch(previous, working)
        except git.HostClosed as error:
            raise await self._closed(host or "", error) from error

    def _look(self, path: str | None) -> tuple[tuple[Path, Clone] | None, tuple[Path, Clone] | None]:
        """The clone that this handling has made before, and else the one that the repository has."""
        self._store.clean_up(self._key)
        finished = self._store.find(self._key)
        return finished, None if finished else self._store.current(path)

    @asynccontextmanager
    async def _working_folder(self) -> AsyncIterator[Path]:
        """A new folder that is held by this process, and gone in the end."""
        working = self._store.working_folder(self._key, self._context.attempt)
        disk.require_space(working, self._settings.min_free_space)
        try:
            with held(working):
                yield working
        finally:
            if working.exists():
                with anyio.CancelScope(shield=True):
                    await anyio.to_thread.run_sync(remove_tree, working)

    async def _is_unmoved(self, known: asyncpg.Record, previous: tuple[Path, Clone] | None, working: Path) -> bool:
        """Whether HEAD stands where the clone does, or did before it was removed; a replay brings that one back."""
        position, handled = self._context.recorded.position, known["accepted_position"]
        is_removed = known["path"] is None and (handled is None or position > handled)
        is_there = previous is not None and previous[1].commit == known["commit"]
        if known["commit"] is None or not (is_there or (previous is None and is_removed)):
            return False
        with anyio.fail_after(self._settings.timeout.total_seconds()):
            head = await git.head_of(self._remote, mark=str(working))
        return bool(head == known["commit"])

    async def _stay(self, previous: tuple[Path, Clone] | None) -> Outcome:
        if previous is None:
            return Outcome(place=None, clone=None, is_unmoved=True)
        moved = await make_room(self._store, self._context)
        place = await anyio.to_thread.run_sync(self._store.move, previous[0])
        if place is not None and previous[1].url != self._url:
            await anyio.to_thread.run_sync(write_note, place, msgspec.structs.replace(previous[1], url=self._url))
        return Outcome(place=place or previous[0], clone=previous[1], is_unmoved=True, moved=moved)

    async def _fetch(self, previous: tuple[Path, Clone] | None, working: Path) -> Outcome:
        began = anyio.current_time()
        commit, base = await self._get(working, previous)
        await self._require_same_url()
        if commit is None:
            return Outcome(place=None, clone=None)
        moved = await make_room(self._store, self._context)
        finish = partial(self._finish, working, commit, base, anyio.current_time() - began)
        place, clone = await anyio.to_thread.run_sync(finish)
        if previous is not None and previous[0] != place:
            await anyio.to_thread.run_sync(self._store.leave, previous[0])
        return Outcome(place=place, clone=clone, moved=moved)

    async def _require_same_url(self) -> None:
        """What was fetched is another repository's, perhaps, if this one was given another name meanwhile."""
        known = await self._context.database.fetchrow(SQL.read_repository, self._event.repository_id)
        if known and known["url"] and self._settings.credential_for(known["url"])[0] != self._url:
            raise RetryLater(f"{self._url} was given another URL meanwhile", after=_RENAMED_PAUSE, counts=False)

    async def _get(self, working: Path, previous: tuple[Path, Clone] | None) -> tuple[str | None, Clone | None]:
        """The commit that lies in the folder then, and the clone that it was fetched on top of."""
        watch = disk.watcher(working, *self._limits)
        with anyio.fail_after(self._settings.timeout.total_seconds()):
            if previous is not None and previous[1].size_bytes <= _GROWTH * previous[1].cloned_bytes:
                with in_use(previous[0]) as is_there:
                    if is_there and (commit := await self._fetch_onto(previous[0], working)):
                        return commit, previous[1]
            arguments = (self._remote.url, working, self._remote.protocols, watch, self._remote.credential)
            return await git.clone(*arguments), None

    async def _fetch_onto(self, previous: Path, working: Path) -> str | None:
        """The commit; None, and an empty folder, if only a clone from nothing can help."""
        try:
            return await git.fetch(self._remote, previous, working, disk.watcher(working, *self._limits))
        except (git.RepositoryGone, git.HostClosed):
            raise
        except (git.CloneFailed, git.RepositoryRefused, disk.TooLarge, OSError) as error:
            self._context.log.info("fetch_failed", full_name=self._event.full_name, error=str(error))
            await anyio.to_thread.run_sync(clear, working)
            return None

    def _finish(self, working: Path, commit: str, base: Clone | None, seconds: float) -> tuple[Path, Clone]:
        size = disk.check(working, *self._limits)
        clone = Clone(
            repository_id=self._event.repository_id,
            key=self._key,
            commit=commit,
            size_bytes=size,
            seconds=seconds,
            url=self._url,
            cloned_bytes=base.cloned_bytes if base else size,
        )
        return self._store.install(working, clone), clone

    async def _closed(self, host: str, error: git.HostClosed) -> Exception:
        """Leave the host alone, unless it serves all but this repository."""
        waits = await self._hosts.close(host, error)
        refusals = (self._context.checkpoint or {}).get("refusals", 0) + 1
        is_served_to_others = waits == 1 and refusals >= _REFUSALS
        if error.after is None and (is_served_to_others or refusals >= _REFUSALS_IN_ALL):
            if error.status == 403:
                return git.RepositoryGone(str(error), "private")
            if error.status != 429:
                return git.RepositoryRefused(f"{host} could not serve it in {refusals} attempts: {error}")
        await self._context.save_checkpoint({"refusals": refusals})
        return await self._hosts.wait(host)


@contextmanager
def _explained(url: str) -> Iterator[None]:
    """Tell the log's worker what to do about each kind of failure."""
    try:
        yield
    except git.RepositoryGone:
        raise
    except (git.RepositoryRefused, disk.TooLarge) as error:
        raise Reject(f"{url} is not cloned: {error}{_advice(error)}") from error
    except git.DiskFull as error:
        raise _wait_for_space(error) from error
    except TimeoutError as error:
        raise git.CloneFailed(f"{url} took longer than the timeout") from error
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


async def _record_clone(
    event: RepoAccepted, context: HandlerContext, place: Path, clone: Clone, moved: tuple[tuple[str, Path], ...]
) -> None:
    root = context.directories.repositories
    path = place.relative_to(root).as_posix()
    async with context.transaction() as connection:
        places = await find_places(connection, root, [(event.repository_id, place), *moved])
        now_at = places.pop(event.repository_id, path)
        await connection.execute(
            SQL.record_clone, event.repository_id, clone.commit, now_at, clone.size_bytes, context.recorded.position
        )
        for repository_id, elsewhere in places.items():
            await connection.execute(SQL.record_path, repository_id, elsewhere)
        context.emit(
            RepoCloned(
                repository_id=event.repository_id,
                commit=clone.commit,
                path=path,
                size_bytes=clone.size_bytes,
                seconds=clone.seconds,
            )
        )
    context.log.info("repository_cloned", path=path, commit=clone.commit, size_bytes=clone.size_bytes)


async def _record_unmoved(event: RepoAccepted, context: HandlerContext, outcome: Outcome) -> None:
    root = context.directories.repositories
    path = outcome.place.relative_to(root).as_posix() if outcome.place else None
    async with context.transaction() as connection:
        await connection.fetch(SQL.hold_repositories, [event.repository_id, *(each for each, _ in outcome.moved)])
        await connection.execute(SQL.record_unmoved, event.repository_id, path, context.recorded.position)
        await record_places(connection, root, outcome.moved)
    context.log.info("repository_unmoved", full_name=event.full_name, path=path)


async def _record_empty(event: RepoAccepted, context: HandlerContext, remote: git.Remote) -> None:
    async with context.transaction() as connection:
        await connection.execute(SQL.record_empty, event.repository_id, context.recorded.position)
        context.emit(RepoEmpty(repository_id=event.repository_id, url=remote.url))
    context.log.info("repository_empty", full_name=event.full_name)


async def _record_gone(
    event: RepoAccepted, context: HandlerContext, remote: git.Remote, error: git.RepositoryGone
) -> None:
    async with context.transaction() as connection:
        await connection.execute(SQL.record_gone, event.repository_id, context.recorded.position)
        context.emit(
            RepoGone(
                repository_id=event.repository_id,
                full_name=event.full_name,
                url=remote.url,
                reason=error.reason,
                detail=str(error)[-_DETAIL_CHARACTERS:],
            )
        )
    context.log.info("repository_gone", full_name=event.full_name, reason=error.reason)


async def _remove_clone(event: RepoForgotten, context: HandlerContext) -> None:
    store = CloneStore(context.directories.repositories, event.repository_id, event.full_name)
    removed = await anyio.to_thread.run_sync(store.remove)
    context.log.info("clones_removed", full_name=event.full_name, paths=[str(path) for path in removed])
