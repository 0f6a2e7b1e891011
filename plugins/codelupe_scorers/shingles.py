"""What near duplicates are told by: shingles, their MinHash signature, its bands, and the Jaccard index.

The figures are those of StarCoder2's data set (Lozhkov and others, 2024, section 2.2 after Kocetkov and others, 2022):
5-grams of words, 250 permutations, 0.7. Two sets of shingles with the Jaccard index J agree in all ten rows of one of
the 25 bands at least with the probability 1 - (1 - J**10)**25 (Leskovec and others, Mining of Massive Datasets, 3.4):
0.51 at 0.7, 0.94 at 0.8, above 0.99 from 0.85 on.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import xxhash
from rensa import RMinHash

from codelupe_text.ngrams import Hashes, ngram_hashes

VERSION = 1
"""Raised when a text gets another signature than before; files are then compared anew when they are scored again."""
THRESHOLD = 0.7
"""The lowest Jaccard index of near duplicates."""
SHINGLE_WORDS = 5
MIN_SHINGLES = 10
"""Files with fewer different shingles have no near duplicates: one word more or less would decide."""
MAX_CHARACTERS = 256 * 1024
"""Longer files have none either: they are far beyond what a model is trained on."""
_PERMUTATIONS = 250
_BANDS = 25
_ROWS = 10
_SEED = 1


def shingles(text: str) -> Hashes | None:
    """The different shingles in ascending order; None if the text is too short or too long to be compared."""
    if len(text) > MAX_CHARACTERS:
        return None
    found = np.sort(ngram_hashes(text, SHINGLE_WORDS))
    is_first = np.ones(len(found), bool)
    is_first[1:] = found[1:] != found[:-1]
    found = found[is_first]
    return found if len(found) >= MIN_SHINGLES else None


def bands(found: Hashes) -> list[int]:
    """The 25 numbers of 64 bits of which near duplicates are likely to share one: a hash of each ten rows."""
    [signature] = RMinHash.digest_matrix_from_token_hash_sets([found], _PERMUTATIONS, _SEED).to_rows()
    rows = np.array(signature, dtype="<u4").reshape(_BANDS, _ROWS)
    return [
        int.from_bytes(xxhash.xxh3_64_digest(row.tobytes(), seed=band), "big", signed=True)
        for band, row in enumerate(rows)
    ]


def jaccard(one: Hashes, other: Hashes) -> float:
    """The share of common shingles among those of both (Jaccard, 1901), from 0 to 1; of the sets, not estimated."""
    common = len(np.intersect1d(one, other, assume_unique=True))
    return common / (len(one) + len(other) - common)


def similarities(texts: tuple[str, Sequence[str]]) -> list[float]:
    """The Jaccard index of the first text with each of the others; 0 where one cannot be compared."""
    first, others = shingles(texts[0]), [shingles(other) for other in texts[1]]
    return [0.0 if first is None or other is None else jaccard(first, other) for other in others]
