"""Asking a source for slices, one request at a time on behalf of each account."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
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


class _Paging:
    """One account at work."""

    def __init__(
        self, source: PagedSource, account: str, context: HandlerContext, recorder: Recorder, clock: Clock
    ) -> None:
        self._source = source
        self._account = account
        self._context = context
        self._recorder = recorder
        self._clock = clock
        self._accounts: Sequence[str] = ()
        self._longest_request = (clock.patience + _LONGEST_ANSWER).total_seconds()

    async def run(self, event: CrawlSlicesOpened) -> None:
        """Ask for slice after slice; when the account is out, such as by a token that is revoked, others go on."""
        around = CrawlContext(self._source.name, self._context.database, self._context.log, self._clock)
        self._accounts = await self._source.accounts(around)
        async with self._source.open(self._account, around) as session:
            while self._account in self._accounts and (taken := await self._take()) is not None:
                await self._ask(session, taken)
                await self._show_progress()
                self._accounts = await self._source.accounts(around)
        if self._account not in self._accounts:
            self._wake_others(event.crawl, event.slices)

    async def _take(self) -> Any | None:
        """The next slice; None if there is none, or others are at work on all that are left."""
        database, name, now = self._context.database, self._source.name, self._clock.imposed
        while True:
            taken = await database.fetchrow(SQL.take_slice, name, self._account, list(self._accounts), now())
            if taken is not None:
                return taken
            wait = await database.fetchval(SQL.next_try, name, now())
            if wait is None:
                return None
            if wait > self._clock.patience:
                raise RetryLater("slices that failed are tried again later", after=wait, counts=False)
            await self._clock.sleep(max(wait, timedelta(0)))

    async def _ask(self, session: SourceSession, taken: Any) -> None:
        asked = Slice(query=taken["query"], budget=taken["budget"], total=taken["total"])
        try:
            with anyio.fail_after(self._longest_request):
                page = await session.ask(asked, taken["cursor"])
        except RetryLater as limited:
            await self._context.database.execute(SQL.count_request, taken["id"])
            if limited.after > self._clock.patience:
                raise
        except (ContributionFailed, Reject, TimeoutError) as error:
            await self._record_failure(taken, error)
        else:
            await (self._split if page.instead else self._advance)(taken, page)

    async def _split(self, taken: Any, page: Page) -> None:
        async with self._context.step({"slice": taken["id"]}) as connection:
            _expect(await connection.fetchrow(SQL.split_slice, taken["id"], self._account))
            await connection.execute(SQL.open_slices, taken["crawl"], rows_of(page.instead))
            self._wake_others(taken["crawl"], len(page.instead))

    def _wake_others(self, crawl: int, slices: int) -> None:
        for account in self._accounts:
            if account != self._account:
                self._context.emit(
                    CrawlSlicesOpened(source=self._source.name, account=account, crawl=crawl, slices=slices)
                )

    async def _advance(self, taken: Any, page: Page) -> None:
        name = self._source.name
        async with self._context.step({"slice": taken["id"]}) as connection:
            recorded = await self._recorder.record(connection, self._context, name, page.repositories, taken)
            await record_gone(connection, self._context, name, page.gone)
            slice_after = _expect(
                await connection.fetchrow(
                    SQL.advance_slice,
                    *(taken["id"], self._account, recorded.ids, recorded.new, recorded.changed),
                    *(page.total, page.next, page.note),
                )
            )
            if slice_after["state"] == "complete":
                self._context.emit(_completed(name, slice_after))

    async def _record_failure(self, taken: Any, error: Exception) -> None:
        text = f"{type(error).__name__}: {error}"[:_LONGEST_ERROR]
        async with self._context.step({"slice": taken["id"]}) as connection:
            row = _expect(
                await connection.fetchrow(
                    SQL.fail_slice, taken["id"], self._account, text, isinstance(error, Reject), self._clock.imposed()
                )
            )
            if row["state"] == "failed":
                self._context.emit(_completed(self._source.name, row))
        self._context.log.warning(
            "slice_failed",
            source=self._source.name,
            query=taken["query"],
            failures=row["failures"],
            given_up=row["state"] == "failed",
            error=text,
        )

    async def _show_progress(self) -> None:
        """Of all crawls of the source that are under way, whichever daemons and accounts are at work on them."""
        rows = await self._context.database.fetch(SQL.crawl_progress, self._source.name)
        under_way = [row for row in rows if row["completed_at"] is None]
        totals = [row["total"] for row in under_way]
        self._context.progress(
            sum(row["seen"] for row in under_way),
            None if None in totals else max(sum(totals), sum(row["seen"] for row in under_way)),
            "repositories",
            slices_to_go=sum(row["slices_to_go"] for row in under_way),
        )


class _Discovery:
    """A source that says everything at once, up to its end or its failure."""

    def __init__(
        self, source: RepositorySource, account: str, context: HandlerContext, recorder: Recorder, clock: Clock
    ) -> None:
        self._source = source
        self._account = account
        self._context = context
        self._recorder = recorder
        self._clock = clock
        self._error: str | None = None

    async def run(self) -> None:
        """Take in what it says, a step for each portion; begun again, it says what is known already once more."""
        database, name = self._context.database, self._source.name
        taken = await database.fetchrow(SQL.take_slice, name, self._account, [self._account], self._clock.imposed())
        if taken is None:
            return
        with anyio.move_on_after(_LONGEST_DISCOVERY.total_seconds()) as limit:
            async with aclosing(self._portions()) as portions:
                async for portion in portions:
                    await self._record(taken, portion)
        if limit.cancelled_caught:
            self._error = f"it was not done within {_LONGEST_DISCOVERY}"
        async with self._context.step({"slice": taken["id"]}) as connection:
            slice_after = _expect(
                await connection.fetchrow(
                    SQL.advance_slice, *(taken["id"], self._account, [], 0, 0, None, None, self._error)
                )
            )
            self._context.emit(_completed(name, slice_after))

    async def _portions(self) -> AsyncGenerator[list[Repository], None]:
        found: list[Repository] = []
        seen = 0
        try:
            async for repository in self._source.discover():
                found.append(repository)
                seen += 1
                self._context.progress(seen, None, "repositories", source=self._source.name)
                if len(found) == DISCOVERED_AT_ONCE:
                    yield found
                    found = []
        except Exception as error:
            self._error = f"{type(error).__name__}: {error}"[:_LONGEST_ERROR]
            self._context.log.exception("source_failed", source=self._source.name, error=self._error)
        if found:
            yield found

    async def _record(self, taken: Any, found: Sequence[Repository]) -> None:
        async with self._context.step({"slice": taken["id"]}) as connection:
            recorded = await self._recorder.record(connection, self._context, self._source.name, found, taken)
            _expect(
                await connection.fetchrow(
                    SQL.advance_slice,
                    *(taken["id"], self._account, recorded.ids, recorded.new, recorded.changed, None, _GOES_ON, None),
                )
            )


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
