"""Other processes, as tests see them."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

import anyio

HANGS = 60
"""Seconds after which what a test waits for hangs, on the slowest of machines."""


async def wait_until_gone(pid: int) -> None:
    with anyio.fail_after(HANGS):
        while Path(f"/proc/{pid}/stat").exists():
            await anyio.sleep(0.01)


async def read_pid(path: Path, hangs: float = HANGS) -> int:
    with anyio.fail_after(hangs):
        while not path.exists() or not path.read_text():
            await anyio.sleep(0.01)
    return int(path.read_text())


def cpu_seconds(call: Callable[[], object]) -> float:
    """What a call takes, to be compared with what another takes on the same machine."""
    began = time.process_time()
    call()
    return time.process_time() - began


def children() -> set[int]:
    """The processes that this one has started and that are still there."""
    found = set()
    for status in Path("/proc").glob("[0-9]*/stat"):
        try:
            pid, parent = int(status.parent.name), int(status.read_text().rpartition(")")[2].split()[1])
        except (FileNotFoundError, ProcessLookupError):
            continue
        if parent == os.getpid():
            found.add(pid)
    return found
