"""What every index keeps of a repository, cut to what is searched."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime

from codelupe import Repository, SearchDocument, SearchFilter, storable

_LONGEST_NAME = 1000
_LONGEST_DESCRIPTION = 10_000
_LONGEST_TOPIC = 255
_MOST_TOPICS = 100
_NEVER = -1
_LICENCE_ID = re.compile(r"[a-z0-9.+-]+")
_OPERATORS = ("and", "or", "with")


@dataclass(frozen=True, kw_only=True)
class Entry:
    """A repository as an index keeps it."""

    repository_id: str
    version: int
    full_name: str
    url: str
    description: str | None
    language: str | None
    licence: str | None
    stars: int
    forks: int
    topics: tuple[str, ...]
    pushed_at: datetime | None
    name_key: str
    """By what it is sorted among names."""
    pushed_key: int
    """By what it is sorted among push times: milliseconds since 1970."""
    keys: tuple[str, ...]
    """What filters ask for."""

    @classmethod
    def of(cls, document: SearchDocument) -> Entry:
        """The entry for this document."""
        repository = document.repository
        name = _cut(repository.full_name, _LONGEST_NAME)
        topics = tuple(_cut(topic, _LONGEST_TOPIC) for topic in repository.topics[:_MOST_TOPICS])
        return cls(
            repository_id=_cut(repository.id, None),
            version=document.version,
            full_name=name,
            url=_cut(repository.url, _LONGEST_NAME),
            description=_cut_or_none(repository.description, _LONGEST_DESCRIPTION),
            language=_cut_or_none(repository.language, _LONGEST_TOPIC),
            licence=_cut_or_none(repository.licence, _LONGEST_NAME),
            stars=repository.stars,
            forks=repository.forks,
            topics=topics,
            pushed_at=repository.pushed_at,
            name_key=name.lower()[:_LONGEST_TOPIC],
            pushed_key=pushed_key(repository.pushed_at),
            keys=tuple(_keys(repository, topics)),
        )


@dataclass(frozen=True, kw_only=True)
class Conditions:
    """What a filter asks of entries."""

    all_keys: list[str]
    any_keys: list[list[str]]
    """At least one of each of these."""
    min_stars: int
    min_pushed_key: int

    @classmethod
    def of(cls, where: SearchFilter | None) -> Conditions:
        """The conditions that the filter says; without one, none."""
        where = where or SearchFilter()
        either = [
            [_key("language", language) for language in where.languages],
            [_key("licence", licence) for licence in where.licences],
        ]
        return cls(
            all_keys=[_key("topic", topic) for topic in where.topics],
            any_keys=[keys for keys in either if keys],
            min_stars=where.min_stars,
            min_pushed_key=pushed_key(where.pushed_since),
        )


def pushed_key(moment: datetime | None) -> int:
    """Milliseconds since 1970; less than all others if it is not known."""
    return _NEVER if moment is None else max(0, int(moment.timestamp() * 1000))


def _keys(repository: Repository, topics: tuple[str, ...]) -> list[str]:
    licence = _cut_or_none(repository.licence, _LONGEST_NAME)
    licences = [licence, *_identifiers(licence)] if licence else []
    keys = [_key("topic", topic) for topic in topics] + [_key("licence", each) for each in licences]
    return sorted({*keys, *([_key("language", repository.language)] if repository.language else [])})


def _key(kind: str, text: str) -> str:
    return f"{kind}:{_cut(text.lower(), _LONGEST_TOPIC)}"


def _identifiers(licence: str) -> list[str]:
    return [each for each in _LICENCE_ID.findall(licence.lower()) if each not in _OPERATORS]


def _cut(text: str, length: int | None) -> str:
    return storable(text[:length], "\N{REPLACEMENT CHARACTER}")


def _cut_or_none(text: str | None, length: int) -> str | None:
    return None if text is None else _cut(text, length)
