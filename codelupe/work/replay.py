"""Handing events to a subscription again."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from codelupe.errors import CodelupeError
from codelupe.log.event_log import SQL
from codelupe.log.retention import require_kept
from codelupe.postgres import Database
from codelupe.work.subscriptions import Subscribed


@dataclass(frozen=True, kw_only=True)
class Replay:
    """Which events: those after a position, of one stream or of all."""

    subscription: Subscribed
    after: int
    stream: str | None = None


async def position_before(database: Database, moment: datetime) -> int:
    """The position of the last event recorded before the moment."""
    return int(await database.fetchval(SQL.position_at_time, moment))


async def count_replay(database: Database, replay: Replay) -> int:
    """How many events the replay would hand out; those not handed out yet are not counted."""
    types, name = replay.subscription.event_types, replay.subscription.name
    return int(await database.fetchval(SQL.replayable_events, name, types, replay.after, replay.stream))


async def start_replay(database: Database, replay: Replay) -> None:
    """Rewind the cursor, or hand one stream's events out again; a running daemon begins at once.

    Events that still wait are not doubled. What the handler emits again has the same keys and is not appended
    twice, unless the subscription's version was raised.

    Raises:
        CodelupeError: the subscription says that it must not be replayed.
        EventsRetired: the log does not have the first of these events any more.
    """
    subscription = replay.subscription
    if not subscription.replayable:
        raise CodelupeError(
            f"{subscription.name} must not be replayed: its plugin says that its effects cannot be repeated"
        )
    async with database.transaction() as connection:
        await require_kept(connection, replay.after + 1)
        if replay.stream is None:
            await connection.execute(SQL.rewind, subscription.name, replay.after)
        else:
            await connection.execute(SQL.redeliver_stream, subscription.name, replay.stream, replay.after)
    await database.execute(SQL.notify_of_tasks)
