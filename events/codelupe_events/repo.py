"""Repositories: found, judged, cloned."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

import msgspec

from codelupe_events.registry import Event, event, unchanged

GoneReason = Literal["deleted", "private", "blocked", "disabled"]
"""Why a repository cannot be had: ``deleted`` also where the host does not say whether it was deleted or made private,
``blocked`` for legal reasons (HTTP 451), ``disabled`` by the host."""


class Reason(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Why a rule decided as it did: the rule's name and what it saw."""

    rule: str
    detail: str


class RepoEvent(Event, frozen=True, kw_only=True):
    """A fact about one repository; ``repository_id`` is ``source:id`` and survives a rename."""

    repository_id: str

    def stream(self) -> str:
        return f"repo/{self.repository_id}"


@event(version=2, upcasters={1: unchanged})
class CrawlRequested(Event, frozen=True, kw_only=True):
    """A person, a program or the schedule asked for a crawl; no ``source`` means all of them.

    Version 1 had neither ``mode`` nor ``terms``.
    """

    source: str | None = None
    mode: str | None = None
    """``terms``, ``deep``, ``changes`` or ``refresh``; None leaves it to the settings."""
    terms: tuple[str, ...] = ()
    """What to look for in place of the terms that the settings name."""

    def stream(self) -> str:
        return f"crawl/{self.source or 'all'}"


class CrawlEvent(Event, frozen=True, kw_only=True):
    """A fact about the crawl of a source."""

    source: str

    def stream(self) -> str:
        return f"crawl/{self.source}"


@event(version=1)
class CrawlSlicesOpened(CrawlEvent, frozen=True, kw_only=True):
    """There are slices of a crawl to be asked for; ``account`` is one of those that can ask.

    Its stream is the account's, so that one request at a time is made for it, whichever daemon makes it.
    """

    account: str
    crawl: int
    slices: int

    def stream(self) -> str:
        return f"crawl/{self.source}/{self.account}"


@event(version=2, upcasters={1: unchanged})
class CrawlSliceCompleted(CrawlEvent, frozen=True, kw_only=True):
    """A source was asked for one slice of what it has; ``new`` of the ``seen`` have content not known before.

    Version 1 had only these two numbers.
    """

    seen: int
    new: int
    query: str = ""
    changed: int = 0
    """Known ones whose metadata moved."""
    total: int | None = None
    """How many the source says that there are; None if it does not say."""
    missed: int = 0
    """So many fewer than that were seen, however often it was asked."""
    requests: int = 1
    error: str | None = None
    """Why it could not be asked to its end."""


@event(version=1)
class CrawlCompleted(CrawlEvent, frozen=True, kw_only=True):
    """Every slice of a crawl has been asked for; numbers are sums over its slices."""

    crawl: int
    mode: str
    slices: int
    failed_slices: int
    seen: int
    new: int
    changed: int
    missed: int
    requests: int


class RepoDescribed(RepoEvent, frozen=True, kw_only=True):
    """A repository as its source describes it at a revision (a commit, a version or a push time)."""

    source: str
    full_name: str
    url: str
    revision: str
    description: str | None = None
    language: str | None = None
    licence: str | None = None
    """SPDX expression, as the source's metadata states it; None if it does not know one."""
    stars: int = 0
    forks: int = 0
    size_kib: int = 0
    topics: tuple[str, ...] = ()
    is_fork: bool = False
    is_archived: bool = False
    pushed_at: datetime | None = None
    default_branch: str | None = None
    created_at: datetime | None = None
    watchers: int | None = None
    """Those who are told of each change; None if the source does not say."""
    is_template: bool = False
    is_mirror: bool = False
    is_disabled: bool = False
    terms: tuple[str, ...] = ()
    """What was looked for and is found in its name, description or topics."""


@event(version=2, upcasters={1: unchanged})
class RepoDiscovered(RepoDescribed, frozen=True, kw_only=True):
    """There is new content: the repository, or this revision of it, was not known before.

    Version 1 ended at ``pushed_at``.
    """


@event(version=1)
class RepoChanged(RepoDescribed, frozen=True, kw_only=True):
    """What its source says of a known repository has moved, such as its name or its stars, but not its content."""


@event(version=1)
class RepoGone(RepoEvent, frozen=True, kw_only=True):
    """It cannot be had any more, or not for now."""

    full_name: str
    url: str
    reason: GoneReason
    detail: str | None = None


@event(version=1)
class RepoAccepted(RepoEvent, frozen=True, kw_only=True):
    """Every repository rule let it pass; ``score`` is 0 to 100."""

    url: str
    full_name: str
    revision: str
    score: float


@event(version=1)
class RepoRejected(RepoEvent, frozen=True, kw_only=True):
    """At least one repository rule turned it down."""

    revision: str
    score: float
    reasons: tuple[Reason, ...]


@event(version=1)
class RepoCloned(RepoEvent, frozen=True, kw_only=True):
    """The work tree at ``commit`` lies under ``path`` (relative to the repositories' folder)."""

    commit: str
    path: str
    size_bytes: int
    seconds: float


@event(version=1)
class RepoEmpty(RepoEvent, frozen=True, kw_only=True):
    """It could be reached but has no commit, so there is nothing to read."""

    url: str


@event(version=1)
class RepoForgotten(RepoEvent, frozen=True, kw_only=True):
    """It was to leave, and does not come back: its files and their contents are removed for good.

    Clone and search entry follow. What left the database before is not changed by this: models trained on it (those
    that are named here) and data sets that were exported earlier.
    """

    full_name: str
    url: str
    by: str
    reason: str
    files: int
    """Rows of files that are gone."""
    kept_without_content: int
    """Files that the models were trained on: path, commit, licence and hash stay, the content is gone."""
    models: tuple[str, ...]
