"""``codelupe crawl``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from difflib import get_close_matches
from typing import Annotated, Any

import structlog
import typer

from codelupe import (
    CodelupeError,
    ConfigurationError,
    Forecast,
    ForecastingSource,
    PagedSource,
    RepositorySource,
    SourceMode,
    load_queries,
)
from codelupe.commands import AsJson, ConfigFile, Profile, Session, err, out, print_json, with_session
from codelupe_crawler.clock import SystemClock
from codelupe_crawler.github.terms import fault_of
from codelupe_crawler.opt_out import OptOutList
from codelupe_crawler.planning import NAME_A_SOURCE, Crawl, Planner
from codelupe_crawler.settings import CrawlerSettings
from codelupe_crawler.source_context import CrawlContext
from codelupe_events import CrawlRequested

SQL = load_queries("codelupe_sql", "crawler")
log = structlog.get_logger("crawler")

app = typer.Typer()


@app.command()
def crawl(
    config: ConfigFile = None,
    profile: Profile = None,
    *,
    as_json: AsJson = False,
    source: Annotated[
        str | None, typer.Option("--source", metavar="NAME", help="Only this source [default: all].")
    ] = None,
    terms: Annotated[
        list[str] | None,
        typer.Option("--term", metavar="TERM", help="Look for this in place of the terms in the settings. Repeatable."),
    ] = None,
    deep: Annotated[bool, typer.Option("--deep", help="Find everything that passes the source's gate.")] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only say what would be asked, and how long it would take.")
    ] = False,
) -> None:
    """Ask for a crawl, which a running daemon does.

    Without --term or --deep the settings say what is due: everything, or what has changed since the last time. A dry
    run makes no request; the time it tells is that of the source's limits.
    """
    if deep and terms:
        raise typer.BadParameter("--deep finds everything, so there is no --term to look for")
    mode = SourceMode.DEEP if deep else SourceMode.TERMS if terms else None

    wanted = _checked(terms or ())

    async def do(session: Session) -> None:
        plans = await _plans(session, source, CrawlRequested(mode=mode, terms=wanted))
        if dry_run:
            _show_forecasts(plans, as_json=as_json)
            return
        for plan in plans:
            await session.log.publish(plan.request)
        requested = [plan.request for plan in plans]
        if as_json:
            print_json([{"source": each.source, "mode": each.mode, "terms": each.terms} for each in requested])
        else:
            _say_requested(requested)

    with_session(config, profile, do)


def _checked(terms: Sequence[str]) -> tuple[str, ...]:
    wanted = [" ".join(term.split()) for term in terms]
    for term in wanted:
        if (fault := fault_of(term)) is not None:
            raise typer.BadParameter(f"--term {term!r}: {fault}")
    return tuple({term.casefold(): term for term in wanted}.values())


@dataclass(frozen=True)
class _Plan:
    """What the request comes to at one source."""

    request: CrawlRequested
    crawls: Sequence[tuple[Crawl, Forecast | None]]
    known: int
    last: dict[str, Any]
    """By mode: requests, repositories and seconds of the last crawl that came to its end."""


async def _plans(session: Session, name: str | None, wanted: CrawlRequested) -> list[_Plan]:
    settings: CrawlerSettings = session.settings.plugins.crawler  # type: ignore[attr-defined] # each plugin's own
    await OptOutList(settings.opt_out).current()  # without it nothing would be crawled
    planner = Planner(settings, SystemClock())
    chosen = _chosen(session.gather().sources, name)
    plans = []
    for source in chosen:
        context = CrawlContext(source.name, session.database, log, SystemClock())
        request = CrawlRequested(source=source.name, mode=wanted.mode, terms=wanted.terms)
        has_modes = isinstance(source, PagedSource)
        crawls = await planner.crawls_of(source, request, context) if has_modes or wanted.mode is None else []
        if crawls:
            forecasts = [await _forecast(source, each, context) for each in crawls]
            known = await session.database.fetchval(SQL.count_known, source.name)
            last = {row["mode"]: dict(row) for row in await session.database.fetch(SQL.last_outcomes, source.name)}
            plans.append(_Plan(request, list(zip(crawls, forecasts, strict=True)), known, last))
    if not plans:
        names = ", ".join(each.name for each in chosen)
        raise CodelupeError(
            f"{names}: there is no mode {wanted.mode}",
            hint="Leave out --deep and --term, or name another source by --source.",
        )
    return plans


async def _forecast(source: PagedSource | RepositorySource, crawl: Crawl, context: CrawlContext) -> Forecast | None:
    return await source.forecast(*crawl, context) if isinstance(source, ForecastingSource) else None


def _chosen(
    sources: Sequence[PagedSource | RepositorySource], name: str | None
) -> list[PagedSource | RepositorySource]:
    if not sources:
        raise ConfigurationError(
            "there is no source to crawl",
            hint=f"{NAME_A_SOURCE} `codelupe plugins list --check` shows plugins that cannot take part.",
        )
    chosen = [each for each in sources if name in (None, each.name)]
    if not chosen:
        names = [each.name for each in sources]
        close = get_close_matches(str(name), names, n=1)
        meant = f" (did you mean {close[0]}?)" if close else ""
        raise CodelupeError(
            f"there is no source {name!r}{meant}", hint=f"There are: {', '.join(names)}. For others: {NAME_A_SOURCE}"
        )
    return chosen


def _say_requested(requests: Sequence[CrawlRequested]) -> None:
    for each in requests:
        mode = f", mode {each.mode}" if each.mode else ""
        out.print(f"Asked for a crawl of {each.source}{mode}.", highlight=False, markup=False)
    err.print(
        "A running daemon does it, and `codelupe status` shows how far it is. If none runs, do it by "
        "`codelupe run --until-idle`.",
        highlight=False,
        soft_wrap=True,
    )


def _show_forecasts(plans: Sequence[_Plan], *, as_json: bool) -> None:
    found = [_as_data(plan, *each) for plan in plans for each in plan.crawls]
    if as_json:
        print_json(found)
        return
    for one in found:
        for query in one["queries"]:
            out.print(query, highlight=False, markup=False, soft_wrap=True)
    for one in found:
        out.print("\n" + "\n".join(_lines(one)), highlight=False, markup=False, soft_wrap=True)


def _as_data(plan: _Plan, crawl: Crawl, forecast: Forecast | None) -> dict[str, Any]:
    want, slices = crawl
    last = plan.last.get(want.mode)
    return {
        "source": plan.request.source,
        "mode": want.mode,
        "queries": [each.query for each in slices],
        "requests_at_least": forecast and forecast.least,
        "requests_at_most": forecast and forecast.most,
        "seconds_at_least": forecast and _seconds(forecast, forecast.least),
        "seconds_at_most": forecast and _seconds(forecast, forecast.most),
        "rate": forecast and forecast.rate,
        "seconds_per_request": forecast and forecast.spacing.total_seconds(),
        "known_repositories": plan.known,
        "last": last and {name: last[name] for name in ("requests", "repositories", "seconds")},
    }


def _seconds(forecast: Forecast, requests: int | None) -> float | None:
    return None if requests is None else round(requests * forecast.spacing.total_seconds(), 1)


def _lines(one: dict[str, Any]) -> list[str]:
    count = len(one["queries"])
    lines = [f"{one['source']}, mode {one['mode']}: {count:,} quer{'y' if count == 1 else 'ies'}"]
    if one["rate"] is None:
        lines.append("  requests: this source does not tell in advance")
    else:
        lines.append(f"  at {one['rate']}, a request every {one['seconds_per_request']:.3g} s:")
        lines += [f"  at {word:5} {_amount(one, word)}" for word in ("least", "most")]
    if (last := one["last"]) is not None:
        took = _duration(last["seconds"])
        lines.append(f"  last time {last['requests']:,} requests for {last['repositories']:,} repositories, in {took}")
    lines.append(f"  {one['known_repositories']:,} repositories of it are known")
    return lines


def _amount(one: dict[str, Any], word: str) -> str:
    requests, seconds = one[f"requests_at_{word}"], one[f"seconds_at_{word}"]
    if requests is None:
        return "one for each page of a hundred; how many there are is not known before it is counted"
    return f"{requests:,} request{'s' * (requests != 1)}, {_duration(seconds)}"


def _duration(seconds: float) -> str:
    return str(timedelta(seconds=round(seconds)))
