"""The downloader: clones accepted repositories, within limits and without trusting them."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterable
from datetime import timedelta

from codelupe import CodelupeError, Finding, Job, Subscription, hookimpl
from codelupe_downloader.settings import DownloaderSettings
from codelupe_downloader.tidying import Tidying
from codelupe_events import RepoAccepted, RepoChanged, RepoCloned, RepoEmpty, RepoForgotten, RepoGone


@hookimpl
def codelupe_settings() -> type[DownloaderSettings]:
    return DownloaderSettings


@hookimpl
def codelupe_checks() -> list[Finding]:
    if shutil.which("git") is None:
        return [Finding("git", "bad", "not in PATH", "Install it (Debian: apt-get install git) and start again.")]
    return [Finding("git", "good", subprocess.check_output(["git", "--version"], text=True).strip())]


@hookimpl
def codelupe_jobs(settings: DownloaderSettings) -> Iterable[Job]:
    return [Job(name="tidy", every=timedelta(minutes=1), run=Tidying(settings).run)]


@hookimpl
def codelupe_subscriptions(settings: DownloaderSettings) -> Iterable[Subscription]:
    if shutil.which("git") is None:
        raise CodelupeError(
            "git is not in PATH, so nothing can be cloned",
            hint="Install it, for example with `apt-get install git`; accepted repositories wait in the log.",
        )
    from codelupe_downloader.downloader import Downloader

    return [
        Subscription(
            name="clone",
            events=(RepoAccepted, RepoChanged, RepoForgotten, RepoGone),
            handler=Downloader(settings).handle,
            emits=(RepoCloned, RepoEmpty, RepoGone),
            concurrency=settings.concurrency,
            timeout=settings.timeout + timedelta(hours=1),  # beside the clone, folders are put in place and removed
            dead_letter_blocks_stream=False,  # a later revision may well be clonable
        )
    ]
