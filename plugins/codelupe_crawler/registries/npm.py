"""Releases in npm's registries, asked by npm itself: registry, scopes, tokens and proxies are its configuration's.

``npm view`` and ``npm pack`` of a version in a registry run nothing of the package; ``--ignore-scripts`` and a version
that is nothing but a version see to it. npm compares the archive with the registry's integrity.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
import msgspec

from codelupe import remove_tree
from codelupe_crawler.licences import spdx_expression
from codelupe_crawler.registries.archives import MAX_ARCHIVE_BYTES
from codelupe_crawler.registries.clients import Ended, run_client
from codelupe_crawler.registries.release import (
    About,
    NoSource,
    RegistryFailed,
    RegistryLimits,
    Release,
    Withdrawn,
    keywords_of,
    links_of,
    time_of,
)

METADATA = "package.json"
_FIELDS = (
    *("version", "description", "keywords", "license", "licenses", "time", "dist", "deprecated", "repository"),
    "homepage",
)
_VERSION = re.compile(r"\d+\.\d+\.\d+(?:[-+][0-9A-Za-z.+-]*)?")
_CODE = re.compile(r"E[A-Z0-9_]+")
_WAIT_SECONDS = 60
_HOLDER = "npm/security-holder"
"""The repository of what npm puts in the place of a malicious package."""


@asynccontextmanager
async def open_npm(folder: Path, within: float) -> AsyncIterator[Npm]:
    """npm, with a folder that goes in the end; no command takes longer than ``within`` seconds."""
    try:
        yield Npm(folder, within)
    finally:
        with anyio.CancelScope(shield=True):
            await anyio.to_thread.run_sync(remove_tree, folder)


class Npm:
    """The registries that npm is configured to use."""

    def __init__(self, folder: Path, within: float) -> None:
        self._folder = folder
        self._within = within
        self._is_answering = False

    async def newest(self, name: str) -> Release:
        """See :class:`~codelupe_crawler.registries.release.Registry`."""
        found = await self._npm("view", name, *_FIELDS)
        if found is None:
            raise Withdrawn("no version of it is the latest")
        if not isinstance(found, dict):
            raise RegistryFailed("npm printed what describes no package")
        self._is_answering = True
        version, times, dist = found.get("version"), _table(found.get("time")), _table(found.get("dist"))
        if not isinstance(version, str) or not _VERSION.fullmatch(version):
            raise RegistryFailed("npm's registry names a version that is none")
        links = links_of([found.get("homepage"), _url(found.get("repository"))])
        if any(_HOLDER in link for link in links):
            raise Withdrawn("npm holds its name for security", reason="disabled")
        return Release(
            version=version,
            digest=next((one for one in (dist.get("integrity"), dist.get("shasum")) if isinstance(one, str)), None),
            archive=version,
            created_at=min(filter(None, map(time_of, times.values())), default=None),
            published_at=time_of(times.get(version)),
            is_archived=bool(found.get("deprecated")),
            about=About(
                description=_text(found.get("description")),
                licence=_licence(found.get("license") or found.get("licenses")),
                keywords=keywords_of(found.get("keywords")),
                links=links,
            ),
        )

    async def download(self, name: str, release: Release) -> bytes:
        """See :class:`~codelupe_crawler.registries.release.Registry`."""
        await self._npm("pack", f"{name}@{release.version}")
        return await anyio.to_thread.run_sync(_only_archive, self._folder)

    async def _npm(self, command: str, *words: str) -> Any:
        """What it prints as JSON; None if it prints nothing."""
        await anyio.to_thread.run_sync(_renew, self._folder)
        ended = await self._run(command, *words)
        answer = _decode(ended.output)
        error = _table(answer).get("error")
        if ended.status != 0 or error:
            await self._raise(_table(error).get("code"), ended.status)
        return answer

    async def _run(self, command: str, *words: str) -> Ended:
        settings = ("--json", "--logs-max=0", "--no-update-notifier", "--ignore-scripts")
        line = ["npm", command, *settings, f"--cache={self._folder / 'cache'}", "--", *words]
        return await run_client("npm", line, within=self._within, folder=self._folder)

    async def _raise(self, code: object, status: int) -> None:
        """Only npm's code is told: what else it says may hold an address with a password."""
        match code:
            case "E404" | "E410":
                await self._require_registry()
                raise Withdrawn("npm's registry has no such package")
            case "E451":
                raise Withdrawn("npm's registry must not give it out, for legal reasons", reason="blocked")
            case "E429" | "E503":
                raise RegistryLimits(f"npm's registry answered {code[1:]}", _WAIT_SECONDS)
            case "EFBIG":
                raise NoSource(f"its archive has more than {MAX_ARCHIVE_BYTES >> 20} MiB")
            case str() if _CODE.fullmatch(code):
                raise RegistryFailed(f"npm failed with {code}")
        raise RegistryFailed(f"npm ended with status {status}")

    async def _require_registry(self) -> None:
        """Tell a package that is gone from an address that is no registry's."""
        if not self._is_answering:
            ended = await self._run("ping")
            if ended.status != 0:
                raise RegistryFailed("npm's registry does not answer `npm ping`")
        self._is_answering = True


def _renew(folder: Path) -> None:
    remove_tree(folder)
    folder.mkdir(parents=True)


def _only_archive(folder: Path) -> bytes:
    [archive] = folder.glob("*.tgz")
    return archive.read_bytes()


def _decode(output: bytes) -> Any:
    try:
        return msgspec.json.decode(output) if output.strip() else None
    except msgspec.DecodeError:
        raise RegistryFailed("npm printed what is no JSON") from None


def _table(value: object) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None


def _url(repository: object) -> str | None:
    return _text(_table(repository).get("url")) or _text(repository)


def _licence(value: object) -> str | None:
    """As it is written today, or as it was: ``{"type": …}``, or a list of one."""
    if isinstance(value, list):
        value = value[0] if len(value) == 1 else None
    return spdx_expression(_text(value) or _text(_table(value).get("type")))
