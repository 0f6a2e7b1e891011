"""Recording what a source said: the rows of the repositories, and an event for each that is news."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from datetime import datetime, timedelta
from typing import Any

from codelupe import (
    CodelupeError,
    Connection,
    Gone,
    HandlerContext,
    Repository,
    RepositoryRule,
    RetryLater,
    SourceMode,
    load_queries,
    storable,
)
from codelupe_crawler.opt_out import OptOutList, OptOutUnreadable
from codelupe_crawler.settings import CrawlerSettings
from codelupe_events import RepoChanged, RepoDescribed, RepoDiscovered, RepoGone
from codelupe_git.credentials import without_credential

SQL = load_queries("codelupe_sql", "crawler")
_DESCRIPTION_CHARACTERS = 1000
_COUNTS = ("stars", "forks", "watchers", "size_kib")
_DRIFT = 0.1
"""A count that moved by so much of itself is news in any case."""
_NO_NEWS = (*_COUNTS, "terms", "handle", "revision")
_OFTEN_UNSAID = ("default_branch", "created_at", "watchers", "handle", "pushed_at")
"""What one way to ask a source tells and another does not: what was known stands."""


@dataclass(frozen=True)
class Recorded:
    """The ids of a page's repositories at their source, how many had new content, and how many others changed."""

    ids: list[str]
    new: int
    changed: int


class Recorder:
    """Records what a source said, but for what is not to be stored."""

    def __init__(self, settings: CrawlerSettings) -> None:
        self._opt_out = OptOutList(settings.opt_out)
        self._keeps_to_terms = settings.mode == SourceMode.TERMS

    async def require_opt_out(self) -> None:
        """Make sure that it is known what must not be stored.

        Raises:
            RetryLater: it is not, for a list cannot be read.
        """
        try:
            await self._opt_out.current()
        except OptOutUnreadable as error:
            raise RetryLater(f"{error.message}. {error.hint}", after=timedelta(minutes=1), counts=False) from error

    async def record(
        self, connection: Connection, context: HandlerContext, source: str, found: Sequence[Repository], crawl: Any
    ) -> Recorded:
        """Write what was found and emit what is news; ``crawl`` has its ``mode`` and when it ``began_at``.

        Passed over are forgotten repositories and those that opted out. Where the crawler keeps to terms, so are, of
        all that has changed, unknown ones that have none of them.
        """
        fresh = {each.id: each for each in map(storable_repository, found)}
        await connection.execute(SQL.lock_source, source)
        known = {row["id"]: row for row in await connection.fetch(SQL.known_repositories, list(fresh))}
        unwanted = {row["id"] for row in await connection.fetch(SQL.forgotten_among, _addresses(fresh.values()))}
        opt_out = await self._opt_out.current()
        unwanted |= {key for key, each in fresh.items() if opt_out.is_listed(each.full_name, each.url)}
        if self._keeps_to_terms and crawl["mode"] == SourceMode.CHANGES:
            unwanted |= {key for key, each in fresh.items() if key not in known and not each.terms}
        await connection.execute(SQL.mark_seen, sorted(unwanted & known.keys()), crawl["began_at"])
        wanted = [each for key, each in fresh.items() if key not in unwanted]
        written = await _write(connection, context, wanted, known, crawl["began_at"])
        return replace(written, ids=[each.external_id for each in fresh.values()])


async def _write(
    connection: Connection,
    context: HandlerContext,
    repositories: Sequence[Repository],
    known: Mapping[str, Any],
    at: datetime,
) -> Recorded:
    rules = context.repository_rules
    news: dict[str, RepoDescribed] = {}
    rows = []
    for repository in repositories:
        before = known.get(repository.id)
        described = repository if before is None else completed(repository, before)
        kind = news_of(described, before, rules)
        if kind is None:
            described = replace(described, **{name: before[name] for name in _COUNTS}) if before else described
        else:
            news[repository.id] = described.to_event(kind)
        rows.append(described.to_row() | {"seen_at": at})
    new = [key for key, event in news.items() if isinstance(event, RepoDiscovered)]
    if rows:
        await connection.execute(SQL.write_repositories, rows, new)
    for event in news.values():
        context.emit(event)
    return Recorded(ids=[], new=len(new), changed=len(news) - len(new))


async def record_gone(connection: Connection, context: HandlerContext, source: str, gone: Iterable[Gone]) -> None:
    """Mark repositories that cannot be had any more, and emit this once."""
    by_id = {f"{source}:{each.external_id}": each for each in gone}
    for row in await connection.fetch(SQL.mark_gone, list(by_id)):
        each = by_id[row["id"]]
        context.emit(
            RepoGone(
                repository_id=row["id"],
                full_name=row["full_name"],
                url=row["url"],
                reason=each.reason,
                detail=each.detail,
            )
        )


def news_of(fresh: Repository, known: Any | None, rules: Sequence[RepositoryRule]) -> type[RepoDescribed] | None:
    """Which event tells how the description differs from the row that is known; None if it is not worth one.

    Counts that drift are news by a tenth, or where a rule decides otherwise by them.
    """
    if known is None or known["state"] == "gone" or known["revision"] != fresh.revision:
        return RepoDiscovered
    before = Repository.from_row(known)
    names = [each.name for each in fields(Repository)]
    if any(getattr(fresh, name) != getattr(before, name) for name in names if name not in _NO_NEWS):
        return RepoChanged
    counts = [(getattr(before, name), getattr(fresh, name)) for name in _COUNTS]
    if all(old == new for old, new in counts):
        return None
    if any(_has_drifted(old, new) for old, new in counts):
        return RepoChanged
    return RepoChanged if _objections(fresh, rules) != _objections(before, rules) else None


def completed(fresh: Repository, known: Any) -> Repository:
    """The description with what is known already and was not said this time."""
    unsaid = {name: known[name] for name in _OFTEN_UNSAID if getattr(fresh, name) is None}
    return replace(fresh, terms=tuple(sorted({*fresh.terms, *known["terms"]})), **unsaid)


def storable_repository(repository: Repository) -> Repository:
    """The repository with U+FFFD for the characters that Postgres cannot hold, its description cut short, and its URL
    without credentials.
    """
    clean = replace(repository, **{each.name: _storable(getattr(repository, each.name)) for each in fields(repository)})
    url, _ = without_credential(clean.url)
    description = None if clean.description is None else clean.description[:_DESCRIPTION_CHARACTERS]
    return replace(clean, url=url, description=description)


def _storable(value: Any) -> Any:
    """The value with U+FFFD in every string for what Postgres cannot hold."""
    match value:
        case str():
            return storable(value, "\N{REPLACEMENT CHARACTER}")
        case tuple() | list():
            return tuple(_storable(each) for each in value)
        case _:
            return value


def _addresses(repositories: Iterable[Repository]) -> list[dict[str, str]]:
    return [{"id": each.id, "full_name": each.full_name, "url": each.url} for each in repositories]


def _has_drifted(old: int | None, new: int | None) -> bool:
    if old is None or new is None:
        return old != new
    return abs(new - old) > _DRIFT * old


def _objections(repository: Repository, rules: Sequence[RepositoryRule]) -> set[str]:
    """The rules that turn it down. One that fails has no say here: the judge reports that."""
    objecting = set()
    for rule in rules:
        try:
            if rule.check(repository) is not None:
                objecting.add(rule.name)
        except CodelupeError:
            continue
    return objecting
