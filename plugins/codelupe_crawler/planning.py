"""When to crawl what: the schedule asks for a crawl of each source, and a request becomes slices to be asked for."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta

from codelupe import (
    HandlerContext,
    JobContext,
    PagedSource,
    Reject,
    RepositorySource,
    Slice,
    SourceContext,
    SourceMode,
    Want,
    load_queries,
)
from codelupe_crawler.clock import Clock
from codelupe_crawler.github.terms import read_terms
from codelupe_crawler.settings import CrawlerSettings
from codelupe_crawler.source_context import CrawlContext
from codelupe_events import CrawlRequested, CrawlSlicesOpened

SQL = load_queries("codelupe_sql", "crawler")
Source = RepositorySource | PagedSource
Crawl = tuple[Want, Sequence[Slice]]
NO_ACCOUNT = "-"
"""On behalf of which a source is asked that says everything at once."""
EVERYTHING = Slice(query="everything")
"""Of such a source."""
NAME_A_SOURCE = (
    "Set `enabled` of [plugins.crawler.github], or `sources`, `installed_packages` or `packages` of [plugins.crawler]."
)
_OVERLAP = timedelta(minutes=10)
"""So much before the last crawl began, changes are asked for again: a source may take its time to know of them."""


class Schedule:
    """Asks for a crawl of each source, once in a process and then whenever it is due."""

    def __init__(self, every: timedelta) -> None:
        self._every = every.total_seconds()
        self._asked_at: dict[str, float] = {}
        self._has_explained = False

    async def __call__(self, context: JobContext) -> None:
        """The job; while the log is idle it runs again and again, so that it must know by itself what is due."""
        if not context.sources:
            self._explain_once(context)
        due = [source.name for source in context.sources if self._is_due(source.name)]
        if due:
            async with context.transaction():
                for name in due:
                    context.emit(CrawlRequested(source=name))
            self._asked_at |= dict.fromkeys(due, time.monotonic())

    def _is_due(self, source: str) -> bool:
        asked_at = self._asked_at.get(source)
        return asked_at is None or time.monotonic() - asked_at >= 0.9 * self._every

    def _explain_once(self, context: JobContext) -> None:
        if not self._has_explained:
            context.log.warning(
                "no_sources",
                hint=NAME_A_SOURCE + " A folder or git URL may also be named by --source.",
            )
        self._has_explained = True


class Planner:
    """Handles :class:`CrawlRequested`: makes the slices, and wakes those who ask for them."""

    def __init__(self, settings: CrawlerSettings, clock: Clock) -> None:
        self._settings = settings
        self._clock = clock

    async def __call__(self, event: CrawlRequested, context: HandlerContext) -> None:
        """Plan a crawl of the source that the request names, or of all.

        Raises:
            Reject: there is no such source or mode.
        """
        if event.mode not in (None, *SourceMode):
            raise Reject(f"no mode is called {event.mode!r}; there are: {', '.join(SourceMode)}")
        sources = [each for each in context.sources if event.source in (None, each.name)]
        if event.source is not None and not sources:
            known = ", ".join(sorted(each.name for each in context.sources)) or "none"
            raise Reject(f"no source is called {event.source!r}; there are: {known}")
        plans = [await self._plan(source, event, context) for source in sources]
        async with context.transaction() as connection:
            for plan in plans:
                for want, slices in plan.crawls:
                    begun = plan.source, want.mode, list(want.terms), want.at, not event.terms
                    crawl: int = await connection.fetchval(SQL.open_crawl, *begun)
                    await connection.execute(SQL.open_slices, crawl, rows_of(slices))
                    for account in plan.accounts:
                        context.emit(
                            CrawlSlicesOpened(source=plan.source, account=account, crawl=crawl, slices=len(slices))
                        )

    async def _plan(self, source: Source, event: CrawlRequested, context: HandlerContext) -> _Plan:
        crawl_context = CrawlContext(source.name, context.database, context.log, self._clock)
        crawls = await self.crawls_of(source, event, crawl_context)
        accounts = await source.accounts(crawl_context) if isinstance(source, PagedSource) else [NO_ACCOUNT]
        return _Plan(source.name, accounts, crawls)

    async def crawls_of(self, source: Source, event: CrawlRequested, context: CrawlContext) -> list[Crawl]:
        """What the request comes to at this source, which is not asked for it; empty if it has no such mode."""
        if not isinstance(source, PagedSource):
            return [(Want(mode=SourceMode.DEEP, at=self._clock.now()), [EVERYTHING])]
        began = await context.last_crawls()
        mode = SourceMode(event.mode) if event.mode else None
        terms = event.terms or read_terms(self._settings.terms)
        crawls = await _planned(source, self._wants(mode, terms, began), context)
        if not crawls:
            full = SourceMode.DEEP if mode is None else mode
            crawls = await _planned(source, [Want(mode=full, terms=terms, at=self._clock.now())], context)
        return crawls

    def _wants(self, mode: SourceMode | None, terms: tuple[str, ...], began: Mapping[str, datetime]) -> list[Want]:
        """What is due: everything once in a while, else what has changed, and a refresh of the rest."""
        now, full = self._clock.now(), self._settings.mode
        if mode is None and full in began and now - began[full] < self._settings.full_every:
            modes = [SourceMode.CHANGES]
            if SourceMode.REFRESH not in began or now - began[SourceMode.REFRESH] >= self._settings.refresh_every:
                modes.append(SourceMode.REFRESH)
        else:
            modes = [mode or full]
        last = max((at for of, at in began.items() if of != SourceMode.REFRESH), default=None)
        since = None if last is None else last - _OVERLAP
        return [Want(mode=each, terms=terms, since=since, at=now) for each in modes]


class _Plan:
    def __init__(self, source: str, accounts: Sequence[str], crawls: list[Crawl]) -> None:
        self.source = source
        self.accounts = accounts
        self.crawls = crawls


async def _planned(source: PagedSource, wants: Sequence[Want], context: SourceContext) -> list[Crawl]:
    plans = [(want, await source.plan(want, context)) for want in wants]
    return [(want, slices) for want, slices in plans if slices]


def rows_of(slices: Sequence[Slice]) -> list[dict[str, object]]:
    """The slices as rows of their table."""
    return [{"query": each.query, "budget": each.budget, "total": each.total} for each in slices]
