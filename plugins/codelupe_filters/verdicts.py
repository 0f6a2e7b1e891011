"""What was decided about one file of a clone, and how its path is written down."""

from __future__ import annotations

from dataclasses import dataclass

import xxhash

MAX_PATH_BYTES = 1000
"""Longer paths are shortened: Postgres indexes nothing above 2,704 bytes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """One file, kept or refused; a refused one names the rule and what the rule saw."""

    path: bytes
    """Relative to the clone, as the file system has it."""
    size_bytes: int
    content_hash: bytes | None = None
    characters: int | None = None
    language: str | None = None
    licence: str | None = None
    labels: tuple[str, ...] = ()
    rejected_by: str | None = None
    rejected_detail: str | None = None

    @property
    def is_kept(self) -> bool:
        return self.rejected_by is None


def readable_path(path: bytes) -> str:
    r"""The path as printable text on one line, different for different paths.

    Backslashes are doubled; what is not UTF-8 or not printable becomes an escape such as ``\xe9`` or ``\n``. A
    path of more than :data:`MAX_PATH_BYTES` loses its end to a hash.
    """
    text = path.replace(b"\\", rb"\\").decode(errors="backslashreplace")
    if not text.isprintable():
        text = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
    if len(text.encode()) > MAX_PATH_BYTES:
        start = text.encode()[: MAX_PATH_BYTES - 40].decode(errors="ignore")
        return f"{start}…{xxhash.xxh3_128_hexdigest(path)}"
    return text
