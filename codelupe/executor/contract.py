"""What an executor promises."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol, Self, TypeVar, runtime_checkable

T = TypeVar("T")


class WorkerLost(Exception):
    """Work that took its worker process with it, or ran into a limit; ``reason`` says which, fit to be shown."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


@runtime_checkable
class Executor(Protocol):
    """Where CPU-heavy functions run, out of the event loop's way, in processes that are kept.

    Functions are module-level ones; functions, arguments and results are pickled. What a function raises is raised
    to the caller. Cancelling the caller stops the work. The daemon enters the executor before the first call, where
    it may raise a :class:`CodelupeError`, and leaves it after the last.

    A rule or scorer among the arguments that cannot be pickled, or be unpickled in the worker process, is a failure of
    the plugin that offers it, and is raised as such.
    """

    async def run(self, function: Callable[..., T], *arguments: object) -> T:
        """One call, without a limit on its time.

        Raises:
            WorkerLost: it took its process with it.
        """
        ...

    async def map(self, function: Callable[..., T], items: Sequence[Any], *constants: object) -> list[T | WorkerLost]:
        """``function(item, *constants)`` for each of the items, in as many processes as there are.

        An item that kills its process or exceeds the limits of time and memory costs only itself: in its place is a
        :class:`WorkerLost`. A function may be called twice with an item, when the process dies of another one.
        """
        ...

    async def __aenter__(self) -> Self: ...

    async def __aexit__(self, *_: object) -> None: ...
