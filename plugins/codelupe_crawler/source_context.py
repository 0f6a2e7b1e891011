"""What a source is given while it is asked: its log, its time, its budgets and what is known of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from codelupe import Database, KnownRepository, RetryLater, load_queries
from codelupe_crawler.clock import Clock

SQL = load_queries("codelupe_sql", "crawler")
_ALL_KINDS = ""


class AccountBudget:
    """The requests of one kind that an account may make, in a table that all daemons share."""

    def __init__(self, database: Database, clock: Clock, source: str, account: str, kind: str) -> None:
        self._database = database
        self._clock = clock
        self._account = source, account
        self._kind = kind

    async def take(self, spacing: timedelta) -> None:
        """Wait for the next request's turn.

        Raises:
            RetryLater: it is further away than the clock's patience.
        """
        [turn] = await self._database.fetch(
            SQL.take_turn, *self._account, self._kind, spacing, self._clock.patience, self._clock.imposed()
        )
        if turn["wait"] > self._clock.patience:
            raise RetryLater(turn["reason"] or "its turn is far away", after=turn["wait"], counts=False)
        if turn["wait"] > timedelta(0):
            await self._clock.sleep(turn["wait"])

    async def close(self, duration: timedelta, reason: str, *, account: bool = False) -> None:
        """Make no request for so long."""
        kind = _ALL_KINDS if account else self._kind
        await self._database.execute(SQL.close_budget, *self._account, kind, duration, reason, self._clock.imposed())


class CrawlContext:
    """Of one source; see :class:`codelupe.SourceContext`."""

    def __init__(self, source: str, database: Database, log: Any, clock: Clock) -> None:
        self._source = source
        self._database = database
        self._clock = clock
        self.log: Any = log.bind(source=source)

    def now(self) -> datetime:
        return self._clock.now()

    def budget(self, account: str, kind: str) -> AccountBudget:
        return AccountBudget(self._database, self._clock, self._source, account, kind)

    async def last_crawls(self) -> Mapping[str, datetime]:
        """When the last full crawl in each mode began that came to its end."""
        return {row["mode"]: row["began_at"] for row in await self._database.fetch(SQL.last_crawls, self._source)}

    async def recall(self, key: str) -> str | None:
        value: str | None = await self._database.fetchval(SQL.recall, self._source, key)
        return value

    async def remember(self, key: str, value: str) -> None:
        await self._database.execute(SQL.remember, self._source, key, value)

    async def oldest_known(self, *, seen_before: datetime, limit: int) -> Sequence[KnownRepository]:
        rows = await self._database.fetch(SQL.oldest_known, self._source, seen_before, limit)
        return [
            KnownRepository(
                external_id=row["id"].removeprefix(f"{self._source}:"),
                full_name=row["full_name"],
                url=row["url"],
                handle=row["handle"],
            )
            for row in rows
        ]
