"""What is found out about one file. Runs in worker processes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import msgspec

from codelupe import Scorer, SourceFile
from codelupe_scorers.quality import score_file
from codelupe_scorers.shingles import bands, shingles


@dataclass(frozen=True, slots=True, kw_only=True)
class Assessment:
    """A file's score, and what its near duplicates are found by."""

    quality: float | None
    scores: str
    """Each dimension's value, version, weight and reasons, as JSON."""
    bands: list[int]
    """Empty if it was not asked for, or the file has too few or too many words for near duplicates."""


def assess(item: tuple[SourceFile, bool], scorers: Sequence[Scorer]) -> Assessment:
    """Score a file, and make its bands if the second says so."""
    file, with_bands = item
    quality = score_file(file, scorers)
    found = shingles(file.content) if with_bands else None
    return Assessment(
        quality=quality.value,
        scores=msgspec.json.encode(quality.dimensions).decode(),
        bands=[] if found is None else bands(found),
    )
