"""Work whose session with the server ends again and again, while the server is there."""

from __future__ import annotations

from collections import Counter

from codelupe.postgres import Database
from codelupe.postgres.retry import has_only_lost_session
from codelupe.work.retry import RetryPolicy


class LostSessions:
    """Tells when the work itself is to blame: a session may be cut once, but not at each attempt."""

    def __init__(self, database: Database, limit: int = RetryPolicy().crashes) -> None:
        self._database = database
        self._limit = limit
        self._in_a_row = Counter[str]()

    async def are_too_many(self, work: str, error: BaseException) -> bool:
        """Count one more for this work, if it lost no more than its session."""
        is_one_more = await has_only_lost_session(error, self._database)
        self._in_a_row[work] = self._in_a_row[work] + 1 if is_one_more else 0
        return self._in_a_row[work] >= self._limit

    def record_success(self, work: str) -> None:
        self._in_a_row.pop(work, None)
