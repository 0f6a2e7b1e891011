"""Asking a source for slices, one request at a time on behalf of each account."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any

import anyio

from codelupe import (
    ContributionFailed,
    HandlerContext,
    Page,
    PagedSource,
    Reject,
    Repository,
    RepositorySource,
    RetryLater,
    Slice,
    SourceSession,
    load_queries,
    storable,
)
from codelupe_crawler.clock import Clock
from codelupe_crawler.planning import rows_of
from codelupe_crawler.recording import Recorder, record_gone
from codelupe_crawler.settings import CrawlerSettings
from codelupe_crawler.source_context import CrawlContext
from codelupe_events import CrawlCompleted, CrawlSliceCompleted, CrawlSlicesOpened

SQL = load_queries("codelupe_sql", "crawler")
DISCOVERED_AT_ONCE = 50
"""Repositories of a source that says everything at once which are recorded in one transaction."""
_LONGEST_ERROR = 2000
_LONGEST_ANSWER = timedelta(minutes=2)
"""Of a source, to one request."""
_LONGEST_DISCOVERY = timedelta(days=1)
"""Of a source that says everything at once: it may have thousands of git URLs, each with a time limit of its own."""
_SHORTEST_WAIT = timedelta(seconds=1)
"""For a slice that failed and is due, while another process has its row in its hands."""
_GOES_ON = "goes on"
"""The cursor of a source that has none."""


class Asker:
    """Handles :class:`CrawlSlicesOpened`: asks on behalf of one account until no slice is left to be asked for."""

    def __init__(self, settings: CrawlerSettings, clock: Clock) -> None:
        self._recorder = Recorder(settings)
        self._clock = clock

    async def __call__(self, event: CrawlSlicesOpened, context: HandlerContext) -> None:
        """The slices may be any of the source's: those of a crawl belong to no account until they are begun."""
        await self._recorder.require_opt_out()
        source = next((each for each in context.sources if each.name == event.source), None)
        if source is None:
            context.log.warning("source_missing", source=event.source)
        elif isinstance(source, PagedSource):
            await _Paging(source, event.account, context, self._recorder, self._clock).run(event)
        else:
            await _Discovery(source, event.account, context, self._recorder, self._clock).run()
        async with context.transaction() as connection:
            for row in await connection.fetch(SQL.complete_crawls, event.source):
                context.emit(CrawlCompleted(source=event.source, **dict(row)))


@dataclass
class _Work:
    """What one account does on a source, slice by slice."""

    source: RepositorySource | PagedSource
    account: str
    context: HandlerContext
    recorder: Recorder
    clock: Clock

    async def take(self, accounts: Sequence[str]) -> Any | None:
        """A slice that this one of the accounts may ask for; None if there is none for now."""
        return await self.context.database.fetchrow(SQL.take_slice, *self._place(accounts))

    async def next_try(self, accounts: Sequence[str]) -> timedelta | None:
        """How long until it may ask again for one that failed; None if there is none."""
        wait: timedelta | None = await self.context.database.fetchval(SQL.next_try, *self._place(accounts))
        return wait

    def _place(self, accounts: Sequence[str]) -> tuple[Any, ...]:
        return self.source.name, self.account, list(accounts), self.clock.imposed()

    async def record(self, taken: Any, page: Page) -> None:
        """What came, how far the slice is with it and the events, in one transaction."""
        async with self.context.step({"slice": taken["id"]}) as connection:
            recorded = await self.recorder.record(connection, self.context, self.source.name, page.repositories, taken)
            await record_gone(connection, self.context, self.source.name, page.gone)
            slice_after = _expect(
                await connection.fetchrow(
                    SQL.advance_slice,
                    *(taken["id"], self.account, recorded.ids, recorded.new, recorded.changed),
                    *(page.total, page.next, page.note),
                )
            )
            if slice_after["state"] == "complete":
                self.context.emit(_completed(self.source.name, slice_after))


@dataclass
class _Paging(_Work):
    """A source that is asked one request at a time."""

    source: PagedSource
    accounts: Sequence[str] = ()
    slice: int | None = None
    """The one asked for last."""
    asked: set[str | None] = field(default_factory=set)
    """Its cursors since it was begun."""

    async def run(self, event: CrawlSlicesOpened) -> None:
        """Ask for slice after slice; when the account is out, such as by a token that is revoked, others go on."""
        around = CrawlContext(self.source.name, self.context.database, self.context.log, self.clock)
        self.accounts = await self.source.accounts(around)
        async with self.source.open(self.account, around) as session:
            while self.account in self.accounts and (taken := await self._take()) is not None:
                await self._ask(session, taken)
                await self._show_progress()
                self.accounts = await self.source.accounts(around)
        if self.account not in self.accounts:
            self._wake_others(event.crawl, event.slices)

    async def _take(self) -> Any | None:
        """The next slice; None if there is none, or others are at work on all that are left."""
        while True:
            if (taken := await self.take(self.accounts)) is not None:
                return taken
            if (wait := await self.next_try(self.accounts)) is None:
                return None
            if wait > self.clock.patience:
                raise RetryLater("slices that failed are tried again later", after=wait, counts=False)
            await self.clock.sleep(max(wait, _SHORTEST_WAIT))

    async def _ask(self, session: SourceSession, taken: Any) -> None:
        asked = Slice(query=taken["query"], budget=taken["budget"], total=taken["total"])
        try:
            with anyio.fail_after((self.clock.patience + _LONGEST_ANSWER).total_seconds()):
                page = await session.ask(asked, taken["cursor"])
        except RetryLater as limited:
            await self.context.database.execute(SQL.count_request, taken["id"])
            if limited.after > self.clock.patience:
                raise
            await self.clock.sleep(limited.after)
        except (ContributionFailed, Reject, TimeoutError) as error:
            await self._record_failure(taken, error)
        else:
            await (self._split(taken, page) if page.instead else self.record(taken, self._checked(taken, page)))

    def _checked(self, taken: Any, page: Page) -> Page:
        """Without its next page if that was asked for already: it would come again and again."""
        if taken["cursor"] is None or taken["id"] != self.slice:
            self.slice, self.asked = taken["id"], set()
        self.asked.add(taken["cursor"])
        if page.next is None or page.next not in self.asked:
            return page
        note = f"the source names {page.next[:100]!r} as the next page, which was asked for already"
        self.context.log.warning("source_goes_round", source=self.source.name, query=taken["query"], error=note)
        return replace(page, next=None, note=note)

    async def _split(self, taken: Any, page: Page) -> None:
        if taken["query"] in {each.query for each in page.instead}:
            await self._record_failure(taken, Reject("the source answers with the slice itself in its place"))
            return
        async with self.context.step({"slice": taken["id"]}) as connection:
            _expect(await connection.fetchrow(SQL.split_slice, taken["id"], self.account))
            await connection.execute(SQL.open_slices, taken["crawl"], rows_of(page.instead))
            self._wake_others(taken["crawl"], len(page.instead))

    def _wake_others(self, crawl: int, slices: int) -> None:
        for account in self.accounts:
            if account != self.account:
                self.context.emit(
                    CrawlSlicesOpened(source=self.source.name, account=account, crawl=crawl, slices=slices)
                )

    async def _record_failure(self, taken: Any, error: Exception) -> None:
        text = storable(f"{type(error).__name__}: {error}")[:_LONGEST_ERROR]
        async with self.context.step({"slice": taken["id"]}) as connection:
            row = _expect(
                await connection.fetchrow(
                    SQL.fail_slice, taken["id"], self.account, text, isinstance(error, Reject), self.clock.imposed()
                )
            )
            if row["state"] == "failed":
                self.context.emit(_completed(self.source.name, row))
        self.context.log.warning(
            "slice_failed",
            source=self.source.name,
            query=taken["query"],
            failures=row["failures"],
            given_up=row["state"] == "failed",
            error=text,
        )

    async def _show_progress(self) -> None:
        """Of all crawls of the source that are under way, whichever daemons and accounts are at work on them."""
        rows = await self.context.database.fetch(SQL.crawl_progress, self.source.name)
        under_way = [row for row in rows if row["completed_at"] is None]
        totals = [row["total"] for row in under_way]
        self.context.progress(
            sum(row["seen"] for row in under_way),
            None if None in totals else max(sum(totals), sum(row["seen"] for row in under_way)),
            "repositories",
            slices_to_go=sum(row["slices_to_go"] for row in under_way),
        )


@dataclass
class _Discovery(_Work):
    """A source that says everything at once, up to its end or its failure."""

    source: RepositorySource
    error: str | None = None

    async def run(self) -> None:
        """Take in what it says, a step for each portion; begun again, it says what is known already once more."""
        if (taken := await self.take([self.account])) is None:
            return
        with anyio.move_on_after(_LONGEST_DISCOVERY.total_seconds()) as limit:
            async with aclosing(self._portions()) as portions:
                async for portion in portions:
                    await self.record(taken, Page(repositories=portion, next=_GOES_ON))
        if limit.cancelled_caught:
            self.error = f"it was not done within {_LONGEST_DISCOVERY}"
        await self.record(taken, Page(note=self.error))

    async def _portions(self) -> AsyncGenerator[list[Repository], None]:
        found: list[Repository] = []
        seen = 0
        try:
            async for repository in self.source.discover():
                found.append(repository)
                seen += 1
                self.context.progress(seen, None, "repositories", source=self.source.name)
                if len(found) == DISCOVERED_AT_ONCE:
                    yield found
                    found = []
        except Exception as error:
            self.error = storable(f"{type(error).__name__}: {error}")[:_LONGEST_ERROR]
            self.context.log.exception("source_failed", source=self.source.name, error=self.error)
        if found:
            yield found


def _expect(row: Any | None) -> Any:
    """The slice's row.

    Raises:
        RetryLater: another account has taken the slice over; what this one brought is dropped.
    """
    if row is None:
        raise RetryLater("another account has taken the slice over", after=timedelta(0), counts=False)
    return row


def _completed(source: str, row: Any) -> CrawlSliceCompleted:
    return CrawlSliceCompleted(
        source=source,
        seen=row["repositories"],
        new=row["new"],
        query=row["query"],
        changed=row["changed"],
        total=row["total"],
        missed=row["missed"],
        requests=row["requests"],
        error=row["error"],
    )
