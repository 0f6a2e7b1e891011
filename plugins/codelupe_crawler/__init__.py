"""The crawler: asks sources for repositories, and is itself the source ``local``."""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from datetime import timedelta
from functools import partial

from codelupe import (
    CodelupeError,
    Database,
    Directories,
    Job,
    RepositorySource,
    StatusSection,
    Subscription,
    hookimpl,
)
from codelupe_crawler.copies import FOLDER, forgotten_ids, remove_copies
from codelupe_crawler.crawl import Crawler
from codelupe_crawler.settings import CrawlerSettings
from codelupe_crawler.status import count_repositories, read_repositories
from codelupe_events import CrawlRequested, CrawlSliceCompleted, RepoDiscovered, RepoForgotten

_EMITS = (RepoDiscovered, CrawlSliceCompleted)
_LONGEST_CRAWL = timedelta(days=1)
"""There may be thousands of sources; each git URL has a time limit of its own."""


@hookimpl
def codelupe_settings() -> type[CrawlerSettings]:
    return CrawlerSettings


@hookimpl
def codelupe_source_setting() -> str:
    return "sources"


@hookimpl
def codelupe_status_sections() -> list[StatusSection]:
    return [StatusSection(name="repositories", read=read_repositories, counts=count_repositories)]


@hookimpl
def codelupe_jobs(settings: CrawlerSettings) -> Iterable[Job]:
    return [Job(name="crawl", every=settings.every, run=Crawler().crawl, emits=_EMITS, timeout=_LONGEST_CRAWL)]


@hookimpl
def codelupe_subscriptions() -> Iterable[Subscription]:
    return [
        Subscription(
            name="crawl-request",
            events=(CrawlRequested,),
            handler=Crawler().answer,
            emits=_EMITS,
            concurrency=1,
            timeout=_LONGEST_CRAWL,
        ),
        Subscription(name="forget", events=(RepoForgotten,), handler=remove_copies),
    ]


@hookimpl
def codelupe_repository_sources(
    settings: CrawlerSettings, database: Database, directories: Directories
) -> Iterable[RepositorySource]:
    if not settings.installed_packages and not settings.sources:
        return []
    if shutil.which("git") is None:
        raise CodelupeError(
            "git is not in PATH, so local sources cannot be read",
            hint="Install it, for example with `apt-get install git`; the crawl goes on from there.",
        )
    from codelupe_crawler.local import LocalSource  # GitPython takes long to import and fails without git

    return [LocalSource(settings, directories.state / FOLDER, partial(forgotten_ids, database))]
