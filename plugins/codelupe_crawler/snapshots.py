"""Turning plain files into a git repository with one commit, the same one wherever the files are the same."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import IO, cast

import anyio
import anyio.to_thread

from codelupe import atomic_folder
from codelupe_crawler import git
from codelupe_crawler.copies import REVISION_FILE, revision_of
from codelupe_git import process

Files = Iterable[tuple[str, bytes]]
_IDENTITY = b"CodeLupe <codelupe@localhost> 946684800 +0000"
"""Who commits, and when (the first second of 2000): fixed, so that the commit's id depends on the files alone."""


class Snapshots:
    """Bare repositories in one folder, each whole or not there."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._lock = anyio.Lock()

    async def keep(self, name: str, revision: str, files: Callable[[], Files]) -> str:
        """Make sure that ``name`` holds these files at this revision, asking for them if not; returns its URL.

        Raises:
            OSError: the folder cannot be written.
            codelupe_crawler.git.GitFailed: git refused.
        """
        place = self._folder / name
        async with self._lock:
            await anyio.to_thread.run_sync(_keep, place, revision, files)
        return place.as_uri()


def _keep(place: Path, revision: str, files: Callable[[], Files]) -> None:
    if revision_of(place) == revision:
        return
    with atomic_folder(place, replace=True) as unfinished:
        commit(unfinished, files(), message=f"{place.name} {revision}")
        (unfinished / REVISION_FILE).write_text(revision)


def commit(repository: Path, files: Files, *, message: str) -> None:
    """Make an empty folder a bare repository whose branch ``main`` holds the files in one commit."""
    at = f"--git-dir={repository}"
    git.run(at, "init", "--bare", "--quiet", "--template=", "--initial-branch=main")
    with process.start(at, "fast-import", "--quiet", "--done", stdin=subprocess.PIPE) as importing:
        with suppress(BrokenPipeError):  # git gave up; its message says why
            _write_stream(cast("IO[bytes]", importing.stdin), files, message)
        git.check(importing, importing.communicate()[1])


def _write_stream(stream: IO[bytes], files: Files, message: str) -> None:
    """Speak the language of git-fast-import(1)."""
    stream.write(b"commit refs/heads/main\nauthor %s\ncommitter %s\n" % (_IDENTITY, _IDENTITY))
    _write_data(stream, message.encode() + b"\n")
    for path, content in files:
        stream.write(b"M 100644 inline %s\n" % _quoted(os.fsencode(path)))
        _write_data(stream, content)
    stream.write(b"done\n")


def _write_data(stream: IO[bytes], data: bytes) -> None:
    stream.write(b"data %d\n%s\n" % (len(data), data))


def _quoted(path: bytes) -> bytes:
    return b'"' + path.replace(b"\\", b"\\\\").replace(b'"', b'\\"').replace(b"\n", b"\\n") + b'"'
