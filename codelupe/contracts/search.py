"""The index over discovered repositories."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal, Protocol, runtime_checkable

from codelupe.contracts.repositories import Repository

SearchSort = Literal["relevance", "stars", "pushed", "name"]
"""By what hits are ordered: names from A to Z, everything else from the greatest down; equals by their ids."""

FOR_EVER: int = 2**62
"""The version of a removal after which nothing brings the repository back; no log gets that long."""


@dataclass(frozen=True, kw_only=True)
class SearchDocument:
    """A repository as the event at the position ``version`` of the log describes it."""

    repository: Repository
    version: int


@dataclass(frozen=True, kw_only=True)
class SearchFilter:
    """What a hit must be, whatever the query; texts are compared without regard to case."""

    languages: tuple[str, ...] = ()
    """One of these; any if there are none."""
    licences: tuple[str, ...] = ()
    """One of these, as SPDX expressions or as identifiers in them."""
    topics: tuple[str, ...] = ()
    """All of these."""
    min_stars: int = 0
    pushed_since: datetime | None = None


@dataclass(frozen=True, kw_only=True)
class SearchHit:
    """A repository that matches a query; a higher ``rank`` matches better."""

    repository_id: str
    full_name: str
    description: str | None
    language: str | None
    stars: int
    rank: float
    url: str | None = None
    licence: str | None = None
    topics: tuple[str, ...] = ()
    pushed_at: datetime | None = None
    cursor: str | None = None
    """Continues the search after this hit; None if the index cannot."""


@runtime_checkable
class SearchIndex(Protocol):
    """The index over discovered repositories.

    A write with a version that is not higher than the repository's last one changes nothing, be that an older one that
    comes late or the same one again, and be either of them a removal: writes may come in any order and more than once.

    An index that is a service of its own raises ``RetryLater(reason, after=…, counts=False)`` while that is away: what
    was to be indexed waits for it. A document that it cannot take it answers by ``Reject`` once it has taken the
    others; these come again, to find out which one it was.
    """

    name: str

    async def index(self, documents: Sequence[SearchDocument]) -> None:
        """Add or replace these repositories."""
        ...

    async def remove(self, versions: Mapping[str, int]) -> None:
        """Remove the repositories with these ids, whether they are there or not, each as of that version."""
        ...

    async def search(
        self,
        query: str,
        limit: int,
        *,
        where: SearchFilter | None = None,
        sort: SearchSort = "relevance",
        after: str | None = None,
    ) -> list[SearchHit]:
        """The first ``limit`` hits for a query in the words of a web search (quotes, ``or``, ``-word``).

        ``after`` is the cursor of a hit of the same search, behind which to go on: no hit that is there all the while
        comes twice or is left out. A query without words has none.
        """
        ...
