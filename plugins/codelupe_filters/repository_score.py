"""How promising a repository looks from its metadata alone, 0 to 100.

The score is the mean of how well each criterion is met, by the weights in the settings. By default:

========================  ======  ==================================================================
what                      points  in full for
========================  ======  ==================================================================
stars                     40      10,000 (logarithmic: 10 give 10, 100 give 20, 1,000 give 30)
forks                     20      1,000 (logarithmic: 3 give 4, 30 give 10)
description               10      any
topics                    10      three
licence                   10      any that the source names by an SPDX expression
recency                   10      a push in the last year, falling in a straight line to 0 after five
========================  ======  ==================================================================

So a repository at the default gate of 10 stars and 3 forks reaches 50 only when everything else is in order. The
points are CodeLupe's own convention; they have not been measured against the quality of the files.
"""

from __future__ import annotations

from dataclasses import dataclass

from codelupe import Repository
from codelupe_filters.criteria import CRITERIA, Seen
from codelupe_filters.settings import FiltersSettings


@dataclass(frozen=True)
class Points:
    """What a criterion gives of a score, of at most how many points, and what it saw."""

    criterion: str
    seen: Seen
    points: float
    most: float


def repository_points(repository: Repository, settings: FiltersSettings) -> list[Points]:
    """What each criterion that has a weight gives; the most that they can give is 100 together."""
    weights = {name: criterion.weight for name, criterion in settings.criteria.each() if criterion.weight}
    total = sum(weights.values())
    found = []
    for name, weight in weights.items():
        seen, most = CRITERIA[name](repository, settings), 100 * weight / total
        found.append(Points(criterion=name, seen=seen, points=seen.share * most, most=most))
    return found


def repository_score(repository: Repository, settings: FiltersSettings) -> float:
    """The score as of today, from 0 to 100; see the module's table."""
    return round(sum(each.points for each in repository_points(repository, settings)), 1)
