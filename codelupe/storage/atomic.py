"""Files and folders that appear whole or not at all, whatever ends the process or the machine.

The order is always the same: write under a hidden name beside the target, bring what was written to the disk, rename
it, bring the entry of the folder to the disk. A crash after any of these steps leaves the old content or the new one.
What it leaves under hidden names, the next writer of the same target removes; two writers of one target at the same
time need a lock.

A folder goes to the disk by one syncfs(2) instead of an fsync(2) for each file: see ``docs/adr``.
"""

from __future__ import annotations

import ctypes
import errno
import glob
import os
import secrets
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self

_LIBC = ctypes.CDLL(None, use_errno=True)
_AT_FDCWD = -100
_RENAME_EXCHANGE = 2
_TOKEN_BYTES = 4
_SENT_TO_GROUPS = {-signal.SIGHUP, -signal.SIGINT, -signal.SIGTERM}
_CANNOT_EXCHANGE = {errno.EINVAL, errno.ENOSYS}
"""What a file system answers that cannot exchange two names, such as NFS."""


class AtomicFile:
    """A file under way, written through ``file`` in the place ``temporary``; missing parents of ``path`` are made.

    :meth:`commit` puts it in the place of an earlier one, :meth:`discard` leaves that as it is. As a context manager it
    commits at the end, and discards after an error.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.temporary = _hidden_beside(path)
        self.file: BinaryIO = self.temporary.open("xb")

    def commit(self) -> None:
        """Give it its name.

        Raises:
            OSError: the disk is full, or the path is that of a folder.
        """
        self.file.close()
        move_into_place(self.temporary, self.path, replace=True)

    def discard(self) -> None:
        """Close and delete what is not committed; does nothing after that."""
        with suppress(OSError):  # what it still had to write
            self.file.close()
        self.temporary.unlink(missing_ok=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            if error is None:
                self.commit()
        finally:
            self.discard()


def write_file(path: Path, content: bytes | str) -> None:
    """Give the file this content, a text as UTF-8, or leave it as it is; missing parents are made."""
    with AtomicFile(path) as written:
        written.file.write(content.encode() if isinstance(content, str) else content)


def write_link(path: Path, target: Path | str) -> None:
    """Let the symbolic link lead there, or leave it as it is."""
    temporary = _hidden_beside(path)
    try:
        temporary.symlink_to(target)
        move_into_place(temporary, path, replace=True)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def atomic_folder(path: Path, *, replace: bool = False) -> Iterator[Path]:
    """A new folder to fill. It becomes ``path`` when the block ends, and is deleted when the block raises.

    Raises:
        OSError: the disk is full, or ``path`` exists, is not empty and may not be replaced.
    """
    temporary = _hidden_beside(path)
    temporary.mkdir()
    try:
        yield temporary
        move_into_place(temporary, path, replace=replace)
    finally:
        remove_tree(temporary)


def move_into_place(source: Path, target: Path, *, replace: bool = False) -> None:
    """Bring a finished file, link or folder to the disk and rename it, within one file system.

    With ``replace`` it takes the place of an earlier one, which is deleted.

    Raises:
        OSError: the disk is full, or ``target`` exists: a file where no file may be replaced, a folder with anything in
            it where no folder may be, or something of another kind.
    """
    if not replace and not _is_folder(source) and os.path.lexists(target):
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(target))
    make_folder(target.parent)
    _sync(source)
    is_exchanged = replace and _is_folder(source) and _is_folder(target)
    if is_exchanged:
        _exchange(source, target)
    else:
        source.rename(target)
    sync_folder(target.parent)
    if source.parent != target.parent:
        sync_folder(source.parent)
    if is_exchanged:
        remove_tree(source)


def make_folder(path: Path) -> None:
    """Make a folder and its parents where they are missing, and bring the entries of the new ones to the disk."""
    if path.is_dir():
        return
    try:
        path.mkdir(exist_ok=True)
    except FileNotFoundError:
        make_folder(path.parent)
        path.mkdir(exist_ok=True)
    sync_folder(path.parent)


def sync_folder(path: Path) -> None:
    """Bring the names in a folder to the disk, such as those that an interrupted process has given."""
    _sync(path, alone=True)


def remove_tree(path: Path) -> None:
    """Delete a folder if it is there; unlike shutil.rmtree, rm(1) does not mind a thousand nested folders.

    It is begun again where it ends by a signal that a whole group of processes is sent, such as Ctrl-C.
    """
    command = ["rm", "-rf", "--", str(path)]
    while (ended := subprocess.run(command, check=False, capture_output=True)).returncode in _SENT_TO_GROUPS:
        pass
    ended.check_returncode()


def _hidden_beside(path: Path) -> Path:
    """A new name in the same folder, which is made; what earlier writers have left under such names is deleted."""
    make_folder(path.parent)
    token = "[0-9a-f]" * (2 * _TOKEN_BYTES)
    for left_over in path.parent.glob(f".{glob.escape(path.name)}.{token}.tmp"):
        remove_tree(left_over)
    return path.with_name(f".{path.name}.{secrets.token_hex(_TOKEN_BYTES)}.tmp")


def _sync(path: Path, *, alone: bool = False) -> None:
    """Bring a file to the disk, or a folder with all that it holds, or ``alone``: its names only."""
    if path.is_symlink():  # it lies in its folder
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        if alone or not path.is_dir():
            os.fsync(descriptor)
        else:
            _check(_LIBC.syncfs(descriptor), path)
    finally:
        os.close(descriptor)


def _is_folder(path: Path) -> bool:
    return path.is_dir() and not path.is_symlink()


def _exchange(one: Path, other: Path) -> None:
    """Exchange two names; at one stroke where the file system can, else the other is absent for a moment."""
    try:
        _check(_LIBC.renameat2(_AT_FDCWD, os.fsencode(one), _AT_FDCWD, os.fsencode(other), _RENAME_EXCHANGE), one)
    except OSError as error:
        if error.errno not in _CANNOT_EXCHANGE:
            raise
        aside = one.with_name(f"{one.name}.old")
        other.rename(aside)
        one.rename(other)
        aside.rename(one)


def _check(result: int, path: Path) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), str(path))
