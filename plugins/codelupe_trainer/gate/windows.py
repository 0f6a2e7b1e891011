"""The windows of an evaluation set: which piece of each file, and which groups decide."""

from __future__ import annotations

import bisect
import hashlib
import itertools
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import xxhash

Part = Literal["decides", "reports"]


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """A held-out file that a set may have a window of."""

    file_id: int
    repository_id: str
    group_id: str
    language: str | None
    content: str
    content_hash: bytes
    is_young: bool | None
    known: tuple[int, int] | None
    """Its window in the set before, if it has one there: from the byte, up to and without the other."""
    part: Part | None
    """That of its window there."""


@dataclass(frozen=True, kw_only=True)
class Window:
    """A piece of a file. Bytes are of its content in UTF-8."""

    file: Candidate
    first_byte: int
    end_byte: int

    @property
    def text(self) -> str:
        return self.file.content.encode()[self.first_byte : self.end_byte].decode()

    @property
    def text_hash(self) -> bytes:
        """The xxh3-128."""
        return xxhash.xxh3_128_digest(self.text.encode())


def cut_window(file: Candidate, most_bytes: int, seed: int) -> Window | None:
    """The window the file had before, or as many whole lines in a row as fit, from a place drawn by its hash.

    None if there is nothing but blanks in it, or a line is longer.
    """
    first, end = file.known or _draw_lines(file.content, most_bytes, _draw(file.content_hash.hex(), seed))
    window = Window(file=file, first_byte=first, end_byte=end)
    return window if window.text.strip() else None


def _draw_lines(content: str, most_bytes: int, draw: int) -> tuple[int, int]:
    lines = re.findall(rb"[^\n]*\n|[^\n]+", content.encode())
    ends = list(itertools.accumulate(map(len, lines), initial=0))
    last_start = bisect.bisect_left(ends, ends[-1] - most_bytes)
    start = draw % (last_start + 1)
    stop = bisect.bisect_right(ends, ends[start] + most_bytes) - 1
    return ends[start], ends[stop]


def divide(windows: Iterable[Window], seed: int) -> dict[str, Part]:
    """Which part each group is in: that of its windows in the set before, else the smaller part, in a drawn order.

    A group that has decided before never reports, so that what is reported was never selected by. Of the first two
    groups one decides and one reports, and so on: with few groups a hash alone could leave a part empty.
    """
    before: dict[str, set[Part]] = {}
    for window in windows:
        known = before.setdefault(window.file.group_id, set())
        known.update({window.file.part} if window.file.part else ())
    parts: dict[str, Part] = {group: _kept_part(known) for group, known in before.items() if known}
    for group in sorted(before.keys() - parts.keys(), key=lambda group: _draw(group, seed)):
        deciding = sum(part == "decides" for part in parts.values())
        parts[group] = "decides" if deciding * 2 <= len(parts) else "reports"
    return parts


def _kept_part(known: set[Part]) -> Part:
    return "decides" if "decides" in known else "reports"


def _draw(name: str, seed: int) -> int:
    """A number by name and seed, the same on every machine."""
    return int(hashlib.md5(f"{seed}/{name}".encode(), usedforsecurity=False).hexdigest(), 16)


def fingerprint(windows: Sequence[Window], parts: Mapping[str, Part]) -> str:
    """SHA-256 over all windows, in their order, in hexadecimal digits."""
    digest = hashlib.sha256()
    for one in windows:
        place = f"{one.file.content_hash.hex()} {one.first_byte} {one.end_byte} {parts[one.file.group_id]}"
        digest.update(f"{place} {one.text_hash.hex()}\n".encode())
    return digest.hexdigest()
