"""Pages of what a search found, with what they lack, repeat or hold as ``null`` the first time."""

from __future__ import annotations

from collections import Counter
from hashlib import blake2b

import numpy as np

from tests.simulated_github.faults import Faults
from tests.simulated_github.world import Indices


class Pages:
    """Remembers what was asked for, since a page is whole the second time."""

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self._asked = Counter[str]()

    def cut(
        self, text: str, ordered: Indices, page: int, size: int, faults: Faults, random: np.random.Generator
    ) -> list[int | None]:
        """The repositories of one page of a query's results; the first page is 1."""
        shown = ordered[(page - 1) * size : page * size]
        which = f"{text} {page} {size}"
        self._asked[which] += 1
        nulls: set[int] = set()
        if len(shown) and self._asked[which] == 1:
            shown = self._marred(text, ordered, shown, page, size, faults)
            if len(shown) and random.random() < faults.nulls:
                nulls.add(min(57, len(shown) - 1) if random.random() < 0.5 else 0)
        return [None if at in nulls else int(index) for at, index in enumerate(shown)]

    def _marred(
        self, text: str, ordered: Indices, shown: Indices, page: int, size: int, faults: Faults
    ) -> Indices:  # fmt: skip
        """Which page of a slice is short, or repeats another, depends on the slice alone."""
        digest = int.from_bytes(blake2b(text.encode(), digest_size=8).digest())
        draw = np.random.default_rng([self._seed, digest])
        lacks, repeats = draw.random() < faults.lacking, draw.random() < faults.repeating
        pages = -(-len(ordered) // size)
        if page != 1 + int(draw.integers(pages)):
            return shown
        some = min(len(shown), int(draw.integers(1, 4)))
        if lacks:
            shown = np.delete(shown, draw.choice(len(shown), some, replace=False))
        if repeats and page > 1 and len(shown) > some:
            shown = np.concatenate([shown[:-some], ordered[:some]])
        return shown
