"""A project's page in a simple index, as JSON (PEP 691, 700, 792) or HTML (PEP 503, 592)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from html.parser import HTMLParser
from typing import Any
from urllib.parse import unquote, urljoin, urlsplit

import msgspec
from packaging.utils import InvalidSdistFilename, canonicalize_name, parse_sdist_filename
from packaging.version import Version

from codelupe_crawler.registries.release import time_of

JSON_TYPE = "application/vnd.pypi.simple.v1+json"
_REMOTE = ("https:", "http:")
_LOCAL = (*_REMOTE, "file:")
ACCEPT = f"{JSON_TYPE}, application/vnd.pypi.simple.v1+html;q=0.2, text/html;q=0.1"


@dataclass(frozen=True, kw_only=True)
class IndexFile:
    """One file of a project."""

    name: str
    url: str
    hashes: dict[str, str] = field(default_factory=dict)
    uploaded_at: datetime | None = None
    is_yanked: bool = False


@dataclass(frozen=True, kw_only=True)
class IndexPage:
    """What one index says of a project; ``status`` is PEP 792's, such as ``archived`` or ``quarantined``."""

    files: Sequence[IndexFile]
    status: str = "active"


@dataclass(frozen=True, kw_only=True)
class SourceFile:
    """A release's archive of source."""

    version: Version
    file: IndexFile


class NotAnIndex(Exception):
    """A page is that of no index."""


def read_page(content: bytes, content_type: str, url: str) -> IndexPage:
    """The page that lies at ``url``. What it has on this machine is left out unless it lies here itself.

    Raises:
        NotAnIndex: it cannot be read.
    """
    read: Callable[[bytes, str], IndexPage] = _read_json if "json" in content_type.lower() else _read_html
    try:
        page = read(content, url)
    except (msgspec.DecodeError, AttributeError, KeyError, TypeError, ValueError) as error:
        raise NotAnIndex(f"{type(error).__name__}") from error
    kinds = _LOCAL if url.startswith("file:") else _REMOTE
    return replace(page, files=[file for file in page.files if file.url.lower().startswith(kinds)])


def source_files(project: str, pages: Sequence[IndexPage]) -> Iterator[SourceFile]:
    """Those of the project's files that are source archives and not yanked."""
    for page in pages:
        for file in page.files:
            try:
                name, version = parse_sdist_filename(file.name)
            except InvalidSdistFilename:
                continue
            if not file.is_yanked and name == canonicalize_name(project):
                yield SourceFile(version=version, file=file)


def newest(found: Sequence[SourceFile]) -> SourceFile:
    """The highest final version's file, as pip chooses; of the others only where there is no final one."""
    finals = [each for each in found if not each.version.is_prerelease]
    return max(finals or found, key=lambda each: (each.version, each.file.name.endswith(".gz")))


def _read_json(content: bytes, url: str) -> IndexPage:
    page = msgspec.json.decode(content)
    status = page.get("project-status") or {}
    return IndexPage(
        files=[_json_file(file, url) for file in page["files"] if file is not None],
        status=str(status.get("status", "active")),
    )


def _json_file(file: dict[str, Any], page_url: str) -> IndexFile:
    return IndexFile(
        name=str(file["filename"]),
        url=urljoin(page_url, str(file["url"])),
        hashes={str(name): str(value) for name, value in (file.get("hashes") or {}).items()},
        uploaded_at=time_of(file.get("upload-time")),
        is_yanked=file.get("yanked", False) is not False,
    )


def _read_html(content: bytes, url: str) -> IndexPage:
    anchors = _Anchors(url)
    anchors.feed(content.decode(errors="replace"))
    anchors.close()
    if not anchors.is_html:
        raise NotAnIndex("it is no HTML")
    return IndexPage(files=anchors.files)


class _Anchors(HTMLParser):
    def __init__(self, url: str) -> None:
        super().__init__()
        self.files: list[IndexFile] = []
        self.is_html = False
        self._base = url

    def handle_decl(self, decl: str) -> None:
        self.is_html = self.is_html or decl.lower().startswith("doctype")

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.is_html = True
        given = dict(attrs)
        link = given.get("href")
        if link and tag == "base":
            self._base = urljoin(self._base, link)
        elif link and tag == "a":
            parts = urlsplit(urljoin(self._base, link.strip()))
            algorithm, _, value = parts.fragment.partition("=")
            self.files.append(
                IndexFile(
                    name=unquote(parts.path.rsplit("/", 1)[-1]),
                    url=parts._replace(fragment="").geturl(),
                    hashes={algorithm: value} if value else {},
                    is_yanked="data-yanked" in given,
                )
            )
