"""Owners and repositories that are never stored, as the operator's files list them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote

import anyio
import anyio.to_thread

from codelupe import CodelupeError

_MAX_BYTES = 64 << 20
_MARKDOWN = {".md", ".markdown"}
_COMMENT = re.compile(r"(?:^|\s)#.*")
_NAME = re.compile(r"[\w.@~+-]+(?:/[\w.@~+-]+)*")
_URL = re.compile(r"[a-z][a-z0-9+.-]*://(?:[^/]*@)?(?P<host>[^/?#]*)(?P<path>[^?#]*).*", re.IGNORECASE | re.DOTALL)
_SCP_LIKE = re.compile(r"(?:[^/@:]+@)?(?P<host>[^/:@]+\.[^/:@]+):(?P<path>(?!//).*)", re.DOTALL)
_ON_GITHUB = re.compile(r"(?<![\w.-])(?:https?://)?(?:www\.)?github\.com/([\w-]+/[\w.-]+)", re.IGNORECASE)
_GITHUB = "github.com"
_GITHUB_PAGES = {
    *("about", "apps", "contact", "customer-stories", "explore", "features", "marketplace", "notifications", "orgs"),
    *("pricing", "search", "security", "settings", "site", "sponsors", "topics", "trending", "users"),
}
"""What stands in an owner's place on GitHub's own pages."""


class OptOutUnreadable(CodelupeError):
    """A list of those who opted out cannot be read, so it is not known what must not be stored."""

    code = "opt-out-unreadable"


@dataclass(frozen=True)
class OptOut:
    """Those who opted out, by their names in small letters: ``owner``, ``owner/name``, ``host/owner/name``."""

    names: frozenset[str] = frozenset()

    def is_listed(self, *names: str | None) -> bool:
        """Whether one of a repository's names or addresses is listed, or an owner in one of them."""
        return any(not self.names.isdisjoint(_prefixes(name)) for name in names if name)


class OptOutList:
    """The operator's files. Each is read again when it has changed."""

    def __init__(self, paths: Sequence[Path] = ()) -> None:
        self._paths = paths
        self._read: dict[Path, tuple[tuple[int, int, int], frozenset[str]]] = {}

    async def current(self) -> OptOut:
        """Those who have opted out by now.

        Raises:
            OptOutUnreadable: a file is not there, or a line of it names nothing.
        """
        return await anyio.to_thread.run_sync(self._current) if self._paths else OptOut()

    def _current(self) -> OptOut:
        return OptOut(frozenset().union(*(self._names(path) for path in self._paths)))

    def _names(self, path: Path) -> frozenset[str]:
        try:
            found = path.stat()
            state = (found.st_mtime_ns, found.st_size, found.st_ino)
            if path not in self._read or self._read[path][0] != state:
                self._read[path] = state, frozenset(read_opt_out(path))
        except OSError as error:
            raise _unreadable(path, error.strerror or str(error)) from error
        return self._read[path][1]


def read_opt_out(path: Path) -> Iterator[str]:
    """The names in a file: one entry a line, or in Markdown (``.md``) every repository on GitHub that it links to.

    Raises:
        OptOutUnreadable: a line is no entry, or the Markdown names no repository.
        OSError: the file cannot be read.
    """
    text = _text(path)
    if path.suffix.lower() in _MARKDOWN:
        found = [name for name in _ON_GITHUB.findall(text) if name.split("/")[0].lower() not in _GITHUB_PAGES]
        if not found:
            raise _unreadable(path, "it is Markdown, and names no https://github.com/OWNER/NAME")
        yield from (_normal(name.rstrip(".")) for name in found)
        return
    for number, line in enumerate(text.splitlines(), 1):
        entry = _COMMENT.sub("", line).strip().removeprefix("@").removesuffix("/*")
        if entry:
            if not _is_entry(entry):
                raise _unreadable(path, f"line {number} is neither OWNER, OWNER/NAME nor a URL")
            yield _normal(entry)


def _is_entry(text: str) -> bool:
    """Whether it names an owner, a repository or a folder, and not a whole host."""
    address = _URL.fullmatch(text) or _SCP_LIKE.fullmatch(text)
    name = address["path"].strip("/") if address else text.strip("/")
    return _NAME.fullmatch(name) is not None and name.casefold() not in {_GITHUB, f"www.{_GITHUB}"}


def _text(path: Path) -> str:
    with path.open("rb") as file:
        content = file.read(_MAX_BYTES + 1)
    if len(content) > _MAX_BYTES:
        raise _unreadable(path, f"it has more than {_MAX_BYTES >> 20} MiB")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise _unreadable(path, "it is not UTF-8") from None


def _unreadable(path: Path, reason: str) -> OptOutUnreadable:
    return OptOutUnreadable(
        f"the opt-out list {path} cannot be read: {reason}",
        hint="Nothing is crawled until it can. Correct the file, or `opt_out` in [plugins.crawler].",
    )


def _normal(name: str) -> str:
    """A name or an address without what may be written in several ways."""
    host, parts = _split(name)
    return "/".join([host, *parts] if host else parts)


def _prefixes(name: str) -> Iterator[str]:
    """What may be listed of it: itself and all that it is part of, with its host and without."""
    host, parts = _split(name)
    for end in range(1, len(parts) + 1):
        path = "/".join(parts[:end])
        yield path
        yield f"{host}/{path}"


def _split(name: str) -> tuple[str, list[str]]:
    """The host, but for GitHub and where there is none, and the parts of the path; on GitHub owner and name only."""
    address = _URL.fullmatch(name) or _SCP_LIKE.fullmatch(name)
    host, path = (address["host"], address["path"]) if address else ("", name)
    parts = [part for part in unquote(path).casefold().split("/") if part]
    if address and name.casefold().startswith("file:"):
        return "file:", ["/".join(parts)]
    if not host and parts and parts[0].removeprefix("www.") == _GITHUB:
        host, *parts = parts
    host = re.sub(r":\d+$", "", host.casefold()).removeprefix("www.")
    if host == _GITHUB:
        host, parts = "", parts[:2]
    return host, [*parts[:-1], parts[-1].removesuffix(".git")] if parts else []
