"""Repositories: found, judged, cloned."""

from __future__ import annotations

from datetime import datetime

import msgspec

from codelupe_events.registry import Event, event


class Reason(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Why a rule decided as it did: the rule's name and what it saw."""

    rule: str
    detail: str


class RepoEvent(Event, frozen=True, kw_only=True):
    """A fact about one repository; ``repository_id`` is ``source:id`` and survives a rename."""

    repository_id: str

    def stream(self) -> str:
        return f"repo/{self.repository_id}"


@event(version=1)
class CrawlRequested(Event, frozen=True, kw_only=True):
    """A person or a program asked for a crawl now; no ``source`` means all of them."""

    source: str | None = None

    def stream(self) -> str:
        return f"crawl/{self.source or 'all'}"


@event(version=1)
class CrawlSliceCompleted(Event, frozen=True, kw_only=True):
    """A source was asked for one slice of what it has; ``new`` of the ``seen`` were not known before."""

    source: str
    seen: int
    new: int

    def stream(self) -> str:
        return f"crawl/{self.source}"


@event(version=1)
class RepoDiscovered(RepoEvent, frozen=True, kw_only=True):
    """A source knows this repository at this revision (a commit, a version or a push time)."""

    source: str
    full_name: str
    url: str
    revision: str
    description: str | None = None
    language: str | None = None
    licence: str | None = None
    """SPDX expression, as the source's metadata states it."""
    stars: int = 0
    forks: int = 0
    size_kib: int = 0
    topics: tuple[str, ...] = ()
    is_fork: bool = False
    is_archived: bool = False
    pushed_at: datetime | None = None


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
