"""Clones by git, and what became of it."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from pathlib import Path

import anyio

from codelupe_events import GoneReason
from codelupe_git import process
from codelupe_git.clones import LOCK, NOTE
from codelupe_git.credentials import Credential
from codelupe_git.process import Ended

_CLONE_OPTIONS = ("--depth=1", "--single-branch", "--no-tags", "--no-local", "--no-recurse-submodules", "--template=")
_FETCH_OPTIONS = ("--depth=1", "--no-tags", "--no-recurse-submodules", "--no-write-fetch-head", "--no-auto-maintenance")
_FETCHED = "refs/codelupe/fetched"

Watch = Callable[[], Awaitable[Exception]]


class CloneFailed(Exception):
    """Git ended with an error that may pass; the text is what it wrote."""


class RepositoryRefused(Exception):
    """Git ended with an error that will come again: a forbidden protocol, a broken tree."""


class RepositoryGone(RepositoryRefused):
    """Its host does not give it out, or not to us."""

    def __init__(self, message: str, reason: GoneReason) -> None:
        super().__init__(message)
        self.reason = reason


class HostClosed(CloneFailed):
    """Its host wants no more requests for now, or cannot be reached, when ``status`` is None; ``after`` is how long, if
    it said so.
    """

    def __init__(self, message: str, status: int | None, after: timedelta | None) -> None:
        super().__init__(message)
        self.status = status
        self.after = after


class DiskFull(Exception):
    """Git ran out of space."""


_DISK_FULL = re.compile(r"No space left on device|Disk quota exceeded")
_STATUS = re.compile(r"requested URL returned error: (\d{3})")
_AWAY = re.compile(
    r"Could not resolve (host|proxy)|Failed to connect to|Couldn't connect to|Name or service not known"
    r"|Temporary failure in name resolution|Connection (refused|timed out)|No route to host|Network is unreachable"
)
_CLOSED = (403, 429, 502, 503, 504)
_TOLD = re.compile(r"^remote: .*$", re.MULTILINE)
"""What the host has to say. Only where it refuses for good does its word count, for it may say anything."""
_GONE: tuple[tuple[GoneReason, re.Pattern[str]], ...] = (
    ("deleted", re.compile(r"fatal: repository '(?!file:)[^\n]*://[^\n]*' not found|Repository not found")),
    ("deleted", re.compile(r"returned error: (404|410)")),
    ("private", re.compile(r"could not read (Username|Password)|Authentication failed|returned error: 401")),
    ("blocked", re.compile(r"returned error: 451")),
)
_GONE_BY_WORD: tuple[tuple[GoneReason, re.Pattern[str]], ...] = (
    ("blocked", re.compile(r"DMCA|takedown|access blocked", re.IGNORECASE)),
    ("disabled", re.compile(r"(has been|is) disabled", re.IGNORECASE)),
)
"""How a host explains a 403 that is about the repository, not about the one who asks."""
_REFUSED = re.compile(
    r"""repository\ '.*'\ (not\ found|does\ not\ exist) | does\ not\ appear\ to\ be\ a\ git\ repository
    | transport\ '.*'\ not\ allowed | strange\ (hostname|pathname|port)\ .*\ blocked
    | [Uu]nable\ to\ find\ remote\ helper | Permission\ denied\ \(publickey | Host\ key\ verification\ failed
    | URL\ (rejected|using\ bad) | [Oo]ut\ of\ memory | invalid\ path | not\ a\ valid\ path | no\ path\ specified
    | Clone\ succeeded,\ but\ checkout\ failed""",
    re.VERBOSE,
)


@dataclass(frozen=True, kw_only=True)
class Remote:
    """A repository somewhere else, and how it may be asked for."""

    url: str
    """Without any credential."""
    protocols: frozenset[str]
    credential: Credential | None = field(default=None, repr=False)


async def clone(
    url: str, folder: Path, protocols: Iterable[str], watch: Watch, credential: Credential | None = None
) -> str | None:
    """Clone the newest commit of HEAD into ``folder`` and return its id; None if there is no commit.

    ``watch`` runs meanwhile; the error that it returns ends the clone and is raised here. However this ends, no
    process of git is left.

    Raises:
        CloneFailed, RepositoryRefused, RepositoryGone, HostClosed, DiskFull: by what git said.
    """
    remote = Remote(url=url, protocols=frozenset(protocols), credential=credential)
    cloning = ("clone", "--quiet", *_CLONE_OPTIONS, "--", url, str(folder))
    _require_success(await _run_watched(*cloning, remote=remote, mark=str(folder), watch=watch))
    return await anyio.to_thread.run_sync(read_head, folder)


async def fetch(remote: Remote, previous: Path, folder: Path, watch: Watch) -> str | None:
    """As :func:`clone`, but only what ``previous``, an earlier clone, does not have comes over the network.

    Nothing of ``previous`` is changed: its objects, which git never changes, are shared by hard links.

    Raises:
        CloneFailed, RepositoryRefused, RepositoryGone, HostClosed, DiskFull: by what git said.
    """
    await anyio.to_thread.run_sync(_copy_repository, previous, folder)
    inside, mark = ("-C", str(folder)), str(folder)
    fetching = (*inside, "fetch", "--quiet", *_FETCH_OPTIONS, "--", remote.url, f"+HEAD:{_FETCHED}")
    _require_success(await _run_watched(*fetching, remote=remote, mark=mark, watch=watch))
    checking_out = (*inside, "checkout", "--quiet", "--force", "--detach", _FETCHED)
    _require_success(await _run_watched(*checking_out, remote=remote, mark=mark, watch=watch))
    return await anyio.to_thread.run_sync(read_head, folder)


async def head_of(remote: Remote, mark: str) -> str | None:
    """The commit that HEAD stands at over there; None if there is none.

    Raises:
        CloneFailed, RepositoryRefused, RepositoryGone, HostClosed, DiskFull: by what git said.
    """
    asking = ("ls-remote", "--quiet", "--", remote.url, "HEAD")
    ended = await process.run(*asking, protocols=remote.protocols, mark=mark, credential=remote.credential)
    _require_success(ended)
    return next((line.split("\t")[0] for line in ended.output.splitlines() if line.endswith("\tHEAD")), None)


def read_head(folder: Path) -> str | None:
    """The commit that a clone of ours stands at, read from its files; None if it has none."""
    git = folder / ".git"
    head = (git / "HEAD").read_text().strip()
    if not head.startswith("ref: "):
        return head
    name = head.removeprefix("ref: ")
    with_reference = git / name
    if with_reference.is_file():
        return with_reference.read_text().strip()
    packed = git / "packed-refs"
    lines = packed.read_text(errors="replace").splitlines() if packed.is_file() else []
    return next((line.split(" ")[0] for line in lines if line.endswith(f" {name}")), None)


def _copy_repository(previous: Path, folder: Path) -> None:
    """What git knows of an earlier clone, with links to its files; those that are written in place stay behind."""
    done = subprocess.run(
        ["cp", "--archive", "--link", "--", str(previous / ".git"), str(folder / ".git")],
        check=False,
        capture_output=True,
    )
    if done.returncode:
        raise CloneFailed(done.stderr.decode(errors="replace").strip())
    for name in (Path(".git", "index"), NOTE, LOCK):
        (folder / name).unlink(missing_ok=True)


async def _run_watched(*arguments: str, remote: Remote, mark: str, watch: Watch) -> Ended:
    broken: list[Exception] = []

    async def keep() -> None:
        broken.append(await watch())
        group.cancel_scope.cancel()

    async with anyio.create_task_group() as group:
        group.start_soon(keep)
        ended = await process.run(*arguments, protocols=remote.protocols, mark=mark, credential=remote.credential)
        group.cancel_scope.cancel()
    if broken:
        raise broken[0]
    return ended


def _require_success(ended: Ended) -> None:
    if ended.status != 0:
        raise _error_of(ended)


def _error_of(ended: Ended) -> Exception:
    message = ended.message or f"git ended with status {ended.status}"
    own_words = _TOLD.sub("", message)
    if _DISK_FULL.search(own_words):
        return DiskFull(message)
    status = int(found[1]) if (found := _STATUS.search(own_words)) else None
    reasons = [*_GONE, *(_GONE_BY_WORD if status == 403 else ())]
    for reason, pattern in reasons:
        if pattern.search(message if (reason, pattern) in _GONE_BY_WORD else own_words):
            return RepositoryGone(message, reason)
    if status in _CLOSED or (status is None and _AWAY.search(own_words)):
        return HostClosed(message, status, retry_after(ended.headers))
    return RepositoryRefused(message) if _REFUSED.search(own_words) else CloneFailed(message)


def retry_after(headers: str) -> timedelta | None:
    """How long the last answer of a host says that it wants to be left alone, in seconds or up to a date."""
    last = re.split(r"recv header: HTTP/", headers, flags=re.IGNORECASE)[-1]
    said = re.search(r"recv header: retry-after:[ \t]*([^\r\n]*)", last, re.IGNORECASE)
    if said is None:
        return None
    if said[1].strip().isdigit():
        return timedelta(seconds=min(int(said[1]), 10**9))
    date = re.search(r"recv header: date:[ \t]*([^\r\n]*)", last, re.IGNORECASE)
    now = _time(date[1]) if date else None
    until = _time(said[1])
    return max(timedelta(0), until - (now or datetime.now(UTC))) if until else None


def _time(text: str) -> datetime | None:
    try:
        time = parsedate_to_datetime(text.strip())
    except ValueError:
        return None
    return time if time.tzinfo else time.replace(tzinfo=UTC)
