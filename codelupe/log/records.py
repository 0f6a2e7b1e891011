"""Recorded events as they come out of the log, and the identifiers that go in."""

from __future__ import annotations

import json
import os
import time
import uuid
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

import msgspec

from codelupe_events import Event, decode

if TYPE_CHECKING:
    import asyncpg

NAMESPACE = uuid.UUID("6f1c8d0e-2b7a-5c43-9a55-0d6c0f3b1e77")
"""Under it lie all idempotency keys of CodeLupe."""


@dataclass(frozen=True, kw_only=True)
class Recorded:
    """One event of the log, its data still as it was recorded."""

    position: int
    stream: str
    type: str
    version: int
    id: uuid.UUID
    data: str
    metadata: dict[str, Any]
    recorded_at: datetime

    @classmethod
    def from_row(cls, row: asyncpg.Record) -> Recorded:
        fields = ("position", "stream", "type", "version", "id", "data", "recorded_at")
        return cls(metadata=msgspec.json.decode(row["metadata"]), **{name: row[name] for name in fields})

    def decode(self) -> Event:
        """The event, brought up to its newest version.

        Raises:
            codelupe_events.EventError: this code cannot read it.
        """
        return decode(self.type, self.version, self.data)

    def as_dict(self) -> dict[str, Any]:
        """Everything, fit for JSON."""
        return {
            "position": self.position,
            "id": str(self.id),
            "stream": self.stream,
            "type": self.type,
            "version": self.version,
            "recorded_at": self.recorded_at.isoformat(),
            "data": msgspec.json.decode(self.data),
            "metadata": self.metadata,
        }


def uuid7() -> uuid.UUID:
    """A time-ordered UUID (RFC 9562, section 5.7), as :func:`uuid.uuid7` of Python 3.14 makes it."""
    milliseconds = time.time_ns() // 1_000_000
    random = int.from_bytes(os.urandom(10))
    value = (milliseconds << 80) | (0x7 << 76) | ((random >> 68) << 64) | (0b10 << 62) | (random & ((1 << 62) - 1))
    return uuid.UUID(int=value)


def derive_key(*parts: object) -> uuid.UUID:
    """The idempotency key for these parts: the same parts, the same key."""
    return uuid.uuid5(NAMESPACE, json.dumps([str(part) for part in parts]))
