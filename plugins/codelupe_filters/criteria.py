"""What repositories are judged by: how well each criterion is met, as the source's metadata tell.

What a source does not say is never taken for good: it earns nothing of a score. Nor is it taken for bad: an unknown
language or size turns nothing down.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from math import log10

from codelupe import Repository
from codelupe_filters.kinds import first_told
from codelupe_filters.licences import stated_licence
from codelupe_filters.settings import FiltersSettings
from codelupe_filters.words import words

_ENOUGH_TOPICS = 3
_FRESH = timedelta(days=365)
_STALE = timedelta(days=5 * 365)


@dataclass(frozen=True)
class Seen:
    """What a criterion saw in a repository, in words; whether it is met, and how well, from 0 to 1."""

    detail: str
    met: bool
    share: float


def min_stars(repository: Repository, settings: FiltersSettings) -> Seen:
    return _at_least("stars", repository.stars, settings.min_stars, full=10_000)


def min_forks(repository: Repository, settings: FiltersSettings) -> Seen:
    return _at_least("forks", repository.forks, settings.min_forks, full=1_000)


def language(repository: Repository, settings: FiltersSettings) -> Seen:
    if not repository.language:
        return Seen("the language is not known: the files will tell", met=True, share=0)
    if repository.language.casefold() in map(str.casefold, settings.languages):
        return Seen(f"{repository.language} is among the languages wanted", met=True, share=1)
    return Seen(f"{repository.language} is not among the languages wanted", met=False, share=0)


def teaching(repository: Repository, settings: FiltersSettings) -> Seen:
    """Owners do not count: what they are called says nothing about one repository."""
    excluded = words(settings.excluded_words)
    if found := excluded.first_in(repository.full_name.rpartition("/")[2]):
        return Seen(f"the name has {found!r}", met=False, share=0)
    for topic in repository.topics:
        if found := excluded.first_in(topic):
            return Seen(f"the topics have {found!r}", met=False, share=0)
    if found := first_told(settings.excluded_words, repository.description or ""):
        return Seen(f"the description has {found!r}", met=False, share=0)
    return Seen("name, topics and description have no excluded word", met=True, share=1)


def max_size(repository: Repository, settings: FiltersSettings) -> Seen:
    most = settings.max_size_kib
    if repository.size_kib == 0:
        return Seen("the size is not known", met=True, share=0)
    detail = f"{repository.size_kib:,} KiB, at most {most:,} are allowed"
    return _yes_or_no(detail, met=repository.size_kib <= most)


def fork(repository: Repository, _: FiltersSettings) -> Seen:
    return _is_not("a fork of another repository", is_so=repository.is_fork)


def mirror(repository: Repository, _: FiltersSettings) -> Seen:
    return _is_not("a mirror of another repository", is_so=repository.is_mirror)


def template(repository: Repository, _: FiltersSettings) -> Seen:
    return _is_not("a template for other repositories", is_so=repository.is_template)


def archived(repository: Repository, _: FiltersSettings) -> Seen:
    return _is_not("archived", is_so=repository.is_archived)


def disabled(repository: Repository, _: FiltersSettings) -> Seen:
    return _is_not("disabled by its host", is_so=repository.is_disabled)


def description(repository: Repository, _: FiltersSettings) -> Seen:
    is_there = bool(repository.description and repository.description.strip())
    return _yes_or_no("a description" if is_there else "no description", met=is_there)


def topics(repository: Repository, _: FiltersSettings) -> Seen:
    count = len(repository.topics)
    detail = f"{count} topic{'s' * (count != 1)}, {_ENOUGH_TOPICS} are enough"
    return Seen(detail, met=count > 0, share=min(1, count / _ENOUGH_TOPICS))


def licence(repository: Repository, _: FiltersSettings) -> Seen:
    """``NOASSERTION``, ``other`` and other words that are no SPDX expression say that the licence is not known."""
    stated = stated_licence(repository.licence)
    return _yes_or_no(stated.expression if stated else "no licence is known", met=stated is not None)


def recency(repository: Repository, _: FiltersSettings) -> Seen:
    """Counted from the beginning of today (UTC), so that a day has one answer."""
    if repository.pushed_at is None:
        return Seen("the last push is not known", met=True, share=0)
    today = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    share = (_STALE - (today - repository.pushed_at)) / (_STALE - _FRESH)
    return Seen(f"last pushed to on {repository.pushed_at:%Y-%m-%d}", met=share > 0, share=min(1.0, max(0.0, share)))


CRITERIA: dict[str, Callable[[Repository, FiltersSettings], Seen]] = {
    "min-stars": min_stars,
    "min-forks": min_forks,
    "language": language,
    "teaching": teaching,
    "max-size": max_size,
    "fork": fork,
    "mirror": mirror,
    "template": template,
    "archived": archived,
    "disabled": disabled,
    "description": description,
    "topics": topics,
    "licence": licence,
    "recency": recency,
}
"""By the names that they have in :class:`~codelupe_filters.settings.Criteria`."""


def _at_least(what: str, count: int, least: int, *, full: int) -> Seen:
    """A count earns by its logarithm, as a share of that of ``full``."""
    share = min(1.0, log10(1 + max(0, count)) / log10(full))
    return Seen(f"{count} {what}, at least {least} are asked for", met=count >= least, share=share)


def _is_not(what: str, *, is_so: bool) -> Seen:
    return _yes_or_no(f"it is {what}" if is_so else f"it is not {what}", met=not is_so)


def _yes_or_no(detail: str, *, met: bool) -> Seen:
    return Seen(detail, met=met, share=float(met))
