"""The crawler: asks sources for repositories, and is itself the source ``local``."""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from functools import partial
from typing import TYPE_CHECKING

from codelupe import (
    CodelupeError,
    Database,
    Directories,
    Job,
    PagedSource,
    RepositorySource,
    StatusSection,
    Subscription,
    hookimpl,
)
from codelupe_crawler.asking import Asker
from codelupe_crawler.clock import SystemClock
from codelupe_crawler.copies import FOLDER, forgotten_ids, remove_copies
from codelupe_crawler.github.terms import TermMatcher, read_terms
from codelupe_crawler.opt_out import OptOutList
from codelupe_crawler.planning import Planner, Schedule
from codelupe_crawler.settings import CrawlerSettings
from codelupe_crawler.status import (
    count_crawls,
    count_repositories,
    metrics_of_crawls,
    read_crawls,
    read_repositories,
    tables_of_crawls,
)
from codelupe_events import (
    CrawlCompleted,
    CrawlRequested,
    CrawlSliceCompleted,
    CrawlSlicesOpened,
    RepoChanged,
    RepoDiscovered,
    RepoForgotten,
    RepoGone,
)

if TYPE_CHECKING:
    import typer


@hookimpl
def codelupe_settings() -> type[CrawlerSettings]:
    return CrawlerSettings


@hookimpl
def codelupe_commands() -> typer.Typer:
    from codelupe_crawler.command import app

    return app


@hookimpl
def codelupe_source_setting() -> str:
    return "sources"


@hookimpl
def codelupe_status_sections() -> list[StatusSection]:
    return [
        StatusSection(name="repositories", read=read_repositories, counts=count_repositories),
        StatusSection(
            name="crawl", read=read_crawls, counts=count_crawls, tables=tables_of_crawls, metrics=metrics_of_crawls
        ),
    ]


@hookimpl
def codelupe_jobs(settings: CrawlerSettings) -> Iterable[Job]:
    return [Job(name="crawl", every=settings.every, run=Schedule(settings.every), emits=(CrawlRequested,))]


@hookimpl
def codelupe_subscriptions(settings: CrawlerSettings) -> Iterable[Subscription]:
    return [
        Subscription(
            name="crawl-request",
            events=(CrawlRequested,),
            handler=Planner(settings, SystemClock()),
            emits=(CrawlSlicesOpened,),
        ),
        Subscription(
            name="crawl-slices",
            events=(CrawlSlicesOpened,),
            handler=Asker(settings, SystemClock()),
            emits=(
                RepoDiscovered,
                RepoChanged,
                RepoGone,
                CrawlSlicesOpened,
                CrawlSliceCompleted,
                CrawlCompleted,
            ),
            concurrency=8,
            timeout=None,
        ),
        Subscription(name="forget", events=(RepoForgotten,), handler=remove_copies),
    ]


@hookimpl
def codelupe_repository_sources(
    settings: CrawlerSettings, database: Database, directories: Directories
) -> Iterable[RepositorySource | PagedSource]:
    sources: list[RepositorySource | PagedSource] = []
    if settings.github.enabled:
        sources.append(_github(settings))
    if settings.packages or settings.installed_packages or settings.sources:
        sources += _from_files(settings, database, directories)
    return sources


def _github(settings: CrawlerSettings) -> PagedSource:
    from codelupe_crawler.github.source import GitHubSource  # httpx2 takes long to import

    return GitHubSource(settings.github, TermMatcher(read_terms(settings.terms)).matches)


def _from_files(
    settings: CrawlerSettings, database: Database, directories: Directories
) -> Iterable[RepositorySource | PagedSource]:
    if shutil.which("git") is None:
        raise CodelupeError(
            "git is not in PATH, so local sources cannot be read",
            hint="Install it, for example with `apt-get install git`; the crawl goes on from there.",
        )
    folder, forgotten = directories.state / FOLDER, partial(forgotten_ids, database)
    if settings.installed_packages or settings.sources:
        from codelupe_crawler.local import LocalSource  # GitPython takes long to import and fails without git

        yield LocalSource(settings, folder, forgotten)
    if settings.packages:
        from codelupe_crawler.registries.source import PackagesSource

        opt_out, within = OptOutList(settings.opt_out), settings.package_timeout
        yield PackagesSource(settings.packages, folder, within=within, forgotten=forgotten, opt_out=opt_out)
