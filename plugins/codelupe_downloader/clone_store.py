"""Where clones lie: ``{owner}/{repo}`` below the repositories' folder, each with a note of whose it is."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

import msgspec

from codelupe import move_into_place, remove_tree, sync_folder
from codelupe_git.process import end_processes

_NOTE = Path(".git", "codelupe.json")
_NAME_CHARACTERS = 100


class Clone(msgspec.Struct, frozen=True, kw_only=True):
    """What is known about a finished clone; it is written into the clone before that gets its name."""

    repository_id: str
    key: str
    """The idempotency key of the handling that made it."""
    commit: str
    size_bytes: int
    seconds: float


class CloneStore:
    """The places that one repository's clone may have."""

    def __init__(self, root: Path, repository_id: str, full_name: str) -> None:
        self.root = root
        self._repository_id = repository_id
        place = root / folder_name(full_name)
        distinction = hashlib.sha256(repository_id.encode()).hexdigest()[:8]
        self._places = [place, place.with_name(f"{place.name}~{distinction}")]

    def find(self, key: str) -> tuple[Path, Clone] | None:
        """The clone that an earlier attempt of the same handling has finished."""
        for place in self._places:
            clone = read_note(place)
            if clone is not None and clone.key == key:
                sync_folder(place.parent)
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
        return parent / f"{key}.{attempt}"

    def install(self, working: Path, clone: Clone) -> Path:
        """Give the clone its place, instead of the one of the repository that may lie there.

        Raises:
            OSError: also when another repository took the place at this very moment.
        """
        (working / _NOTE).write_bytes(msgspec.json.encode(clone))
        place = next((each for each in self._places if self._is_ours(each) or not each.exists()), self._places[-1])
        move_into_place(working, place, replace=self._is_ours(place))
        return place

    def leave(self, previous: Path) -> None:
        """Remove the clone that the repository has had under an earlier name."""
        if self._is_ours(previous):
            remove_tree(previous)

    def remove(self) -> list[Path]:
        """Remove every clone of the repository, under whatever name it had; returns where they were."""
        ours = [note.parent.parent for note in self.root.glob(f"*/*/{_NOTE}") if self._is_ours(note.parent.parent)]
        for place in ours:
            remove_tree(place)
        return ours

    def _is_ours(self, place: Path) -> bool:
        clone = read_note(place)
        return clone is not None and clone.repository_id == self._repository_id


def read_note(place: Path) -> Clone | None:
    """What the clone at a place says about itself; None if there is none, or one that is not of our making."""
    try:
        return msgspec.json.decode((place / _NOTE).read_bytes(), type=Clone)
    except (OSError, msgspec.DecodeError):
        return None


def folder_name(full_name: str) -> Path:
    """``owner/repo`` with nothing in it that a path, a shell or a terminal could trip over."""
    owner, _, repo = full_name.rpartition("/")
    return Path(_safe(owner), _safe(repo))


def _safe(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9._+-]+", "_", name).lstrip(".-")[:_NAME_CHARACTERS] or "_"
