"""Locks on files: the kernel frees them however the process ends."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from codelupe import open_lock


@contextmanager
def exclusive(path: Path) -> Iterator[None]:
    """Wait until no other process holds the lock, then hold it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with open_lock(path) as lock:
        lock.acquire()
        yield
