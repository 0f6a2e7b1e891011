"""How much a clone takes, and how much may be taken."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import anyio
import anyio.to_thread

from codelupe_downloader.git import DiskFull, Watch

_BLOCK = 4096
"""Each file and folder counts in whole blocks of this size, so that a million empty files are not nothing."""
_LOOK_SECONDS = 0.1


class TooLarge(Exception):
    """The clone has passed the size limit."""


def check(folder: Path, max_size: int, min_free_space: int) -> int:
    """The folder's size in bytes.

    Raises:
        TooLarge: it has more than ``max_size`` bytes.
        codelupe_downloader.git.DiskFull: less than ``min_free_space`` bytes are free on its disk.
    """
    require_space(folder, min_free_space)
    size = size_on_disk(folder)
    if size > max_size:
        raise TooLarge(f"the clone has {size:,} bytes; at most {max_size:,} are allowed")
    return size


def require_space(folder: Path, min_free_space: int) -> None:
    """Make sure that so many bytes are free on the disk of a folder, which need not be there yet.

    Raises:
        codelupe_downloader.git.DiskFull: there are fewer.
    """
    free = shutil.disk_usage(folder.parent).free
    if free < min_free_space:
        raise DiskFull(f"{free:,} bytes are free on the disk, {min_free_space:,} must stay so")


def watcher(folder: Path, max_size: int, min_free_space: int, look: Callable[[Path, int, int], int] = check) -> Watch:
    """Looks at a growing folder until it breaks a limit of :func:`check`, at most a fifth of the time."""

    async def watch() -> Exception:
        took = 0.0
        while True:
            await anyio.sleep(max(_LOOK_SECONDS, 4 * took))
            began = anyio.current_time()
            try:
                await anyio.to_thread.run_sync(look, folder, max_size, min_free_space)
            except (TooLarge, DiskFull) as error:
                return error
            took = anyio.current_time() - began

    return watch


def size_on_disk(folder: Path) -> int:
    """Bytes below a folder that may change meanwhile, in blocks of 4 KiB."""
    size, waiting = 0, [str(folder)]
    while waiting:
        try:
            with os.scandir(waiting.pop()) as entries:
                for entry in entries:
                    size += -(-max(1, entry.stat(follow_symlinks=False).st_size) // _BLOCK) * _BLOCK
                    if entry.is_dir(follow_symlinks=False):
                        waiting.append(entry.path)
        except FileNotFoundError:
            continue
    return size
