"""The pool: spreads items over worker processes, and finds the one of which a process died."""

from __future__ import annotations

import math
import os
import pickle
from collections.abc import Callable, Generator, Sequence
from typing import Any, Self, TypeVar

import anyio
import structlog

from codelupe.contracts.boundary import not_sent
from codelupe.executor.child import MIB, Answer, call
from codelupe.executor.contract import WorkerLost
from codelupe.executor.process import Died, Hung, Limits, WorkerProcess

T = TypeVar("T")

log = structlog.get_logger("codelupe.executor")

_CHUNK_ITEMS = 64
_CHUNK_BYTES = 1024 * 1024
_STARTS = 3
_FULL = 0.5
"""The share of its memory limit at which a process is replaced between two chunks: libraries leak."""


class ProcessExecutor:
    """At most ``workers`` chunks at a time (the CPUs this process may use, if None), each in a process that is kept.

    An item may use ``item_seconds`` of CPU time, or sleep four times as long. A process may hold ``memory_mib``;
    one that holds half of it is replaced when it has answered.
    """

    def __init__(self, workers: int | None = None, *, item_seconds: float = 30, memory_mib: int = 1024) -> None:
        self._workers = workers or len(os.sched_getaffinity(0))
        self._limits = Limits(item_seconds=item_seconds, memory_mib=memory_mib)
        self._slots = anyio.Semaphore(self._workers)
        self._idle: list[WorkerProcess] = []

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        while self._idle:
            await self._idle.pop().kill()

    async def run(self, function: Callable[..., T], *arguments: object) -> T:
        """See :meth:`codelupe.Executor.run`."""
        task, item = _pickled((call, (function,))), _pickled(arguments)
        try:
            results: list[T] = await self._answered(task, [item], limited=False)
        except Died as died:
            raise WorkerLost(died.reason) from None
        return results[0]

    async def map(self, function: Callable[..., T], items: Sequence[Any], *constants: object) -> list[T | WorkerLost]:
        """See :meth:`codelupe.Executor.map`."""
        task = _pickled((function, constants))
        chunks = _chunks(items, min(_CHUNK_ITEMS, math.ceil(len(items) / self._workers)))
        outcomes: dict[int, list[T | WorkerLost]] = {}
        errors: list[Exception] = []

        async def work() -> None:
            try:
                for start, chunk in chunks:
                    outcomes[start] = await self._outcomes(task, chunk)
            except Exception as error:  # noqa: BLE001 - raised below, when the others have put down their chunks
                errors.append(error)
                chunks.close()

        async with anyio.create_task_group() as group:
            for _ in range(min(self._workers, len(items))):
                group.start_soon(work)
        if errors:
            raise errors[0]
        return [outcome for start in sorted(outcomes) for outcome in outcomes[start]]

    async def _outcomes(self, task: bytes, items: list[bytes]) -> list[Any]:
        """A result for each item. Only one of which a process dies that had no other items is lost."""
        try:
            return await self._answered(task, items, limited=True)
        except Died as died:
            if died.position is None:
                raise WorkerLost(died.reason) from None
            if len(items) == 1:
                return [WorkerLost(died.reason)]
            at = died.position
        parts = [items[:at], items[at : at + 1], items[at + 1 :]]
        return [outcome for part in parts if part for outcome in await self._outcomes(task, part)]

    async def _answered(self, task: bytes, items: list[bytes], *, limited: bool) -> list[Any]:
        """The results; tried again if the process died of none of the items, as when it was killed while idle.

        It may be killed from outside while it unpickles a contribution, which is to blame only if it hangs, or if two
        processes in a row died of it, up to the last.
        """
        suspect = None
        for start in range(1, _STARTS + 1):
            try:
                answer = await self._ask(task, items, limited=limited)
                break
            except Died as died:
                part = None if died.loading is None else str(died.loading)
                place = {"position": died.position, "loading": part}
                log.warning("worker_process_died", reason=died.reason, items=len(items), **place)
                last = start == _STARTS
                if died.loading is not None and (isinstance(died, Hung) or (last and died.loading == suspect)):
                    raise not_sent(died.loading, died.reason) from None
                if last or (died.loading is None and died.position is not None):
                    raise
                suspect = died.loading
        if answer.error is not None:
            raise pickle.loads(answer.error)  # noqa: S301 - from our own process
        return [pickle.loads(result) for result in answer.results]  # noqa: S301 - from our own process

    async def _ask(self, task: bytes, items: list[bytes], *, limited: bool) -> Answer:
        async with self._slots:
            worker = self._idle.pop() if self._idle else await WorkerProcess.start(self._limits)
            try:
                answer = await worker.answer(task, items, limited=limited)
            except BaseException:
                await worker.kill()
                raise
            if answer.resident < _FULL * self._limits.memory_mib * MIB:
                self._idle.append(worker)
            else:
                await worker.kill()
            return answer


def _pickled(value: object) -> bytes:
    return pickle.dumps(value, pickle.HIGHEST_PROTOCOL)


def _chunks(items: Sequence[object], most: int) -> Generator[tuple[int, list[bytes]], None, None]:
    """Runs of pickled items, each with the index of its first."""
    start, chunk, size = 0, list[bytes](), 0
    for index, item in enumerate(items):
        payload = _pickled(item)
        if chunk and (len(chunk) == most or size + len(payload) > _CHUNK_BYTES):
            yield start, chunk
            start, chunk, size = index, [], 0
        chunk.append(payload)
        size += len(payload)
    if chunk:
        yield start, chunk
