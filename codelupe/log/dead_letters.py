"""Parked tasks: what a subscription gave up on, kept until somebody retries or drops it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from codelupe.log.event_log import SQL
from codelupe.postgres import Database


@dataclass(frozen=True, kw_only=True)
class DeadLetter:
    """One parked task; ``losses`` counts the workers that died over it."""

    id: int
    subscription: str
    stream: str
    position: int
    event_id: UUID
    type: str
    attempts: int
    losses: int
    parked_at: datetime
    error: str
    traceback: str


async def list_parked(database: Database, subscription: str | None = None) -> list[DeadLetter]:
    """All of them, or those of one subscription, the oldest first."""
    return [DeadLetter(**dict(row)) for row in await database.fetch(SQL.dead_letters, subscription)]


async def retry_parked(database: Database, ids: Sequence[int]) -> int:
    """Make them ready again, as the same tasks; returns how many."""
    rows = await database.fetch(SQL.retry_parked, ids)
    await database.execute(SQL.notify)
    return len(rows)


async def drop_parked(database: Database, ids: Sequence[int]) -> int:
    """Delete them; what waited behind them in their streams goes on. Returns how many."""
    rows = await database.fetch(SQL.drop_parked, ids)
    await database.execute(SQL.notify)
    return len(rows)
