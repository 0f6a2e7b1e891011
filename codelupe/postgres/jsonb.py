"""How ``jsonb`` values travel: as the Python values that they stand for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import asyncpg
import msgspec

if TYPE_CHECKING:
    AnyConnection = asyncpg.Connection[asyncpg.Record]
else:
    AnyConnection = asyncpg.Connection

_VERSION = b"\x01"
"""The first byte of every value in the binary format of the protocol; the text follows."""
_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder().decode


async def use_jsonb(connection: AnyConnection) -> None:
    """Let the connection take and give ``jsonb`` as Python values: mappings, sequences, structs, texts, numbers.

    ``bytes`` go in unchanged, as JSON that is encoded already; to read JSON undecoded, select ``column::text``.
    """
    await connection.set_type_codec("jsonb", schema="pg_catalog", encoder=_to_wire, decoder=_from_wire, format="binary")


def _to_wire(value: Any) -> bytes:
    if type(value) is bytes:
        return _VERSION + value
    return _VERSION + _encode(value)


def _from_wire(data: bytes) -> Any:
    return _decode(data[1:])
