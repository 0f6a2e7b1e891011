"""Writers that append at the same time, to streams that they share, and hold their transactions open for a while."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

import anyio
from anyio.streams.memory import MemoryObjectReceiveStream

from codelupe.errors import DatabaseUnavailable
from codelupe.log import Entry, EventLog
from codelupe.log.records import derive_key
from codelupe.postgres import Connection
from codelupe.postgres.queries import load_queries
from codelupe_events import BatchReady

SQL = load_queries("tests.chaos", "chaos")
_SIZES = (1, 1, 1, 2, 5, 40)
_HOLDS_SECONDS = (0.0, 0.02, 0.3)
_HOLDS_WEIGHTS = (80, 17, 3)
_RETRY_SECONDS = 0.1


@dataclass(frozen=True, kw_only=True)
class Root:
    """An event to append: its number and the batch whose stream it goes to."""

    number: int
    batch: int

    def event(self) -> BatchReady:
        return BatchReady(batch_id=self.batch, files=self.number, characters=0, repositories=0, min_score=0)


@dataclass(frozen=True, kw_only=True)
class Chunk:
    """What one transaction appends; half of them with idempotency keys."""

    number: int
    roots: Sequence[Root]

    @property
    def has_keys(self) -> bool:
        return self.number % 2 == 0

    def entries(self) -> list[Entry]:
        return [Entry(event=root.event(), key=self._key(root)) for root in self.roots]

    def _key(self, root: Root) -> uuid.UUID | None:
        return derive_key("chaos", root.number) if self.has_keys else None


def cut_into_chunks(roots: Sequence[Root], random: Random) -> list[Chunk]:
    """All of them, in order, in pieces of random size."""
    chunks, begin = list[Chunk](), 0
    while begin < len(roots):
        end = begin + random.choice(_SIZES)
        chunks.append(Chunk(number=len(chunks), roots=roots[begin:end]))
        begin = end
    return chunks


class Appender:
    """One of the writers."""

    def __init__(self, log: EventLog, random: Random) -> None:
        self._log = log
        self._random = random

    async def append_all(self, chunks: MemoryObjectReceiveStream[Chunk]) -> None:
        """Until there are no more, each for certain and once."""
        async with chunks:
            async for chunk in chunks:
                await self._append_surely(chunk)

    async def _append_surely(self, chunk: Chunk) -> None:
        """A broken connection does not say whether its commit came through; trying again must be harmless."""
        while True:
            try:
                async with self._log.database.transaction() as connection:
                    if chunk.has_keys or await connection.fetchval(SQL.mark_append, chunk.number) is not None:
                        await self._append(connection, chunk)
            except DatabaseUnavailable:
                await anyio.sleep(_RETRY_SECONDS)
            else:
                return self._log.notifier.announce()

    async def _append(self, connection: Connection, chunk: Chunk) -> None:
        await self._log.append(connection, chunk.entries())
        [longest] = self._random.choices(_HOLDS_SECONDS, _HOLDS_WEIGHTS)
        await anyio.sleep(longest * self._random.random())
