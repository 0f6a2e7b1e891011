"""What Postgres cannot hold: NUL in a text or in JSON, and lone surrogates, as of file names that are not UTF-8."""

from __future__ import annotations

import re

_UNSTORABLE = re.compile("[\x00\ud800-\udfff]")
_NUL_IN_JSON = re.compile(rb"(?<!\\)(?:\\\\)*\\u0000")
"""As JSON writes it: an odd number of backslashes before the digits."""


def is_storable(text: str) -> bool:
    """Whether Postgres can hold the text."""
    return _UNSTORABLE.search(text) is None


def is_storable_json(encoded: bytes) -> bool:
    """Whether Postgres can hold the JSON, which is UTF-8 and so without lone surrogates."""
    return _NUL_IN_JSON.search(encoded) is None


def storable(text: str, replacement: str | None = None) -> str:
    """The text with ``replacement`` for each character that Postgres cannot hold, or else with legible escapes."""
    return _UNSTORABLE.sub(_escaped if replacement is None else replacement, text)


def _escaped(match: re.Match[str]) -> str:
    return "\N{SYMBOL FOR NULL}" if match[0] == "\x00" else match[0].encode(errors="backslashreplace").decode()
