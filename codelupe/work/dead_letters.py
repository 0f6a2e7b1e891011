"""Dead letters: events that a subscription gave up on, kept until an operator retries or drops them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from codelupe.errors import CodelupeError
from codelupe.postgres import Database
from codelupe.postgres.queries import load_queries

SQL = load_queries("codelupe_sql", "dead_letters")
_LOG = load_queries("codelupe_sql", "log")
_LIKE_SPECIAL = re.compile(r"[\\%_]")


@dataclass(frozen=True, kw_only=True)
class DeadLetter:
    """One dead-lettered task; ``crashes`` counts the workers that died over it."""

    id: int
    subscription: str
    stream: str
    position: int
    event_id: UUID
    type: str
    attempts: int
    crashes: int
    dead_lettered_at: datetime
    error: str
    traceback: str


@dataclass(frozen=True, kw_only=True)
class Selection:
    """Those dead letters that fit all that is given; without anything, all of them."""

    ids: Sequence[int] | None = None
    subscription: str | None = None
    type: str | None = None
    stream: str | None = None
    """The stream's name, in which ``*`` stands for anything."""
    error: str | None = None
    """A part of the error, in the same case."""

    def as_arguments(self) -> tuple[Sequence[int] | None, str | None, str | None, str | None, str | None]:
        stream = None if self.stream is None else _LIKE_SPECIAL.sub(r"\\\g<0>", self.stream).replace("*", "%")
        return self.ids, self.subscription, self.type, stream, self.error


EVERYTHING = Selection()


async def list_dead_letters(
    database: Database, selection: Selection = EVERYTHING, *, after: int | None = None, at_most: int | None = None
) -> list[DeadLetter]:
    """The oldest first; ``at_most`` so many, which come ``after`` the one with that number.

    Raises:
        CodelupeError: one of the ``ids`` is not among them.
    """
    rows = await database.fetch(SQL.list_dead_letters, *selection.as_arguments(), after, at_most)
    letters = [DeadLetter(**dict(row)) for row in rows]
    _require_all(selection, [letter.id for letter in letters])
    return letters


async def count_dead_letters(database: Database, selection: Selection = EVERYTHING) -> int:
    """How many there are."""
    return int(await database.fetchval(SQL.count_dead_letters, *selection.as_arguments()))


async def retry_dead_letters(database: Database, selection: Selection) -> list[int]:
    """Make them ready again, as the same tasks; returns their ids.

    Raises:
        CodelupeError: one of the ``ids`` is not among them; nothing was done.
    """
    return await _act(database, SQL.retry_dead_letters, selection)


async def drop_dead_letters(database: Database, selection: Selection) -> list[int]:
    """Delete them; what waited behind them in their streams goes on. Returns their ids.

    Raises:
        CodelupeError: one of the ``ids`` is not among them; nothing was done.
    """
    return await _act(database, SQL.drop_dead_letters, selection)


async def _act(database: Database, statement: str, selection: Selection) -> list[int]:
    async with database.transaction() as connection:
        await connection.execute(SQL.hold_cursors, *selection.as_arguments())
        rows = await connection.fetch(statement, *selection.as_arguments())
        done = sorted(row["id"] for row in rows)
        _require_all(selection, done)
        touched = [row["subscription"] for row in rows], [row["stream"] for row in rows]
        await connection.execute(SQL.settle_streams, *touched)
    await database.execute(_LOG.notify_of_tasks)
    return done


def _require_all(selection: Selection, found: Sequence[int]) -> None:
    if missing := set(selection.ids or ()) - set(found):
        raise CodelupeError(f"there is no dead letter {min(missing)}", hint="`codelupe dead-letters list` names them.")
