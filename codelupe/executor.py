"""The executor of one machine: a pool of worker processes."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TypeVar

import anyio
import anyio.to_process

T = TypeVar("T")


class ProcessExecutor:
    """At most ``workers`` calls at a time, each in a process that is kept for the next one.

    A process that dies costs the call it was running, which raises :class:`anyio.BrokenWorkerProcess`. Cancelling
    the caller kills the process.
    """

    def __init__(self, workers: int | None = None) -> None:
        self._limiter = anyio.CapacityLimiter(workers or os.cpu_count() or 1)

    async def run(self, function: Callable[..., T], *arguments: object) -> T:
        return await anyio.to_process.run_sync(function, *arguments, cancellable=True, limiter=self._limiter)
