"""How many connections may be out at once, so that what a task holds already does not keep it from going on."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field

import anyio

_HOST = "codelupe"

_depth: ContextVar[int] = ContextVar("connections held by the task and those it was started from", default=0)
_borrower: ContextVar[str] = ContextVar("whose work borrows connections", default=_HOST)


@contextmanager
def borrowed_by(name: str) -> Iterator[None]:
    """What runs inside the block, and what it starts, borrows for this subscription, job or service."""
    token = _borrower.set(name)
    try:
        yield
    finally:
        _borrower.reset(token)


def current_borrower() -> str:
    """The one for which the code that runs now borrows; ``codelupe`` for the host itself."""
    return _borrower.get()


class SlotTimeout(TimeoutError):
    """No slot came free in time. ``held`` says by how many borrowers' names they were taken, most first."""

    def __init__(self, held: Mapping[str, int]) -> None:
        super().__init__()
        self.held = held


@dataclass(eq=False)
class _Waiter:
    limit: float
    borrower: str
    granted: anyio.Event = field(default_factory=anyio.Event)


class Slots:
    """``total`` slots; with ``nested``, a third of them, and at least two, are only for tasks that hold some.

    A task that holds one and waits for another gives neither back. So one that holds none leaves the reserve alone, one
    that holds one leaves half of it, and so on: whatever the others do, some task always comes to its end.
    """

    def __init__(self, total: float, *, nested: bool = False) -> None:
        self.total = total
        self._reserve = min(max(2, int(total) // 3), int(total) - 1) if nested else 0
        self._nested = nested
        self._used = 0
        self._held: Counter[str] = Counter()
        self._waiters: list[_Waiter] = []

    async def acquire(self, at_most: float) -> str:
        """Take a slot; returns its borrower, for :meth:`release`.

        Raises:
            SlotTimeout: none came free within so many seconds.
        """
        limit, borrower = self.total - (self._reserve >> _depth.get()), current_borrower()
        if self._used < limit:
            self._grant(borrower)
        else:
            await self._wait(_Waiter(limit, borrower), at_most)
        if self._nested:
            _depth.set(_depth.get() + 1)
        return borrower

    def release(self, borrower: str) -> None:
        if self._nested:
            _depth.set(max(0, _depth.get() - 1))
        self._free(borrower)

    async def _wait(self, waiter: _Waiter, at_most: float) -> None:
        self._waiters.append(waiter)
        is_ours = False
        try:
            with anyio.move_on_after(at_most):
                await waiter.granted.wait()
                is_ours = True
        finally:
            if waiter in self._waiters:
                self._waiters.remove(waiter)
            elif not is_ours:  # it was granted at the same moment
                self._free(waiter.borrower)
        if not is_ours:
            raise SlotTimeout(dict((+self._held).most_common()))

    def _grant(self, borrower: str) -> None:
        self._used += 1
        self._held[borrower] += 1

    def _free(self, borrower: str) -> None:
        """The next is who holds most, and among equals who waits longest."""
        self._used -= 1
        self._held[borrower] -= 1
        admitted = [waiter for waiter in self._waiters if self._used < waiter.limit]
        if admitted:
            chosen = max(admitted, key=lambda waiter: waiter.limit)
            self._waiters.remove(chosen)
            self._grant(chosen.borrower)
            chosen.granted.set()
