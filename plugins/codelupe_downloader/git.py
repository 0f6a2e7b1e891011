"""Clones by git, and what became of it."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Iterable
from pathlib import Path

import anyio

from codelupe_git import process
from codelupe_git.process import Ended

_CLONE_OPTIONS = ("--depth=1", "--single-branch", "--no-tags", "--no-local", "--no-recurse-submodules", "--template=")
_NO_SUCH_REVISION = 1
"""How ``git rev-parse --verify`` ends when there is nothing by that name."""

Watch = Callable[[], Awaitable[Exception]]


class CloneFailed(Exception):
    """Git ended with an error that may pass; the text is what it wrote."""


class RepositoryRefused(Exception):
    """Git ended with an error that will come again: no such repository, a forbidden protocol, a broken tree."""


class DiskFull(Exception):
    """Git ran out of space."""


_KINDS: tuple[tuple[type[Exception], re.Pattern[str]], ...] = (
    (DiskFull, re.compile(r"No space left on device|Disk quota exceeded")),
    (
        RepositoryRefused,
        re.compile(
            r"""repository\ '.*'\ (not\ found|does\ not\ exist) | does\ not\ appear\ to\ be\ a\ git\ repository
            | Repository\ not\ found | transport\ '.*'\ not\ allowed | strange\ (hostname|pathname|port)\ .*\ blocked
            | [Uu]nable\ to\ find\ remote\ helper | could\ not\ read\ Username | Authentication\ failed
            | Permission\ denied\ \(publickey | Host\ key\ verification\ failed
            | requested\ URL\ returned\ error:\ (401|403|404|410|451) | URL\ (rejected|using\ bad)
            | [Oo]ut\ of\ memory | invalid\ path | not\ a\ valid\ path | no\ path\ specified
            | Clone\ succeeded,\ but\ checkout\ failed""",
            re.VERBOSE,
        ),
    ),
)


async def clone(url: str, folder: Path, protocols: Iterable[str], watch: Watch) -> str | None:
    """Clone the newest commit of HEAD into ``folder`` and return its id; None if there is no commit.

    ``watch`` runs meanwhile; the error that it returns ends the clone and is raised here. However this ends, no
    process of git is left.

    Raises:
        CloneFailed, RepositoryRefused, DiskFull: by what git said.
    """
    allowed = list(protocols)
    cloning = ("clone", "--quiet", *_CLONE_OPTIONS, "--", url, str(folder))
    _require_success(await _run_watched(*cloning, protocols=allowed, mark=str(folder), watch=watch))
    naming = ("-C", str(folder), "rev-parse", "--verify", "--quiet", "HEAD^{commit}")
    named = await process.run(*naming, protocols=allowed, mark=str(folder))
    if named.status == _NO_SUCH_REVISION:
        return None
    _require_success(named)
    return named.output


async def _run_watched(*arguments: str, protocols: Iterable[str], mark: str, watch: Watch) -> Ended:
    broken: list[Exception] = []

    async def keep() -> None:
        broken.append(await watch())
        group.cancel_scope.cancel()

    async with anyio.create_task_group() as group:
        group.start_soon(keep)
        ended = await process.run(*arguments, protocols=protocols, mark=mark)
        group.cancel_scope.cancel()
    if broken:
        raise broken[0]
    return ended


def _require_success(ended: Ended) -> None:
    if ended.status == 0:
        return
    for kind, pattern in _KINDS:
        if pattern.search(ended.message):
            raise kind(ended.message)
    raise CloneFailed(ended.message or f"git ended with status {ended.status}")
