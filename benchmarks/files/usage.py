"""What processes use."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress

import anyio
import anyio.to_thread
import psutil  # type: ignore[import-untyped]

_LOOK_SECONDS = 0.25


def cpu_seconds(pid: int | None = None) -> float:
    """Of this process, or that one, and all that came of it; the ended ones count if they were waited for."""
    total = 0.0
    for process in _family(pid):
        with suppress(psutil.Error):
            times = process.cpu_times()
            total += times.user + times.system + times.children_user + times.children_system
    return total


def memory_bytes() -> int:
    """Of this process and all that came of it; what several share counts once."""
    total = 0
    for process in _family(None):
        with suppress(psutil.Error):
            total += process.memory_full_info().pss
    return total


def _family(pid: int | None) -> Iterator[psutil.Process]:
    process = psutil.Process(pid)
    yield process
    yield from process.children(recursive=True)


class MemoryWatch:
    """The most memory that this process and its children held at any one look."""

    def __init__(self) -> None:
        self.peak_bytes = 0

    async def run(self) -> None:
        """Look until cancelled."""
        while True:
            self.peak_bytes = max(self.peak_bytes, await anyio.to_thread.run_sync(memory_bytes))
            await anyio.sleep(_LOOK_SECONDS)
