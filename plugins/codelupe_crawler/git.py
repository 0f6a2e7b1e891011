"""What the crawler asks git for."""

from __future__ import annotations

import subprocess
import uuid
from pathlib import Path

import anyio

from codelupe_git import process

_PROTOCOLS = ("https", "http", "ssh", "git", "file")


class GitFailed(Exception):
    """Git ended with an error; the text is what it wrote."""


def run(*arguments: str) -> None:
    """Run git on this machine's files to its end.

    Raises:
        GitFailed: it ended with an error.
    """
    started = process.start(*arguments)
    check(started, started.communicate()[1])


def check(ended: subprocess.Popen[bytes], stderr: bytes) -> None:
    """Raise :class:`GitFailed` unless the ended process succeeded."""
    _require_success(ended.returncode, stderr.decode(errors="replace").strip())


async def head_of(url: str, *, within: float) -> str | None:
    """The commit that a repository's HEAD points to; None if it has no commit yet.

    Raises:
        GitFailed: it is no repository or cannot be reached ``within`` so many seconds.
    """
    asking = ("ls-remote", "--quiet", "--", url, "HEAD")
    try:
        with anyio.fail_after(within):
            ended = await process.run(*asking, protocols=_PROTOCOLS, mark=uuid.uuid4().hex)
    except TimeoutError:
        raise GitFailed(f"no answer within {within:g} seconds") from None
    _require_success(ended.status, ended.message)
    heads = [line.split("\t")[0] for line in ended.output.splitlines() if line.endswith("\tHEAD")]
    return heads[0] if heads else None


def _require_success(status: int, message: str) -> None:
    if status:
        raise GitFailed(message or f"git ended with status {status}")


def is_repository(folder: Path) -> bool:
    """Whether the folder is a work tree or a bare repository."""
    return (folder / ".git").exists() or ((folder / "HEAD").is_file() and (folder / "objects").is_dir())
