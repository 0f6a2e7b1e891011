"""The source ``local``: what is installed here, and what the user names."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterator
from pathlib import Path
from typing import Protocol

import anyio.to_thread
import structlog

from codelupe import Repository
from codelupe_crawler.git import GitFailed
from codelupe_crawler.named import SourceUnavailable, named_source, without_credentials
from codelupe_crawler.packages import installed_packages
from codelupe_crawler.settings import CrawlerSettings
from codelupe_crawler.snapshots import Snapshots

log = structlog.get_logger("crawler")


class Origin(Protocol):
    """One place that is, or becomes, a repository; ``label`` names it in messages."""

    label: str

    async def external_id(self) -> str: ...

    async def describe(self, snapshots: Snapshots) -> Repository | None: ...


async def _nothing(_: str) -> Collection[str]:
    return ()


class LocalSource:
    """Repositories that need no forge. Copies of what is not under git are kept in ``folder``.

    ``forgotten`` tells which of a source's repositories are passed over, by their ids: of them no copy is made.
    """

    name = "local"

    def __init__(
        self, settings: CrawlerSettings, folder: Path, forgotten: Callable[[str], Awaitable[Collection[str]]] = _nothing
    ) -> None:
        self._settings = settings
        self._forgotten = forgotten
        self._snapshots = Snapshots(folder)
        self._reported: dict[str, str] = {}
        self._warn_about_credentials()

    async def discover(self) -> AsyncIterator[Repository]:
        """All of them; one that cannot be read is reported, once for each cause, and passed over."""
        forgotten = await self._forgotten(self.name)
        for origin in await anyio.to_thread.run_sync(lambda: list(self._origins())):
            repository = await self._describe(origin, forgotten)
            if repository is not None:
                yield repository

    def _origins(self) -> Iterator[Origin]:
        if self._settings.installed_packages:
            yield from installed_packages(self._settings.installed_for)
        for text in self._settings.sources:
            yield named_source(text, self._settings.remote_timeout.total_seconds())

    async def _describe(self, origin: Origin, forgotten: Collection[str]) -> Repository | None:
        try:
            if f"{self.name}:{await origin.external_id()}" in forgotten:
                return None
            repository = await origin.describe(self._snapshots)
        except (SourceUnavailable, GitFailed) as error:
            self._report(origin.label, str(error))
        except Exception as error:  # noqa: BLE001 - whatever is wrong with one, the others go on
            self._report(origin.label, f"{type(error).__name__}: {error}")
        else:
            self._reported.pop(origin.label, None)
            return repository
        return None

    def _report(self, label: str, reason: str) -> None:
        if self._reported.get(label) != reason:
            self._reported[label] = reason
            log.warning(
                "source_unavailable",
                source=label,
                reason=reason,
                hint="Correct it or take it out of the sources; the others go on, and this one is tried again.",
            )

    def _warn_about_credentials(self) -> None:
        for text in self._settings.sources:
            if without_credentials(text) != text:
                log.warning(
                    "source_credentials_left_out",
                    source=without_credentials(text),
                    hint="Take them out of the URL, where they would end up in the log, and put them into ~/.netrc.",
                )
