"""The rules that turn a repository down before it is cloned: a criterion that is required, and the lowest score.

Stars and forks are the usual gate, yet OpenCoder (sections 6.1 and 6.3) found that a gate on stars makes the trained
model worse: stars say more about fame than about code. Set ``min_stars = 0`` to leave the choice to the file scores.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from codelupe import Repository, RepositoryRule
from codelupe_events import Reason
from codelupe_filters.criteria import CRITERIA, Seen
from codelupe_filters.repository_score import repository_score
from codelupe_filters.settings import FiltersSettings


def repository_rules(settings: FiltersSettings) -> list[RepositoryRule]:
    """This plugin's rules as the settings want them; together with other plugins' they are the whole verdict."""
    required = [name for name, criterion in settings.criteria.each() if criterion.required]
    return [*(RequiredCriterion(name, settings) for name in required), MinScore(settings)]


@dataclass
class RequiredCriterion:
    """A criterion that a repository must meet."""

    name: str
    settings: FiltersSettings = field(repr=False)

    def look(self, repository: Repository) -> Seen:
        """What it sees, whether it is met or not."""
        return CRITERIA[self.name](repository, self.settings)

    def check(self, repository: Repository) -> Reason | None:
        return _objection(self.name, self.look(repository))


@dataclass(frozen=True)
class MinScore:
    """The lowest score, which the criteria that have a weight make."""

    settings: FiltersSettings = field(repr=False)
    name = "min-score"

    def look(self, repository: Repository) -> Seen:
        """The score, and whether it is enough."""
        score, least = repository_score(repository, self.settings), self.settings.min_score
        return Seen(f"score {score:g}, at least {least:g} is asked for", met=score >= least, share=score / 100)

    def check(self, repository: Repository) -> Reason | None:
        return _objection(self.name, self.look(repository))


def _objection(rule: str, seen: Seen) -> Reason | None:
    return None if seen.met else Reason(rule=rule, detail=seen.detail)
