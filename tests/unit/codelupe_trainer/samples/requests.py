"""Requests to sample formats."""

from __future__ import annotations

import re
from collections.abc import Sequence
from random import Random

from codelupe import SampleRequest, SourceFile

PLENTY = 1_000_000


def count_words(texts: Sequence[str]) -> list[int]:
    return [len(re.findall(r"\w+|\S|\n", text)) for text in texts]


def request(
    content: str,
    room: int = PLENTY,
    *,
    language: str | None = "Python",
    neighbours: Sequence[SourceFile] = (),
    seed: str = "",
) -> SampleRequest:
    """What a format is asked about a file; a word is a token."""
    return SampleRequest(
        file=SourceFile(path="one.py", content=content, language=language, licence="MIT"),
        repository="local/one",
        neighbours=lambda: neighbours,
        room=room,
        count_tokens=count_words,
        random=Random(content + seed),
    )
