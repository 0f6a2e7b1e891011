"""The log's clock in the test's hand: leases, waits and schedules pass when the test says so, and nothing sleeps."""

from __future__ import annotations

from datetime import timedelta

from codelupe import Database


class Clock:
    """Stands still until it is moved on. It replaces the database's function ``log_time()``."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def take_over(self) -> None:
        """From here on time is the test's."""
        await self._database.execute(
            "create table test_clock (at timestamptz);"
            "insert into test_clock select now();"
            "create or replace function log_time() returns timestamptz language sql stable"
            " as 'select at from test_clock'"
        )

    async def advance(self, by: timedelta) -> None:
        """Let time pass; what waits for it hears of it at once."""
        await self._database.execute("update test_clock set at = at + $1::interval", by)
        await self._database.execute("notify codelupe_log, 'tasks'")
