"""Releases in Python's package indexes.

``pip download`` would run the build backend of a source release to learn its metadata, and with it its makers' code,
also with ``--no-deps``. So pip is asked for its configuration only (indexes, credentials, proxy, certificates), and
the index's page and the archive are fetched here. Its ``find-links`` and its keyring are not used.
"""

from __future__ import annotations

import email
import hashlib
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from importlib.metadata import PackageMetadata
from typing import cast

from codelupe_crawler.licences import licence_of
from codelupe_crawler.registries.archives import MAX_ARCHIVE_BYTES
from codelupe_crawler.registries.fetching import Fetcher
from codelupe_crawler.registries.pip_configuration import ask_pip, host_of
from codelupe_crawler.registries.release import (
    About,
    NoSource,
    RegistryFailed,
    Release,
    Withdrawn,
    keywords_of,
    links_of,
)
from codelupe_crawler.registries.simple_index import ACCEPT, IndexPage, NotAnIndex, newest, read_page, source_files

METADATA = "PKG-INFO"
_MAX_PAGE_BYTES = 64 << 20
_ALGORITHMS = ("sha256", "sha512", "sha384", "sha3_256", "sha3_512", "blake2b", "sha1", "md5")
"""By which a file may be known, the best first: as far as indexes have them, it is SHA-256."""


@asynccontextmanager
async def open_pypi(within: float) -> AsyncIterator[PyPI]:
    """The indexes of pip's configuration; no answer takes longer than ``within`` seconds.

    Raises:
        RegistryFailed: pip cannot be asked.
    """
    configuration = await ask_pip(within)
    async with Fetcher(configuration, within) as fetcher:
        yield PyPI(configuration.indexes, fetcher)


class PyPI:
    """Python's package indexes, all that pip is configured to use."""

    def __init__(self, indexes: Sequence[str], fetcher: Fetcher) -> None:
        self._indexes = indexes
        self._fetcher = fetcher
        self._answering: set[str] = set()

    async def newest(self, name: str) -> Release:
        """See :class:`~codelupe_crawler.registries.release.Registry`."""
        pages = [page for index in self._indexes if (page := await self._page(index, name)) is not None]
        if not pages:
            raise Withdrawn("no index has it")
        if any(page.status == "quarantined" for page in pages):
            raise Withdrawn("its index has put it into quarantine", reason="disabled")
        found = list(source_files(name, pages))
        if not found:
            files = [file for page in pages for file in page.files]
            if files and all(file.is_yanked for file in files):
                raise Withdrawn("every release is yanked")
            raise NoSource("it has no release with source")
        chosen = newest(found)
        times = [each.file.uploaded_at for each in found if each.file.uploaded_at]
        return Release(
            version=str(chosen.version),
            digest=next((f"{one}-{chosen.file.hashes[one]}" for one in _ALGORITHMS if one in chosen.file.hashes), None),
            archive=chosen.file.url,
            created_at=min(times, default=None),
            published_at=chosen.file.uploaded_at,
            is_archived=any(page.status in {"archived", "deprecated"} for page in pages),
        )

    async def download(self, name: str, release: Release) -> bytes:
        """See :class:`~codelupe_crawler.registries.release.Registry`."""
        answer = await self._fetcher.get(release.archive, limit=MAX_ARCHIVE_BYTES)
        if answer is None:
            raise RegistryFailed(f"the archive of {name} {release.version} is not where its index says")
        if release.digest is not None:
            algorithm, _, expected = release.digest.partition("-")
            if hashlib.new(algorithm, answer.content, usedforsecurity=False).hexdigest() != expected.lower():
                raise RegistryFailed(f"the archive of {name} {release.version} is not the one that its index lists")
        return answer.content

    async def _page(self, index: str, name: str) -> IndexPage | None:
        answer = await self._fetcher.get(f"{index}/{name}/", limit=_MAX_PAGE_BYTES, accept=ACCEPT)
        if answer is None:
            await self._require_index(index)
            return None
        try:
            page = read_page(answer.content, answer.content_type, answer.url)
        except NotAnIndex as error:
            raise RegistryFailed(f"{host_of(index)} answered with a page that is not an index's: {error}") from error
        self._answering.add(index)
        return page

    async def _require_index(self, index: str) -> None:
        """Tell a package that is gone from an address that is no index's."""
        if index not in self._answering and not await self._fetcher.exists(f"{index}/"):
            raise RegistryFailed(f"there is no index at the address on {host_of(index)} that pip is configured with")
        self._answering.add(index)


def about_of(metadata: bytes | None) -> About:
    """What a release's PKG-INFO says."""
    if metadata is None:
        return About()
    message = email.message_from_string(metadata.decode(errors="replace"))
    urls = [text.partition(",")[2] for text in message.get_all("Project-URL", [])]
    return About(
        description=message["Summary"],
        licence=licence_of(cast("PackageMetadata", message)),
        keywords=keywords_of(message["Keywords"]),
        links=links_of([message["Home-page"], *urls]),
    )
