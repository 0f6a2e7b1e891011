"""A claimed task, and finishing it."""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import asyncpg

from codelupe.errors import LeaseLost
from codelupe.log.entries import Entry, columns_of, rows_of
from codelupe.log.event_log import SQL
from codelupe.log.records import Recorded
from codelupe.postgres import Connection

_TASK_LOST = "CL001"


@dataclass(frozen=True, kw_only=True)
class Task:
    """A claim on a task: its event, the fencing token, and what earlier attempts left."""

    subscription: str
    token: uuid.UUID
    recorded: Recorded
    attempts: int
    """Tries that failed."""
    crashes: int
    """Tries that ended with their process."""
    checkpoint: dict[str, Any] | None

    @classmethod
    def from_row(cls, subscription: str, row: asyncpg.Record) -> Task:
        return cls(
            subscription=subscription,
            token=row["task_token"],
            recorded=Recorded.from_row(row),
            attempts=row["attempts"],
            crashes=row["crashes"],
            checkpoint=row["checkpoint"],
        )

    @property
    def attempt(self) -> int:
        """1 for the first try, also counting tries that ended with their process."""
        return self.attempts + self.crashes + 1

    @property
    def key(self) -> tuple[str, str, int, uuid.UUID]:
        """What the statements about a claimed task begin with."""
        return self.subscription, self.recorded.stream, self.recorded.position, self.token

    def lost(self) -> LeaseLost:
        """The error that says that this claim holds no longer."""
        return LeaseLost(f"{self.subscription} on {self.recorded.stream} is another worker's by now")


async def complete(connection: Connection, task: Task, entries: Sequence[Entry]) -> None:
    """Finish the task and append a few events, in one statement.

    Raises:
        LeaseLost: the task is another worker's by now; nothing is done.
    """
    with _fenced(task):
        keys = [entry.key for entry in entries]
        await connection.execute(SQL.complete, *task.key, *columns_of(rows_of(entries)), keys)


async def finish(connection: Connection, task: Task) -> None:
    """Finish the task.

    Raises:
        LeaseLost: the task is another worker's by now.
    """
    with _fenced(task):
        await connection.execute(SQL.finish, *task.key)


@contextmanager
def _fenced(task: Task) -> Iterator[None]:
    try:
        yield
    except asyncpg.PostgresError as error:
        if getattr(error, "sqlstate", None) == _TASK_LOST:
            raise task.lost() from error
        raise
