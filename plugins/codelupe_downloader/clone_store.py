"""Where clones lie: ``{owner}/{repo}`` below the repositories' folder, each with a note of whose it is."""

from __future__ import annotations

import hashlib
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import msgspec

from codelupe import move_into_place, open_folder_lock, open_lock, remove_tree, sync_folder, write_file
from codelupe_git.clones import NOTE, Clone, clones_of, folder_name, places_of, read_note, safe_name, to_be_moved
from codelupe_git.process import end_processes

__all__ = ["Clone", "CloneStore", "folder_name", "read_note"]

_OLD_SECONDS = 86_400


class CloneStore:
    """The places that one repository's clone may have."""

    def __init__(self, root: Path, repository_id: str, full_name: str) -> None:
        self.root = root
        self._repository_id = repository_id
        self._places = places_of(root, repository_id, full_name)
        self.place = self._places[0]
        """Where it belongs, unless another repository of the same name lies there."""

    def find(self, key: str) -> tuple[Path, Clone] | None:
        """The clone that an earlier attempt of the same handling has finished."""
        for place in self._places:
            clone = read_note(place)
            if clone is not None and clone.key == key:
                sync_folder(place.parent)
                return place, clone
        return None

    def current(self, *paths: str | None) -> tuple[Path, Clone] | None:
        """The clone that the repository has by now, where it was last seen or under its present name."""
        for place in [*(self.root / path for path in paths if path), *self._places]:
            if self._is_ours(place) and (clone := read_note(place)):
                return place, clone
        return None

    def clean_up(self, key: str) -> None:
        """Remove what earlier attempts of the same handling have left unfinished."""
        left = list(self.root.glob(f".tmp/{key}.*"))
        if left:
            end_processes(f"{self.root}/.tmp/{key}.")
        for folder in left:
            remove_tree(folder)

    def working_folder(self, key: str, attempt: int) -> Path:
        """A new folder's path to clone into; its parent exists."""
        parent = self.root / ".tmp"
        parent.mkdir(parents=True, exist_ok=True)
        return parent / f"{key}.{attempt}.{_machine()}"

    def install(self, working: Path, clone: Clone) -> Path:
        """Give the clone its place, instead of the one of the repository that may lie there.

        Raises:
            OSError: also when another repository took the place at this very moment.
        """
        (working / NOTE).write_bytes(msgspec.json.encode(clone))
        place = self._free_place()
        move_into_place(working, place, replace=self._is_ours(place))
        return place

    def occupant(self) -> Clone | None:
        """The clone of another repository that lies where this one's belongs."""
        clone = read_note(self.place)
        return clone if clone is not None and clone.repository_id != self._repository_id else None

    def move(self, place: Path, *, out_of: Path | None = None) -> Path | None:
        """Put the repository's clone where it belongs, but not ``out_of`` that place into the same; where it is then.

        None if it is in use, or is not at ``place`` any more.
        """
        with open_lock(self.root / ".names.lock") as names, to_be_moved(place) as is_free:
            names.acquire()
            if not is_free or not self._is_ours(place):
                return None
            wanted = [each for each in self._places if each != out_of]
            target = next((each for each in wanted if each == place or not each.exists()), place)
            if target != place:
                move_into_place(place, target)
            return target

    def leave(self, previous: Path) -> None:
        """Remove the clone that the repository has had under an earlier name."""
        if self._is_ours(previous):
            remove_tree(previous)

    def remove(self) -> list[Path]:
        """Remove every clone of the repository, under whatever name it had; returns where they were."""
        ours = clones_of(self.root, self._repository_id)
        for place in ours:
            remove_tree(place)
        return ours

    def _free_place(self) -> Path:
        return next((each for each in self._places if self._is_ours(each) or not each.exists()), self._places[-1])

    def _is_ours(self, place: Path) -> bool:
        clone = read_note(place)
        return clone is not None and clone.repository_id == self._repository_id


def write_note(place: Path, clone: Clone) -> None:
    """Say of the clone there what is known by now."""
    write_file(place / NOTE, msgspec.json.encode(clone))


@contextmanager
def held(working: Path) -> Iterator[None]:
    """Make the folder, and keep it from being taken for a left-over."""
    with ExitStack() as stack:
        while not _make_and_hold(working, stack):
            stack.close()
        yield


def _make_and_hold(working: Path, stack: ExitStack) -> bool:
    """False if it was taken for a left-over at this very moment."""
    working.mkdir(exist_ok=True)
    try:
        lock = stack.enter_context(open_folder_lock(working))
    except FileNotFoundError:
        return False
    return lock.try_acquire() and lock.is_of(working)


def clear(working: Path) -> None:
    """Empty the folder."""
    for child in working.iterdir():
        remove_tree(child)


def remove_left_overs(root: Path) -> list[str]:
    """Remove what processes that have ended were cloning, and end their git; returns what it was called.

    Whether a process of another machine has ended is not known here: what it left goes when it is a day old.
    """
    found = [path for path in root.glob(".tmp/*") if path.is_dir() and not path.is_symlink()]
    return [left.name for left in found if _remove_left_over(left)]


def _remove_left_over(left: Path) -> bool:
    with suppress(FileNotFoundError), open_folder_lock(left) as lock:
        is_ours = left.name.endswith(f".{_machine()}")
        if lock.try_acquire() and (is_ours or left.stat().st_mtime < time.time() - _OLD_SECONDS):
            end_processes(f"{left}")
            remove_tree(left)
            return True
    return False


def _machine() -> str:
    return safe_name(socket.gethostname())


def remove_unused(root: Path, repository_id: str, path: str) -> bool:
    """Remove the repository's clone, unless it is in use by any process; whether it is not there any more.

    It goes at one stroke: nothing of it is seen half removed.
    """
    place = root / path
    clone = read_note(place)
    if clone is None or clone.repository_id != repository_id:
        return True
    aside = root / ".tmp" / f"removed.{hashlib.sha256(path.encode()).hexdigest()[:16]}.{_machine()}"
    with to_be_moved(place) as is_free:
        if not is_free:
            return not place.exists()
        aside.parent.mkdir(exist_ok=True)
        move_into_place(place, aside)
        remove_tree(aside)
    return True
