"""What a source is given while it is asked, kept in memory, on a clock that moves on by each wait."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import structlog

from codelupe import KnownRepository


@dataclass
class FakeBudget:
    """Waits by moving the clock on."""

    context: FakeContext
    account: str
    kind: str

    async def take(self, spacing: timedelta) -> None:
        self.context.time += spacing
        self.context.taken.append((self.account, self.kind, spacing))

    async def close(self, duration: timedelta, reason: str, *, account: bool = False) -> None:
        self.context.closed.append((self.account, "" if account else self.kind, duration))


@dataclass
class FakeContext:
    """See :class:`codelupe.SourceContext`."""

    time: datetime = datetime(2026, 11, 30, 8, 0, tzinfo=UTC)
    log: Any = field(default_factory=structlog.get_logger)
    notes: dict[str, str] = field(default_factory=dict)
    taken: list[tuple[str, str, timedelta]] = field(default_factory=list)
    """For each request the account, the kind and the spacing."""
    closed: list[tuple[str, str, timedelta]] = field(default_factory=list)
    """The account, the kind ('' for all), and for how long."""

    def now(self) -> datetime:
        return self.time

    def budget(self, account: str, kind: str) -> FakeBudget:
        return FakeBudget(self, account, kind)

    async def recall(self, key: str) -> str | None:
        return self.notes.get(key)

    async def remember(self, key: str, value: str) -> None:
        self.notes[key] = value

    async def oldest_known(self, *, seen_before: datetime, limit: int) -> Sequence[KnownRepository]:
        return []
