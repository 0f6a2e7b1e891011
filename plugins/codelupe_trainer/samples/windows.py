"""Parts of a text that fit a number of tokens, and places to cut it."""

from __future__ import annotations

import bisect
import itertools
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from random import Random

CountTokens = Callable[[Sequence[str]], Sequence[int]]
"""How many tokens each of some texts has."""

_LINES = re.compile(r"[^\n]*\n|[^\n]+")
_LONG_LINE = 4
"""A line that takes more than this part of the room is taken in pieces."""


@dataclass(frozen=True)
class Window:
    """Consecutive text of a file."""

    text: str
    begins: bool
    """Whether the file begins here."""
    ends: bool
    """Whether the file ends here."""

    @property
    def is_cut(self) -> bool:
        return not (self.begins and self.ends)


def take_window(text: str, room: int, count_tokens: CountTokens, random: Random) -> Window | None:
    """As much of the text as the room holds, in whole lines, from a random one of the places where they fill it.

    Only a line that is longer than a quarter of the room is parted. The sum of the pieces' tokens counts, which is no
    less than those of the text but for rare merges over line ends. None where the room holds nothing.
    """
    if room <= 0:
        return None
    pieces, sizes = _pieces(text, room, count_tokens)
    ends = list(itertools.accumulate(sizes, initial=0))
    last_start = bisect.bisect_left(ends, ends[-1] - room)
    start = random.randrange(last_start + 1)
    stop = bisect.bisect_right(ends, ends[start] + room) - 1
    if stop <= start:
        return None
    return Window("".join(pieces[start:stop]), begins=start == 0, ends=stop == len(pieces))


def _pieces(text: str, room: int, count_tokens: CountTokens) -> tuple[list[str], list[int]]:
    lines = _LINES.findall(text)
    sizes = list(count_tokens(lines)) if lines else []
    longest = max(1, room // _LONG_LINE)
    if all(size <= longest for size in sizes):
        return lines, sizes
    # No tokenizer makes more than one token of a byte, and no character has more than four bytes.
    characters = max(1, longest // 4)
    pieces: list[str] = []
    for line, size in zip(lines, sizes, strict=True):
        parts = range(0, len(line), characters) if size > longest else range(1)
        pieces += [line[at : at + characters] for at in parts] if size > longest else [line]
    return pieces, list(count_tokens(pieces))


def cut_near(text: str, share: float) -> int:
    """Where to cut a text of two characters or more so that about ``share`` of it comes before.

    At a line's end, if something is written on both sides; else behind a space; else at any character.
    """
    aim = share * len(text)
    first, last = len(text) - len(text.lstrip()), len(text.rstrip())
    for pattern in (r"\n", r"\s"):
        places = [match.end() for match in re.finditer(pattern, text) if first < match.end() < last]
        if places:
            return min(places, key=lambda place: abs(place - aim))
    return min(max(1, round(aim)), len(text) - 1)
