"""The rules that turn a repository down before it is cloned.

Stars and forks are the usual gate, yet OpenCoder (sections 6.1 and 6.3) found that a gate on stars makes the trained
model worse: stars say more about fame than about code. Set ``min_stars = 0`` to leave the choice to the file scores.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from codelupe import Repository, RepositoryRule
from codelupe_events import Reason
from codelupe_filters.settings import FiltersSettings

_WORD = re.compile(r"[^\W_]+")


def repository_rules(settings: FiltersSettings) -> list[RepositoryRule]:
    """This plugin's rules as the settings want them."""
    rules: list[RepositoryRule] = [
        MinStars(settings.min_stars),
        MinForks(settings.min_forks),
        TargetLanguage(frozenset(language.casefold() for language in settings.languages)),
        NoTeaching(frozenset(word.casefold() for word in settings.excluded_words)),
        MaxSize(settings.max_size_kib),
    ]
    if not settings.accept_forks:
        rules.append(NoForks())
    if not settings.accept_archived:
        rules.append(NoArchived())
    return rules


@dataclass(frozen=True)
class MinStars:
    """At least so many stars."""

    least: int
    name = "min-stars"

    def check(self, repository: Repository) -> Reason | None:
        if repository.stars >= self.least:
            return None
        return Reason(rule=self.name, detail=f"{repository.stars} stars, at least {self.least} are asked for")


@dataclass(frozen=True)
class MinForks:
    """At least so many forks."""

    least: int
    name = "min-forks"

    def check(self, repository: Repository) -> Reason | None:
        if repository.forks >= self.least:
            return None
        return Reason(rule=self.name, detail=f"{repository.forks} forks, at least {self.least} are asked for")


@dataclass(frozen=True)
class TargetLanguage:
    """Its main language is one of those wanted. An unknown language passes: the files will tell."""

    languages: frozenset[str]
    name = "language"

    def check(self, repository: Repository) -> Reason | None:
        if repository.language is None or repository.language.casefold() in self.languages:
            return None
        return Reason(rule=self.name, detail=f"{repository.language} is not among the languages wanted")


@dataclass(frozen=True)
class NoTeaching:
    """Tutorials, demos and the like are told by whole words of the name, the topics and the description."""

    words: frozenset[str]
    name = "teaching"

    def check(self, repository: Repository) -> Reason | None:
        places = {
            "name": [repository.full_name],
            "topics": repository.topics,
            "description": [repository.description or ""],
        }
        for place, texts in places.items():
            if word := self._first_word(texts):
                return Reason(rule=self.name, detail=f"the {place} has the word {word!r}")
        return None

    def _first_word(self, texts: Iterable[str]) -> str | None:
        words = (word for text in texts for word in _WORD.findall(text.casefold()))
        return next((word for word in words if word in self.words), None)


@dataclass(frozen=True)
class MaxSize:
    """Not larger than so many KiB; 0 means that the source does not know, and passes."""

    most_kib: int
    name = "max-size"

    def check(self, repository: Repository) -> Reason | None:
        if repository.size_kib <= self.most_kib:
            return None
        return Reason(rule=self.name, detail=f"{repository.size_kib} KiB, at most {self.most_kib} are allowed")


@dataclass(frozen=True)
class NoForks:
    """A fork repeats its parent's files."""

    name = "fork"

    def check(self, repository: Repository) -> Reason | None:
        return Reason(rule=self.name, detail="it is a fork of another repository") if repository.is_fork else None


@dataclass(frozen=True)
class NoArchived:
    """An archived repository is no longer kept up."""

    name = "archived"

    def check(self, repository: Repository) -> Reason | None:
        return Reason(rule=self.name, detail="it is archived") if repository.is_archived else None
