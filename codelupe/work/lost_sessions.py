"""Work whose session with the server ends again and again, while the server is there for others."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable

from codelupe.postgres import Database
from codelupe.postgres.retry import has_only_lost_session

LIMIT = 10
"""A session may be cut once, or a few times; what loses one so often in a row ends it itself."""


class LostSessions:
    """Tells when the work is to blame, and no outage."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._in_a_row = Counter[Hashable]()

    async def are_too_many(self, work: Hashable, error: BaseException) -> bool:
        """Count one more for this work, if it lost no more than its session."""
        if await has_only_lost_session(error, self._database):
            self._in_a_row[work] += 1
        else:
            self.record_success(work)
        return self._in_a_row[work] >= LIMIT

    def record_success(self, work: Hashable) -> None:
        """The row is broken."""
        self._in_a_row.pop(work, None)
