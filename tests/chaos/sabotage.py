"""Deliberately broken logs, so that the checker can show that it sees what it is there to see."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any

import anyio

from codelupe import Connection, HandlerContext, Subscription
from codelupe.work.batch_reader import BatchReader
from codelupe.work.subscriptions import Subscribed
from codelupe_events import RepoEmpty
from tests.chaos.plugin import RepoEchoed

_WINDOW_SECONDS = 0.02


def checkpoint_before_effect() -> None:
    """Commit that events are handled, then, in a transaction of its own, what their handler does."""
    _checkpoint_task_before_effect()
    _checkpoint_batch_before_effect()


def _checkpoint_task_before_effect() -> None:
    @asynccontextmanager
    async def transaction(self: HandlerContext) -> AsyncIterator[Connection]:
        async with self.database.transaction() as connection:
            await self._complete(connection)
        await anyio.sleep(_WINDOW_SECONDS)
        async with self.database.transaction() as connection:
            yield connection
            await self._log.append(connection, self._outbox.entries)
        self._conclude()

    HandlerContext.transaction = transaction  # type: ignore[method-assign]


def _checkpoint_batch_before_effect() -> None:
    handle, read_one = BatchReader._handle, BatchReader._read_one
    postponed = list[Any]()

    async def postpone(self: BatchReader, connection: Connection, batch: Any) -> bool:
        postponed.append(batch)
        return False

    async def read_one_then_handle(self: BatchReader) -> bool:
        more = await read_one(self)
        await anyio.sleep(_WINDOW_SECONDS)
        while postponed:
            async with self._runtime.log.database.transaction() as connection:
                await handle(self, connection, postponed.pop())
        return more

    BatchReader._handle = postpone  # type: ignore[method-assign]
    BatchReader._read_one = read_one_then_handle  # type: ignore[method-assign]


def claims_of_any_type() -> None:
    """Older code takes what only newer code wants, as if it had declared it."""
    own = vars(Subscribed)["kinds"].func
    echoed = RepoEchoed.__name__, RepoEchoed.version

    def kinds(self: Subscription) -> list[tuple[str, int]]:
        return [*own(self), echoed] if self.events == (RepoEmpty,) else own(self)

    Subscription.kinds = property(kinds)  # type: ignore[assignment, method-assign]


SABOTAGE: Mapping[str, Callable[[], None]] = {
    "checkpoint_before_effect": checkpoint_before_effect,
    "claims_of_any_type": claims_of_any_type,
}
