"""The other process of a measurement over two: sends events at a steady rate and ends.

``python -m benchmarks.eventlog.sender <system> <url> <count>``
"""

from __future__ import annotations

import sys

import anyio

from benchmarks.eventlog.cases import PER_SECOND
from benchmarks.eventlog.pace import at_rate
from benchmarks.eventlog.systems import SYSTEMS


async def _send(name: str, url: str, count: int) -> None:
    async with SYSTEMS[name](url) as system:
        await at_rate(system.send, count, PER_SECOND)


if __name__ == "__main__":
    anyio.run(_send, sys.argv[1], sys.argv[2], int(sys.argv[3]))
