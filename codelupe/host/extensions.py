"""What all active plugins offer together."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Any

from codelupe.contracts.boundary import Part, part_of
from codelupe.contracts.evaluators import Evaluator
from codelupe.contracts.files import FileRule, Scorer
from codelupe.contracts.repositories import RepositoryRule
from codelupe.contracts.samples import SampleFormat
from codelupe.contracts.search import SearchIndex
from codelupe.contracts.sources import Source
from codelupe.executor import Executor
from codelupe.host.status_sections import StatusSection
from codelupe.work.pauses import job_part, subscription_part
from codelupe.work.subscriptions import BatchSubscription, Job, Service, Subscription


@dataclass(kw_only=True)
class Extensions:
    """In the order in which the plugins were loaded; subscriptions, jobs and services have their full names."""

    subscriptions: list[Subscription | BatchSubscription] = field(default_factory=list)
    jobs: list[Job] = field(default_factory=list)
    services: list[Service] = field(default_factory=list)
    sources: list[Source] = field(default_factory=list)
    repository_rules: list[RepositoryRule] = field(default_factory=list)
    file_rules: list[FileRule] = field(default_factory=list)
    scorers: list[Scorer] = field(default_factory=list)
    sample_formats: list[SampleFormat] = field(default_factory=list)
    evaluators: list[Evaluator] = field(default_factory=list)
    search_indexes: dict[str, SearchIndex] = field(default_factory=dict)
    executors: dict[str, Executor] = field(default_factory=dict)
    status_sections: list[StatusSection] = field(default_factory=list)

    @property
    def pausable(self) -> list[Part]:
        """What can be paused by itself."""
        contributions = [
            *self.sources,
            *self.repository_rules,
            *self.file_rules,
            *self.scorers,
            *self.sample_formats,
            *self.evaluators,
            *self.search_indexes.values(),
        ]
        return [
            *(subscription_part(one.name) for one in self.subscriptions),
            *(job_part(one.name) for one in self.jobs),
            *(part for one in contributions if (part := part_of(one)) is not None),
        ]

    def merge(self, other: Extensions) -> None:
        """Add what another plugin offers.

        Raises:
            ValueError: a name is taken; nothing was added.
        """
        for each in fields(self):
            taken = {*_HOST_NAMES.get(each.name, ()), *_names(getattr(self, each.name))}
            for name in _names(getattr(other, each.name)):
                if name in taken:
                    raise ValueError(f"offers {name!r} in {each.name}, which another plugin or the host has already")
                taken.add(name)
        for each in fields(self):
            mine, theirs = getattr(self, each.name), getattr(other, each.name)
            mine.update(theirs) if isinstance(mine, dict) else mine.extend(theirs)


_HOST_NAMES = {"executors": ("processes",), "status_sections": ("subscriptions", "paused", "jobs")}


def _names(offered: list[Any] | dict[str, Any]) -> list[str]:
    return list(offered) if isinstance(offered, dict) else [each.name for each in offered]
