"""What was decided about one file of a clone, and how it is written down."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec
import xxhash

from codelupe import encode_row
from codelupe_filters.licences import Licence
from codelupe_filters.refusals import Rejection

MAX_PATH_BYTES = 1000
"""Longer paths are shortened: Postgres indexes nothing above 2,704 bytes."""

COLUMNS = (
    "file_path",
    "language",
    "licence",
    "licence_evidence",
    "is_permissive",
    "content",
    "content_hash",
    "size_bytes",
    "characters",
    "labels",
    "redactions",
    "rejected_by",
    "rejection",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """One file, kept with its content or refused with a reason."""

    path: bytes
    """Relative to the clone, as the file system has it."""
    size_bytes: int
    content: bytes | None = field(default=None, repr=False)
    """Without secrets, if it is kept."""
    content_hash: bytes | None = None
    characters: int | None = None
    language: str | None = None
    licence: Licence | None = None
    is_permissive: bool = False
    labels: tuple[str, ...] = ()
    redactions: Mapping[str, int] = field(default_factory=dict)
    rejection: Rejection | None = None

    @property
    def is_kept(self) -> bool:
        return self.rejection is None

    @property
    def licence_name(self) -> str | None:
        """Its SPDX expression, if it is known."""
        return self.licence.expression if self.licence else None

    def as_row(self) -> bytes:
        """The values of :data:`COLUMNS`, encoded for COPY."""
        values = (
            readable_path(self.path).encode(),
            self.language,
            self.licence_name,
            _json(self.licence.evidence) if self.licence else None,
            b"t" if self.is_permissive else b"f",
            self.content,
            rb"\x" + self.content_hash.hex().encode() if self.content_hash else None,
            self.size_bytes,
            self.characters,
            "{" + ",".join(self.labels) + "}",
            _json(self.redactions) if self.redactions else None,
            self.rejection.rule if self.rejection else None,
            _json(self.rejection.as_dict()) if self.rejection else None,
        )
        return encode_row(values)


def _json(value: Mapping[str, Any]) -> bytes:
    return msgspec.json.encode(value)


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
