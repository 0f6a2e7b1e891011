"""How sure a difference between two models is, both measured on the same windows of code."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

SEED = 42
RESAMPLES = 10_000
_TAIL = 0.025
_AT_A_TIME = 500
_NORMAL = NormalDist()

Floats = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True, slots=True)
class PairedNats:
    """What two models give away on one window: the sum of ``-ln p`` over its tokens, in nats."""

    group: str
    """The group of repositories that it comes from; windows of one group are not independent."""
    language: str
    bytes: int
    """Of the text that the nats are of, in UTF-8: another base's tokens are compared by the same measure."""
    current: float
    candidate: float


@dataclass(frozen=True, kw_only=True)
class Gain:
    """By how much a candidate needs fewer bits per byte, with a two-sided 95% interval."""

    current: float
    """Bits per byte of the model in use."""
    candidate: float
    low: float | None
    high: float | None
    """None if it cannot be told: there is one group only, or a model's nats are no numbers."""
    groups: int
    windows: int

    @property
    def gain(self) -> float:
        """Bits per byte that the candidate saves; below zero if it is worse."""
        return self.current - self.candidate


def estimate_gain(windows: Iterable[PairedNats], *, seed: int = SEED, resamples: int = RESAMPLES) -> Gain | None:
    """The gain over all windows, with an interval by the bootstrap over whole groups; None without a byte of text.

    Groups are drawn with replacement, each with all its windows (Efron and Tibshirani, An Introduction to the
    Bootstrap, 1993, chapters 8 and 13; Davison and Hinkley, Bootstrap Methods and their Application, 1997, section
    3.8), and both models are measured on the same draw. Percentiles of few groups are too narrow: their tails are moved
    outwards as far as Student's t is wider than the normal distribution (expanded percentiles: Hesterberg, What
    Teachers Should Know About the Bootstrap, 2015).
    """
    by_group = defaultdict[str, list[PairedNats]](list)
    for window in windows:
        if window.bytes:
            by_group[window.group].append(window)
    if not by_group:
        return None
    groups = [by_group[name] for name in sorted(by_group)]
    sizes = _sums([one.bytes for one in group] for group in groups)
    current = _sums([one.current for one in group] for group in groups)
    candidate = _sums([one.candidate for one in group] for group in groups)
    low, high = _interval(current - candidate, sizes, seed, resamples)
    bits = math.log(2) * sizes.sum()
    return Gain(
        current=float(current.sum() / bits),
        candidate=float(candidate.sum() / bits),
        low=low,
        high=high,
        groups=len(groups),
        windows=sum(map(len, groups)),
    )


def estimate_by_language(windows: Iterable[PairedNats], *, seed: int = SEED) -> dict[str, Gain]:
    """The gain in each language, by name; one with no byte of text is left out."""
    by_language = defaultdict[str, list[PairedNats]](list)
    for window in windows:
        by_language[window.language].append(window)
    estimates = {language: estimate_gain(by_language[language], seed=seed) for language in sorted(by_language)}
    return {language: gain for language, gain in estimates.items() if gain is not None}


def mcnemar(lost: int, gained: int) -> float:
    """How likely a split as uneven as this is if the models are alike: the exact two-sided test of McNemar (1947).

    ``lost`` are the tests that the model in use passes and the candidate fails, ``gained`` the opposite; those on which
    both agree say nothing. Under equality each is a toss of a coin (Dietterich, Approximate Statistical Tests for
    Comparing Supervised Classification Algorithms, 1998).
    """
    tosses = lost + gained
    if tosses == 0:
        return 1.0
    as_uneven: int = sum(math.comb(tosses, heads) for heads in range(min(lost, gained) + 1))
    return min(1.0, as_uneven / (1 << tosses - 1))


def _sums(groups: Iterable[Sequence[float]]) -> Floats:
    """Of each group, rounded once (Shewchuk, 1997), so that the order of its windows does not matter."""
    return np.array([math.fsum(each) if all(map(math.isfinite, each)) else math.nan for each in groups])


def _interval(saved: Floats, sizes: Floats, seed: int, resamples: int) -> tuple[float, float] | tuple[None, None]:
    """Of the bits per byte saved; ``saved`` nats and ``sizes`` in bytes are sums of each group."""
    count = len(saved)
    if count < 2 or not np.isfinite(saved).all():
        return None, None
    random = np.random.default_rng(seed)
    draws = [_draw(random, saved, sizes, min(_AT_A_TIME, resamples - done)) for done in range(0, resamples, _AT_A_TIME)]
    tail = _NORMAL.cdf(-math.sqrt(count / (count - 1)) * _student(1 - _TAIL, count - 1))
    low, high = np.quantile(np.concatenate(draws), [tail, 1 - tail])
    return float(low), float(high)


def _draw(random: np.random.Generator, saved: Floats, sizes: Floats, times: int) -> Floats:
    """Bits per byte saved in each of so many resamples."""
    count = len(saved)
    often = random.multinomial(count, np.full(count, 1 / count), size=times)
    gains: Floats = (often @ saved) / (often @ sizes) / math.log(2)
    return gains


def _student(share: float, freedom: int) -> float:
    """A quantile of Student's t by Cornish and Fisher's expansion (Abramowitz and Stegun, 1964, 26.7.5).

    From four degrees of freedom on it is right to a thousandth; with fewer the interval spans all draws in any case.
    """
    x = _NORMAL.inv_cdf(share)
    terms: Sequence[float] = (
        (x**3 + x) / 4,
        (5 * x**5 + 16 * x**3 + 3 * x) / 96,
        (3 * x**7 + 19 * x**5 + 17 * x**3 - 15 * x) / 384,
        (79 * x**9 + 776 * x**7 + 1482 * x**5 - 1920 * x**3 - 945 * x) / 92160,
    )
    return x + math.fsum(term / freedom**power for power, term in enumerate(terms, start=1))
