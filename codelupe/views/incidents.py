"""What plugins did that hurt others."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from codelupe.postgres import Database
from codelupe.postgres.queries import load_queries

_SQL = load_queries("codelupe_sql", "incidents")


@dataclass(frozen=True, kw_only=True)
class Incident:
    """The last time that a plugin did something of this ``kind``, and the ``count`` of all such times.

    ``stage`` is the subscription, job or service whose work it was, if that is known, and ``stack`` the place in the
    code. ``blocked_loop``: for so many ``seconds`` nothing else of its process could go on.
    """

    plugin: str
    kind: str
    stage: str | None
    stream: str | None
    seconds: float
    stack: str
    at: datetime
    count: int


async def read_incidents(database: Database) -> list[Incident]:
    """One for each plugin and kind, by plugin."""
    return [Incident(**dict(row)) for row in await database.fetch(_SQL.incidents)]
