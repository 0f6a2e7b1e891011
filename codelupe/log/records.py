"""Recorded events as they come out of the log, and the identifiers that go in."""

from __future__ import annotations

import hashlib
import json
import os
import struct
import time
import uuid
from dataclasses import dataclass
from datetime import datetime
from itertools import starmap
from typing import Any

import asyncpg
import msgspec
from asyncpg.pgproto.pgproto import UUID

from codelupe_events import Event, decode

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
        return cls(
            position=row["position"],
            stream=row["stream"],
            type=row["type"],
            version=row["version"],
            id=row["id"],
            data=row["data"],
            metadata=row["metadata"],
            recorded_at=row["recorded_at"],
        )

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
    return uuid7s(1)[0]


_VERSION_7 = bytes(0x70 | byte & 0x0F for byte in range(256))
_VARIANT = bytes(0x80 | byte & 0x3F for byte in range(256))


def uuid7s(count: int) -> list[uuid.UUID]:
    """Many at once, all of this millisecond."""
    milliseconds = (time.time_ns() // 1_000_000).to_bytes(6)
    octets = bytearray((milliseconds + bytes(10)) * count)
    random = os.urandom(10 * count)
    for at in range(10):
        octets[6 + at :: 16] = random[at::10]
    octets[6::16] = octets[6::16].translate(_VERSION_7)
    octets[8::16] = octets[8::16].translate(_VARIANT)
    return list(starmap(UUID, struct.iter_unpack("16s", octets)))


def derive_key(*parts: object) -> uuid.UUID:
    """The idempotency key for these parts: the same parts, the same key."""
    return uuid.uuid5(NAMESPACE, json.dumps([str(part) for part in parts]))


def emission_key(cause: int, *parts: object) -> uuid.UUID:
    """The key of an event that came of the one at the position ``cause``, a UUID of version 8 (RFC 9562, section 5.8).

    It begins with that position, so that the keys of one time lie side by side in their index, and ends with 62 bits
    of a hash of the parts.
    """
    text = "\0".join(map(str, parts)).encode()
    digest = int.from_bytes(hashlib.blake2b(text, digest_size=8).digest()) & ((1 << 62) - 1)
    value = (cause >> 12 << 80) | (0x8 << 76) | ((cause & 0xFFF) << 64) | (0b10 << 62) | digest
    return UUID(value.to_bytes(16))
