"""What the code under test says it did: tests wait for that, instead of for as long as it should take."""

from __future__ import annotations

from collections.abc import MutableMapping
from typing import Any

import anyio

from tests.processes import HANGS


class Logged:
    """The log records of this process since the test began."""

    def __init__(self, records: list[MutableMapping[str, Any]]) -> None:
        self._records = records

    def count(self, event: str, **fields: object) -> int:
        """How many records there are of this event with these fields."""
        return sum(fields.items() <= record.items() for record in self.records(event))

    def records(self, event: str) -> list[MutableMapping[str, Any]]:
        """Those of this event."""
        return [record for record in self._records if record["event"] == event]

    async def wait_for(self, event: str, **fields: object) -> None:
        """Until it is there."""
        await self._until(1, event, fields)

    async def wait_for_more(self, times: int, event: str, **fields: object) -> None:
        """Until it was logged so many times from now on."""
        await self._until(self.count(event, **fields) + times, event, fields)

    async def _until(self, wanted: int, event: str, fields: dict[str, object]) -> None:
        with anyio.fail_after(HANGS):
            while self.count(event, **fields) < wanted:
                await anyio.sleep(0.01)
