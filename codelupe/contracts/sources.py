"""Sources that are asked one request at a time, so that the asking can stop anywhere and go on, on any machine."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, Protocol, runtime_checkable

from codelupe.contracts.repositories import Repository, RepositorySource
from codelupe_events import GoneReason


class SourceMode(StrEnum):
    """What is looked for."""

    TERMS = "terms"
    """What certain terms find."""
    DEEP = "deep"
    """Everything."""
    CHANGES = "changes"
    """What has new content since the last time."""
    REFRESH = "refresh"
    """What has become of those that are known."""


@dataclass(frozen=True, kw_only=True)
class Want:
    """What a source is asked for."""

    mode: SourceMode
    terms: tuple[str, ...] = ()
    """To look for in mode ``terms``; in the others, to be told of each repository that has them."""
    since: datetime | None = None
    """When the last time began that came to its end; None if there was none."""
    at: datetime
    """When this time began: what happens later belongs to the next."""


@dataclass(frozen=True, kw_only=True)
class Slice:
    """A part of what a source has, disjoint from the others."""

    query: str
    """Says which part to the source, and to people; the same part is always written the same way."""
    budget: str = "requests"
    """Whose limit its requests count against, such as ``core``; slices whose limit is used up wait behind others."""
    total: int | None = None
    """How many repositories it holds, where the source knows already."""


@dataclass(frozen=True, kw_only=True)
class Gone:
    """A repository that the source no longer gives out; the reasons are those of :class:`~codelupe_events.RepoGone`."""

    external_id: str
    reason: GoneReason
    detail: str | None = None


@dataclass(frozen=True, kw_only=True)
class Page:
    """What one request has brought."""

    repositories: Sequence[Repository] = ()
    next: str | None = None
    """Where to go on in the same slice; None if this was its last page."""
    instead: Sequence[Slice] = ()
    """To be asked in place of this slice, which is too large to be had."""
    total: int | None = None
    """How many repositories the slice holds, as the source says. Where fewer distinct ones were seen, it is asked again
    from its beginning, twice at most."""
    gone: Sequence[Gone] = ()
    note: str | None = None
    """What could not be had, for people."""


@dataclass(frozen=True, kw_only=True)
class Forecast:
    """What it takes to ask for some slices, as far as this can be told without asking."""

    least: int
    """Requests."""
    most: int | None = None
    """Requests, without those that have to be repeated; None where it depends on what there is."""
    spacing: timedelta
    """Between two requests, whichever account makes them."""
    rate: str
    """Says for people whose rate this is."""


@dataclass(frozen=True, kw_only=True)
class KnownRepository:
    """A repository as it was recorded."""

    external_id: str
    full_name: str
    url: str
    handle: str | None


class Budget(Protocol):
    """The requests that an account may make, shared by all daemons and kept over restarts."""

    async def take(self, spacing: timedelta) -> None:
        """Wait for the next request's turn, at least ``spacing`` after the one before.

        Raises:
            RetryLater: the turn is further away than it is worth waiting for here; let it pass.
        """
        ...

    async def close(self, duration: timedelta, reason: str, *, account: bool = False) -> None:
        """Make no request for so long: none of this budget, or none of the account at all."""
        ...


class SourceContext(Protocol):
    """What a source is given while it is asked."""

    @property
    def log(self) -> Any:
        """A structlog logger that is bound to the source."""
        ...

    def now(self) -> datetime:
        """The time, in UTC."""
        ...

    def budget(self, account: str, kind: str) -> Budget:
        """The one of this source with that name."""
        ...

    async def recall(self, key: str) -> str | None:
        """What the source left under this key, in whichever daemon."""
        ...

    async def remember(self, key: str, value: str) -> None:
        """Leave something for later, such as whose account a token is. Nothing secret: it lies in the database."""
        ...

    async def oldest_known(self, *, seen_before: datetime, limit: int) -> Sequence[KnownRepository]:
        """Repositories of this source that were last described before that time, the longest ago first."""
        ...


class SourceSession(Protocol):
    """A source that is being asked on behalf of one account."""

    async def ask(self, slice: Slice, cursor: str | None) -> Page:  # noqa: A002 - the word for it
        """Make ONE request: for the slice's first page, or for the one that a page before called ``next``.

        Raises:
            RetryLater: the source is limiting, or cannot be reached. Nothing is asked of this account until then.
            Exception: anything else counts against the slice, which is tried again a few times and then reported.
        """
        ...


@runtime_checkable
class PagedSource(Protocol):
    """A place where repositories are found, asked one request at a time.

    Pages, the events that come of them and the place to go on commit together. A daemon that is killed repeats one
    request an account at most; several daemons share the slices.
    """

    name: str

    async def accounts(self, context: SourceContext) -> Sequence[str]:
        """Those on whose behalf it can be asked, one request at a time each; any one name where there are none."""
        ...

    async def plan(self, want: Want, context: SourceContext) -> Sequence[Slice]:
        """The slices to begin with, made up without asking; none if the source has nothing for this mode."""
        ...

    def open(self, account: str, context: SourceContext) -> AbstractAsyncContextManager[SourceSession]:
        """Around the requests of one account."""
        ...


@runtime_checkable
class ForecastingSource(PagedSource, Protocol):
    """A source that can tell beforehand what asking it will take."""

    async def forecast(self, want: Want, slices: Sequence[Slice], context: SourceContext) -> Forecast:
        """Of the slices that :meth:`plan` has made; this makes no request either."""
        ...


Source = RepositorySource | PagedSource
"""One that says everything at once, or one that is asked page by page."""
