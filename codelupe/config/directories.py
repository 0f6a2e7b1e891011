"""The directories on disk: made, checked, and the state directory held by one daemon at a time."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from codelupe.config.settings import Settings
from codelupe.errors import StateDirectoryError
from codelupe.log.retention import RetentionPolicy
from codelupe.storage.locks import open_lock


@dataclass(frozen=True, kw_only=True)
class Directories:
    """Where things lie on disk; all under the state directory unless settings say otherwise."""

    state: Path
    repositories: Path
    models: Path
    work: Path
    """Scratch space that may be deleted while the daemon is stopped; only time is lost."""


def locate_directories(settings: Settings) -> Directories:
    """Where things lie, as absolute paths; nothing is created."""
    state = _absolute(settings.state_dir)
    return Directories(
        state=state,
        repositories=_absolute(settings.repositories_dir or state / "repos"),
        models=_absolute(settings.models_dir or state / "models"),
        work=state / "work",
    )


def retention_policy(settings: Settings) -> RetentionPolicy | None:
    """What becomes of old events; None if they stay."""
    retention = settings.retention
    if retention.keep is None:
        return None
    folder = _absolute(retention.archive_dir or settings.state_dir / "archive")
    return RetentionPolicy(keep=retention.keep, archive=folder if retention.then == "archive" else None)


def create_directories(folders: Directories) -> None:
    """Create the folders.

    Raises:
        StateDirectoryError: one cannot be created or written.
    """
    for folder in (folders.state, folders.repositories, folders.models, folders.work):
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise _unusable(folder, error) from error
        if not os.access(folder, os.W_OK | os.X_OK):
            raise _unusable(folder, PermissionError("no write access"))


def check_directories(folders: Directories) -> None:
    """Make sure that :func:`create_directories` would do, as far as can be told without creating anything.

    Raises:
        StateDirectoryError: one is no folder, or cannot be created or written.
    """
    for folder in (folders.state, folders.repositories, folders.models, folders.work):
        try:
            place = next(each for each in (folder, *folder.parents) if os.path.lexists(each))
            if not stat.S_ISDIR(place.stat().st_mode):
                raise NotADirectoryError(f"{place} is not a folder")
        except OSError as error:
            raise _unusable(folder, error) from error
        if not os.access(place, os.W_OK | os.X_OK):
            raise _unusable(folder, PermissionError(f"no write access to {place}"))


@contextmanager
def held_by_one_daemon(state: Path) -> Iterator[None]:
    """Hold the directory's lock; the kernel frees it however the process ends.

    Raises:
        StateDirectoryError: another daemon has it, or the disk is full.
    """
    with ExitStack() as stack:
        try:
            lock = stack.enter_context(open_lock(state / "daemon.lock"))
            if is_ours := lock.try_acquire():
                lock.write_holder()
        except OSError as error:
            raise _unusable(state, error) from error
        if not is_ours:
            raise StateDirectoryError(
                f"another codelupe daemon (process {lock.holder or 'unknown'}) works in {state}",
                hint="Stop it, or give this one a directory of its own with CODELUPE_STATE_DIR.",
            )
        yield


def _absolute(path: Path) -> Path:
    return path.expanduser().resolve()


def _unusable(folder: Path, error: OSError) -> StateDirectoryError:
    return StateDirectoryError(
        f"the directory {folder} cannot be used: {error.strerror or error}",
        hint="Make room or give write access there, or name another one with CODELUPE_STATE_DIR.",
    )
