"""Amounts of memory, as people write them."""

from __future__ import annotations

import re

_UNITS = {"": 1, "k": 2**10, "m": 2**20, "g": 2**30, "t": 2**40}
_SIZE = re.compile(r"(?P<number>\d+(?:\.\d+)?)\s*(?:(?P<unit>[kmgt])(?:i?b)?|b)?", re.IGNORECASE | re.ASCII)
_MOST = 2**50


def parse_size(text: str) -> int:
    """Bytes of ``32GB``, ``32GiB``, ``31.3 GiB`` or ``34359738368``. Cards are sold in GiB that are called GB.

    Raises:
        ValueError: it is none of these, or nothing that a machine has.
    """
    match = _SIZE.fullmatch(text.strip())
    if match is None:
        raise ValueError(f"{text!r} is no amount of memory; write 32GB, 31.3GiB or a number of bytes")
    size = round(float(match["number"]) * _UNITS[(match["unit"] or "").lower()])
    if not 2**20 <= size <= _MOST:
        raise ValueError(f"{text!r} is {size:,} bytes, which no card has; write 32GB, 31.3GiB or a number of bytes")
    return size
