"""What is asked of a system under measurement; one that has no facility for something leaves its method out."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from types import TracebackType
from typing import ClassVar, Protocol, Self

HANDLERS = 16
"""How many events are handled at once where each has a transaction of its own."""

Seen = Callable[[int], None]
"""Called with an event's ``sent_ns`` the moment its handler has it, in whatever thread that is."""


class System(Protocol):
    """One way to use one database. Entering it opens connections and starts what runs in the background."""

    name: ClassVar[str]
    url: str

    def __init__(self, url: str) -> None: ...

    async def install(self) -> None:
        """Create its tables in an empty database; called before it is entered, once."""
        ...

    async def __aenter__(self) -> Self: ...

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None: ...


class Closing:
    """Remembers what a system opens, and closes it."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._stack = AsyncExitStack()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self._stack.aclose()


class Appends(System, Protocol):
    async def append(self, size: int, connections: int, seconds: float) -> float:
        """Append transactions of ``size`` events for that long; returns events a second."""
        ...


class Handles(System, Protocol):
    async def handle(self, count: int) -> float:
        """Handle that many waiting events, each with an effect row and an emitted event, claimed one at a time.

        The clock stops when every event is marked as done. Returns events a second.
        """
        ...


class HandlesBatches(System, Protocol):
    async def handle_batches(self, count: int, size: int) -> float:
        """As :meth:`Handles.handle`, claimed ``size`` at a time."""
        ...


class Reads(System, Protocol):
    async def read(self, count: int, size: int) -> float:
        """Read that many events in order, ``size`` at a time, and keep a checkpoint; returns events a second."""
        ...


class Sends(System, Protocol):
    async def send(self, number: int) -> None:
        """Append one event that carries the time just before."""
        ...


class Delivers(Sends, Protocol):
    def consuming(self, seen: Seen) -> AbstractAsyncContextManager[None]:
        """Hand every event that is sent to a handler, which calls ``seen``, inside the block."""
        ...


class DeliversBeside(Sends, Protocol):
    def consuming_beside(self, seen: Seen, count: int) -> AbstractAsyncContextManager[None]:
        """As :meth:`Delivers.consuming`, while so many other events wait and cannot be handled."""
        ...
