"""Runs of words in a text, as numbers that are the same on every machine."""

from __future__ import annotations

import re
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

WORD = re.compile(r"[0-9A-Z_a-z\u0080-\U0010ffff]+")
"""A word: ASCII letters, digits and underscores, as in BigCode's de-duplication; beyond ASCII all counts as letters."""

Hashes = NDArray[np.uint64]

_BASE = 0x9E3779B97F4A7C15
_INVERSE = pow(_BASE, -1, 1 << 64)
_GAP = 0
_WORDS_ONLY = bytes(byte if byte >= 0x80 or WORD.fullmatch(chr(byte)) else _GAP for byte in range(256))
_SMALLEST_TABLE = 14


def ngram_hashes(text: str, size: int) -> Hashes:
    """A 64-bit hash of each run of ``size`` words, in the order of the text; none if there are fewer words.

    It is the polynomial of the words' bytes modulo 2**64 (Karp and Rabin, 1987), from which SplitMix64's last step
    (Steele and others, 2014) takes the regularities. What stands between two words does not count.
    """
    data = _squeezed(text)
    ends = np.flatnonzero(data == _GAP)
    starts = np.concatenate(([0], ends[:-1] + 1))[: max(0, len(ends) - size + 1)]
    powers, inverses = _powers(max(_SMALLEST_TABLE, len(data).bit_length()))
    sums = np.concatenate((np.zeros(1, np.uint64), np.cumsum(data * powers[: len(data)])))
    return _mixed((sums[ends[size - 1 :]] - sums[starts]) * inverses[starts])


def _squeezed(text: str) -> NDArray[np.uint8]:
    """The bytes of the words, each word with one gap behind it."""
    data = np.frombuffer((text.encode(errors="surrogatepass") + b"\n").translate(_WORDS_ONLY), np.uint8)
    is_wanted = data != _GAP
    is_wanted[1:] |= data[:-1] != _GAP
    squeezed: NDArray[np.uint8] = data[is_wanted]
    return squeezed


@lru_cache(maxsize=4)
def _powers(bits: int) -> tuple[Hashes, Hashes]:
    """The base's powers from 0 to 2**bits - 1, and their inverses."""
    base, inverse = (np.full(1 << bits, number, np.uint64) for number in (_BASE, _INVERSE))
    base[0] = inverse[0] = 1
    return np.cumprod(base), np.cumprod(inverse)


def _mixed(hashes: Hashes) -> Hashes:
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB), (31, 1)):
        hashes = (hashes ^ (hashes >> np.uint64(shift))) * np.uint64(factor)
    return hashes
