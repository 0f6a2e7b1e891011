"""How promising a repository looks from its metadata alone, 0 to 100.

========================  ======  ==================================================================
what                      points  in full for
========================  ======  ==================================================================
stars                     40      10,000 (logarithmic: 10 give 10, 100 give 20, 1,000 give 30)
forks                     20      1,000 (logarithmic: 3 give 4, 30 give 10)
description               10      any
topics                    10      three
licence                   10      any that the source names
recency                   10      a push in the last year, falling in a straight line to 0 after five
========================  ======  ==================================================================

So a repository at the default gate of 10 stars and 3 forks reaches 50 only when everything else is in order. The
points are CodeLupe's own convention; they have not been measured against the quality of the files.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from math import log10

from codelupe import Repository

_FRESH = timedelta(days=365)
_STALE = timedelta(days=5 * 365)


def repository_score(repository: Repository, at: datetime) -> float:
    """The score at a moment, from 0 to 100; see the module's table."""
    return round(
        40 * _magnitude(repository.stars, 10_000)
        + 20 * _magnitude(repository.forks, 1_000)
        + 10 * bool(repository.description)
        + 10 * min(1, len(repository.topics) / 3)
        + 10 * bool(repository.licence)
        + 10 * _recency(repository.pushed_at, at),
        1,
    )


def _magnitude(count: int, full: int) -> float:
    """The logarithm of a count as a share of the logarithm of ``full``."""
    return min(1.0, log10(1 + max(0, count)) / log10(full))


def _recency(pushed_at: datetime | None, at: datetime) -> float:
    if pushed_at is None:
        return 0.0
    return min(1.0, max(0.0, (_STALE - (at - pushed_at)) / (_STALE - _FRESH)))
