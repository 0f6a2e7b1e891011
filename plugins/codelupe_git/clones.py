"""Clones below the repositories' folder: whose they are, where they lie, and who is at work in them."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import msgspec

from codelupe import FileLock, open_lock

NOTE = Path(".git", "codelupe.json")
LOCK = Path(".git", "codelupe.lock")
_NAME_CHARACTERS = 100


class Clone(msgspec.Struct, frozen=True, kw_only=True):
    """What is known about a finished clone; it is written into the clone before that gets its name."""

    repository_id: str
    key: str
    """The idempotency key of the handling that made it."""
    commit: str
    size_bytes: int
    seconds: float
    url: str | None = None
    """What its repository was called when it was fetched, without a credential; None: not known."""
    cloned_bytes: int = 0
    """Its size when it was last cloned from nothing; what was fetched since has come on top. 0: not known."""


def read_note(place: Path) -> Clone | None:
    """What the clone at a place says about itself; None if there is none, or one that is not of our making."""
    try:
        return msgspec.json.decode((place / NOTE).read_bytes(), type=Clone)
    except (OSError, msgspec.DecodeError):
        return None


def places_of(root: Path, repository_id: str, full_name: str) -> list[Path]:
    """Where a repository's clone may lie: under its name, or beside it if another one of that name lies there."""
    place = root / folder_name(full_name)
    distinction = hashlib.sha256(repository_id.encode()).hexdigest()[:8]
    return [place, place.with_name(f"{place.name}~{distinction}")]


def folder_name(full_name: str) -> Path:
    """``owner/repo`` with nothing in it that a path, a shell or a terminal could trip over."""
    owner, _, repo = full_name.rpartition("/")
    return Path(safe_name(owner), safe_name(repo))


def safe_name(name: str) -> str:
    """A file name that says much the same."""
    return re.sub(r"[^A-Za-z0-9._+-]+", "_", name).lstrip(".-")[:_NAME_CHARACTERS] or "_"


def clones_of(root: Path, repository_id: str) -> list[Path]:
    """Every clone of a repository, under whatever name it had; looks at each clone below ``root``."""
    places = [note.parent.parent for note in root.glob(f"*/*/{NOTE}")]
    return [place for place in places if (clone := read_note(place)) and clone.repository_id == repository_id]


@contextmanager
def in_use(place: Path) -> Iterator[bool]:
    """Keep the clone there from being moved or removed, together with others who use it.

    False if it is being moved or removed now, or is not there.
    """
    with ExitStack() as stack:
        lock = _open(place, stack)
        yield lock.try_acquire_shared() and lock.is_of(place / LOCK) if lock else place.is_dir()


@contextmanager
def to_be_moved(place: Path) -> Iterator[bool]:
    """Keep others from using the clone there; False if it is in use by any process now, or is not there."""
    with ExitStack() as stack:
        lock = _open(place, stack)
        yield lock is not None and lock.try_acquire() and lock.is_of(place / LOCK)


def _open(place: Path, stack: ExitStack) -> FileLock | None:
    """A file's, since a folder's is known on one machine only; None if there is no clone."""
    with suppress(FileNotFoundError, NotADirectoryError):
        return stack.enter_context(open_lock(place / LOCK))
    return None
