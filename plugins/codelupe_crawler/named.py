"""The sources that the user names: folders under git, plain folders, and git URLs."""

from __future__ import annotations

import hashlib
import os
import re
from pathlib import Path
from urllib.parse import unquote, urlsplit

import anyio.to_thread

from codelupe import Repository
from codelupe_crawler import git
from codelupe_crawler.files import main_language, read_text, walk
from codelupe_crawler.snapshots import Files, Snapshots

NO_COMMIT = "empty"
"""The revision of a repository without a commit."""
_USERINFO = re.compile(r"://(?![^/@:]*:\d*(?:/|$))([^/@:]*)(?::[^/]*|:.*)?@")
"""What stands before the host, also where a password holds an ``@`` or a ``/`` that should have been escaped."""
_SCP_LIKE = re.compile(r"[^/:]+:(?!//).*")


class SourceUnavailable(Exception):
    """A named source is not there or cannot be read; the text says why."""


def named_source(text: str, timeout: float) -> NamedFolder | NamedUrl:
    """A source as the user wrote it: ``~/code/project``, ``file:///srv/project``, ``https://host/owner/project``."""
    if text.startswith("file://"):
        return NamedFolder(Path(unquote(urlsplit(text).path)), timeout)
    folder = Path(text).expanduser()
    if "://" in text or (_SCP_LIKE.fullmatch(text) and not folder.exists()):
        return NamedUrl(text, timeout)
    return NamedFolder(folder, timeout)


class NamedFolder:
    """A folder on this machine."""

    def __init__(self, path: Path, timeout: float) -> None:
        self._path = path
        self._timeout = timeout
        self.label = _printable(path)

    async def external_id(self) -> str:
        return _printable(await anyio.to_thread.run_sync(self._path.resolve))

    async def describe(self, snapshots: Snapshots) -> Repository:
        """The folder itself where it is under git, else a copy of its source files.

        Raises:
            SourceUnavailable: there is no such folder, or nothing in it to read.
            codelupe_crawler.git.GitFailed: git cannot read it.
        """
        path = await anyio.to_thread.run_sync(self._path.resolve)
        if not path.is_dir():
            raise SourceUnavailable("there is no such folder")
        if git.is_repository(path):
            return _repository(_printable(path), path.as_uri(), await git.head_of(path.as_uri(), within=self._timeout))
        return await self._describe_plain(path, snapshots)

    async def _describe_plain(self, root: Path, snapshots: Snapshots) -> Repository:
        files, revision, size = await anyio.to_thread.run_sync(_survey, root)
        if not files:
            raise SourceUnavailable("it holds no source file")
        address = hashlib.sha256(os.fsencode(root)).hexdigest()[:8]
        name = f"{re.sub(r'[^A-Za-z0-9]+', '-', root.name).strip('-')[:64]}~{address}"
        return Repository(
            source="local",
            external_id=_printable(root),
            full_name=_last_two_parts(_printable(root)),
            url=await snapshots.keep(name, revision, lambda: _read(root, files)),
            revision=revision,
            language=main_language(files),
            size_kib=-(-size // 1024),
        )


class NamedUrl:
    """A repository somewhere else. A user name for ssh is kept, any other credentials are not: they would be
    written into the log. Git finds them in ``~/.netrc``.
    """

    def __init__(self, text: str, timeout: float) -> None:
        self._url = without_credentials(text)
        self._timeout = timeout
        self.label = re.sub(r"(://|^)[^/@]*@", r"\1", self._url)

    async def external_id(self) -> str:
        return self.label

    async def describe(self, _: Snapshots) -> Repository:
        """The repository with the commit of its HEAD.

        Raises:
            codelupe_crawler.git.GitFailed: it cannot be reached.
        """
        return _repository(self.label, self._url, await git.head_of(self._url, within=self._timeout))


def without_credentials(url: str) -> str:
    """The URL without a password, and without a user name unless ssh needs it."""
    replacement = r"://\1@" if url.startswith("ssh://") else "://"
    return _USERINFO.sub(replacement, url, count=1)


def _repository(external_id: str, url: str, head: str | None) -> Repository:
    return Repository(
        source="local",
        external_id=external_id,
        full_name=_last_two_parts(external_id),
        url=url,
        revision=head or NO_COMMIT,
    )


def _last_two_parts(address: str) -> str:
    """``owner/repo`` from the end of a path or URL."""
    parts = [part for part in re.split(r"[/:]+", address.removesuffix("/").removesuffix(".git")) if part]
    return "/".join(parts[-2:]) if len(parts) > 1 else f"local/{''.join(parts) or 'root'}"


def _survey(root: Path) -> tuple[list[Path], str, int]:
    """The folder's source files, a hash over their names and contents, and their size in bytes."""
    digest, size, found = hashlib.sha256(), 0, []
    for path in walk(root):
        content = read_text(root / path, root)
        if content is not None:
            found.append(path)
            size += len(content)
            digest.update(os.fsencode(path) + b"\0" + hashlib.sha256(content).digest())
    return found, digest.hexdigest()[:40], size


def _read(root: Path, files: list[Path]) -> Files:
    for path in files:
        content = read_text(root / path, root)
        if content is not None:
            yield str(path), content


def _printable(path: Path) -> str:
    """The path as text; bytes that are not UTF-8 are written as escapes, so that two paths stay two."""
    return os.fsencode(path).decode(errors="backslashreplace")
