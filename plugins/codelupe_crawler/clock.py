"""The time by which requests are paced."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Protocol

import anyio


class Clock(Protocol):
    """The real one, or one that the tests turn."""

    patience: timedelta
    """Waits that are longer are not slept through: the handler ends and is called again."""

    def now(self) -> datetime:
        """The time, in UTC."""
        ...

    def imposed(self) -> datetime | None:
        """The time by which the database goes; None for its own, which all daemons share."""
        ...

    async def sleep(self, duration: timedelta) -> None:
        """Return after that time."""
        ...


class SystemClock:
    """The machine's clock for people and queries, the database's for pacing."""

    patience = timedelta(minutes=1)

    def now(self) -> datetime:
        return datetime.now(UTC)

    def imposed(self) -> None:
        return None

    async def sleep(self, duration: timedelta) -> None:
        await anyio.sleep(max(0.0, duration.total_seconds()))
