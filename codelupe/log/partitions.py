"""The log's partitions: what each holds, and what keeps it in the database."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from codelupe.postgres import Connection, Database
from codelupe.postgres.queries import load_queries

SQL = load_queries("codelupe_sql", "retention")


@dataclass(frozen=True, kw_only=True)
class Partition:
    """One partition: positions ``first`` to ``last``, the latter not included."""

    name: str
    first: int
    last: int
    state: str
    """``ahead``, ``open``, ``full``, ``indexed`` or ``retired``."""
    events: int
    """An estimate."""
    bytes: int
    """With its indexes."""
    oldest: datetime | None
    newest: datetime | None
    age: timedelta | None
    """Of its newest event; None if it has none."""
    subscriptions_before: Sequence[str]
    """Those whose cursor has not passed it."""
    subscriptions_with_tasks: Sequence[str]

    def held_by(self, keep: timedelta | None = None) -> list[str]:
        """What keeps it in the database; nothing if it may go."""
        if self.state in {"ahead", "open"}:
            return ["it may still get events"]
        reasons = []
        if keep is not None and self.age is not None and self.age < keep:
            reasons.append(f"its newest event, of {self.newest:%Y-%m-%d %H:%M} UTC, is too young")
        reasons += [f"{name} has not passed it" for name in self.subscriptions_before]
        return reasons + [f"{name} has tasks in it" for name in self.subscriptions_with_tasks]


async def list_partitions(database: Database | Connection) -> list[Partition]:
    """All of them, the oldest first."""
    high_water_mark = await database.fetchval(SQL.high_water_mark)
    return [Partition(**dict(row)) for row in await database.fetch(SQL.partitions, high_water_mark)]
