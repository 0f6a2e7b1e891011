"""The executor on Ray. Ray places actors on its machines; each keeps a worker process like those of a daemon's pool.

So the limits hold there as they do here, and what ruins a process costs no actor.
"""

from __future__ import annotations

import asyncio
import logging
import os
import secrets
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from typing import Any, Self, TypeVar

import anyio

from codelupe import CodelupeError, ProcessExecutor, WorkerLost
from codelupe_ray.settings import RaySettings

T = TypeVar("T")

_CHUNK_ITEMS = 64
_STORE_BYTES = 256 * 1024 * 1024
"""The object store of a Ray of our own: it holds chunks on their way."""
_RETRIES = 3
"""How often a call is made again when Ray has lost the machine it ran on."""


class RayUnavailable(CodelupeError):
    """Ray is not installed, or the cluster cannot be reached."""

    code = "ray-unavailable"
    exit_code = 69


class WorkerSlot:
    """The actor: one worker process, somewhere in the cluster."""

    def __init__(self, item_seconds: float, memory_mib: int) -> None:
        self._executor = ProcessExecutor(1, item_seconds=item_seconds, memory_mib=memory_mib)

    async def run(self, function: Callable[..., T], arguments: tuple[object, ...]) -> T:
        return await self._executor.run(function, *arguments)

    async def map(
        self, function: Callable[..., T], items: Sequence[Any], constants: tuple[object, ...]
    ) -> list[T | WorkerLost]:
        return await self._executor.map(function, items, *constants)


class RayExecutor:
    """See :class:`codelupe.Executor`."""

    def __init__(self, settings: RaySettings) -> None:
        self._settings = settings
        self._slots: list[Any] = []
        self._free = anyio.Semaphore(0)
        # Ray's calls that block. Its processes on this machine die with the thread that started them, so it is kept.
        # In a thread Ray leaves the daemon's signals alone, too.
        self._thread = ThreadPoolExecutor(1, "ray")

    async def __aenter__(self) -> Self:
        self._slots = await self._blocking(_connect, self._settings)
        for _ in self._slots:
            self._free.release()
        return self

    async def __aexit__(self, *_: object) -> None:
        with anyio.CancelScope(shield=True):
            await self._blocking(_disconnect, self._slots)
        self._thread.shutdown()

    async def run(self, function: Callable[..., T], *arguments: object) -> T:
        """See :meth:`codelupe.Executor.run`."""
        result: T = await self._call("run", function, arguments)
        return result

    async def map(self, function: Callable[..., T], items: Sequence[Any], *constants: object) -> list[T | WorkerLost]:
        """See :meth:`codelupe.Executor.map`."""
        import ray

        shared = await self._blocking(ray.put, constants)
        outcomes: dict[int, list[T | WorkerLost]] = {}

        async def work(start: int) -> None:
            outcomes[start] = await self._call("map", function, items[start : start + _CHUNK_ITEMS], shared)

        try:
            async with anyio.create_task_group() as group:
                for start in range(0, len(items), _CHUNK_ITEMS):
                    group.start_soon(work, start)
        except ExceptionGroup as failed:
            raise failed.exceptions[0] from None
        return [outcome for start in sorted(outcomes) for outcome in outcomes[start]]

    def _blocking(self, function: Callable[..., T], *arguments: object) -> Awaitable[T]:
        return asyncio.get_running_loop().run_in_executor(self._thread, copy_context().run, function, *arguments)

    async def _call(self, method: str, *arguments: object) -> Any:
        import ray

        async with self._free:
            slot = self._slots.pop()
            try:
                return await _outcome(getattr(slot, method).remote(*arguments))
            except ray.exceptions.RayTaskError as error:
                raise error.cause from None
            finally:
                self._slots.append(slot)


async def _outcome(reference: Any) -> Any:
    import ray

    try:
        return await reference
    except anyio.get_cancelled_exc_class():
        ray.cancel(reference)
        raise


def _connect(settings: RaySettings) -> list[Any]:
    """The actors, on a cluster or on a Ray of our own."""
    # Ray's handler of SIGTERM sets an alarm that aborts whatever process still runs three seconds later.
    os.environ.setdefault("RAY_DISABLE_FAILURE_SIGNAL_HANDLER", "1")
    try:
        import ray
    except ImportError:
        hint = "Install the extra: pip install 'codelupe[ray]'."
        raise RayUnavailable("executor = 'ray', but Ray is not installed", hint=hint) from None
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    options: dict[str, Any] = {"address": settings.address}
    if settings.address is None:
        options = {"address": "local", "num_cpus": settings.workers, "object_store_memory": _STORE_BYTES}
        # Ray would keep a token in the home folder, which a service need not have.
        os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))
    try:
        ray.init(include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR, **options)
    except (ConnectionError, ValueError, RuntimeError, ray.exceptions.RayError) as error:
        hint = "Check [plugins.ray], that Ray runs there, and its RAY_AUTH_MODE and token."
        raise RayUnavailable(f"Ray at {settings.address or 'this machine'}: {error}", hint=hint) from error
    resources: dict[str, float] = ray.cluster_resources()  # type: ignore[no-untyped-call]
    workers = settings.workers or int(resources["CPU"])
    actor: Any = ray.remote(num_cpus=1, max_restarts=-1, max_task_retries=_RETRIES)(WorkerSlot)
    return [actor.remote(settings.file_seconds, settings.worker_mib) for _ in range(workers)]


def _disconnect(slots: Sequence[Any]) -> None:
    import ray

    for slot in slots:
        ray.kill(slot)
    ray.shutdown()
