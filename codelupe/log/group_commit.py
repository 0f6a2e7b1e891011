"""Appending what many callers bring at the same time in few transactions."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

import anyio

from codelupe.log.entries import FEW, Appended, Entry, EventRefused

_ANSWER_SECONDS = 30
"""How long the database may take to append for others before they are told that it is away."""


class GroupCommit:
    """Appends what many callers bring at the same time in as few transactions as possible, without waiting for more.

    While one transaction is under way, events gather; the holder of the next turn, the leader, appends for all.
    """

    def __init__(self, publish_all: Callable[[Sequence[Entry]], Awaitable[list[Appended]]]) -> None:
        self._publish_all = publish_all
        self._turn = anyio.Lock(fast_acquire=True)
        self._gathered: list[_Waiting] = []

    async def append(self, entry: Entry) -> Appended:
        waiting = _Waiting(entry)
        self._gathered.append(waiting)
        async with self._turn:
            if not waiting.is_done:
                batch, self._gathered = self._gathered[:FEW], self._gathered[FEW:]
                if batch == [waiting]:
                    return (await self._publish_all([entry]))[0]
                await self._append_all(batch)
        return waiting.result()

    async def _append_all(self, batch: Sequence[_Waiting]) -> None:
        """The leader appends for all who wait: its cancellation must not leave them in doubt."""
        try:
            with anyio.fail_after(_ANSWER_SECONDS, shield=True):
                appended = await self._publish_all([waiting.entry for waiting in batch])
        except EventRefused as error:
            if len(batch) == 1:
                batch[0].error = error
            else:
                for waiting in batch:
                    await self._append_all([waiting])
        except Exception as error:
            for waiting in batch:
                waiting.error = error
        else:
            for waiting, one in zip(batch, appended, strict=True):
                waiting.appended = one


@dataclass(eq=False)
class _Waiting:
    entry: Entry
    appended: Appended | None = None
    error: Exception | None = None

    @property
    def is_done(self) -> bool:
        return self.appended is not None or self.error is not None

    def result(self) -> Appended:
        if self.error is not None:
            raise self.error
        assert self.appended is not None
        return self.appended
