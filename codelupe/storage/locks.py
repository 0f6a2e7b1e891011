"""Locks on files, by flock(2): the kernel frees them however the process ends."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


class FileLock:
    """An open lock file or folder. A child process that is given the ``descriptor`` holds the lock, too."""

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor

    def try_acquire(self) -> bool:
        """Hold it alone, if it is not held now."""
        return self._try(fcntl.LOCK_EX)

    def try_acquire_shared(self) -> bool:
        """Hold it with others, if it is not held by one alone now."""
        return self._try(fcntl.LOCK_SH)

    def acquire(self) -> None:
        """Wait until no other process holds it, then hold it alone."""
        fcntl.flock(self.descriptor, fcntl.LOCK_EX)

    def acquire_shared(self) -> None:
        """Wait until no other process holds it alone, then hold it with others."""
        fcntl.flock(self.descriptor, fcntl.LOCK_SH)

    def _try(self, kind: int) -> bool:
        try:
            fcntl.flock(self.descriptor, kind | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def is_of(self, path: Path) -> bool:
        """Whether what is locked still lies there."""
        try:
            return os.path.samestat(os.fstat(self.descriptor), path.lstat())
        except FileNotFoundError:
            return False

    def release(self) -> None:
        """Give it up; closing the file does so, too."""
        fcntl.flock(self.descriptor, fcntl.LOCK_UN)

    def write_holder(self) -> None:
        """Write the id of this process into the file, for :attr:`holder`."""
        os.ftruncate(self.descriptor, 0)
        os.pwrite(self.descriptor, f"{os.getpid()}\n".encode(), 0)

    @property
    def holder(self) -> str | None:
        """The id of the process that last said that it holds the lock."""
        return os.pread(self.descriptor, 100, 0).decode().strip() or None


@contextmanager
def open_lock(path: Path, *, mode: int = 0o666) -> Iterator[FileLock]:
    """Open a lock file, which is made if it is missing; at the end of the block the lock is given up.

    Raises:
        OSError: the file cannot be made or written, or is a symbolic link.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, mode)
    try:
        yield FileLock(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def open_folder_lock(path: Path) -> Iterator[FileLock]:
    """Open a folder as its own lock, which goes along when the folder is renamed and leaves no file behind.

    Raises:
        OSError: there is no such folder, or it is a symbolic link.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC | os.O_NOFOLLOW)
    try:
        yield FileLock(descriptor)
    finally:
        os.close(descriptor)
