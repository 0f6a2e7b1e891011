"""Git, run by GitPython with nothing of the user's configuration and without ever asking a question."""

from __future__ import annotations

import os
import signal
import subprocess
from contextlib import suppress
from importlib.resources import files
from pathlib import Path
from typing import cast

import anyio
import anyio.lowlevel
import anyio.to_thread
from git import Git

ENVIRONMENT = {
    "GIT_ALLOW_PROTOCOL": "https:http:ssh:git:file",
    "GIT_ASKPASS": "true",
    "GIT_CONFIG_GLOBAL": str(files(__package__) / "gitconfig"),
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_NO_LAZY_FETCH": "1",
    "GIT_SSH_COMMAND": "ssh -oBatchMode=yes",
    "GIT_TERMINAL_PROMPT": "0",
}


class GitFailed(Exception):
    """Git ended with an error; the text is what it wrote."""


def start(*arguments: str, stdin: int | None = None) -> subprocess.Popen[bytes]:
    """Start git in a process group of its own, without any ``GIT_…`` variable of this process."""
    foreign = [part for name in os.environ if name.startswith("GIT_") for part in ("-u", name)]
    settings = [f"{name}={value}" for name, value in ENVIRONMENT.items()]
    command = ["env", *foreign, *settings, Git.GIT_PYTHON_GIT_EXECUTABLE or "git", *arguments]
    started = Git().execute(command, istream=stdin, as_process=True, start_new_session=True)
    process, started.proc = started.proc, None  # from here on it is ours to end
    return cast("subprocess.Popen[bytes]", process)


def run(*arguments: str) -> None:
    """Run git to its end.

    Raises:
        GitFailed: it ended with an error.
    """
    process = start(*arguments)
    check(process, process.communicate()[1])


def check(process: subprocess.Popen[bytes], stderr: bytes) -> None:
    """Raise :class:`GitFailed` unless the ended process succeeded."""
    if process.returncode:
        raise GitFailed(stderr.decode(errors="replace").strip() or f"git ended with status {process.returncode}")


async def head_of(url: str, *, within: float) -> str | None:
    """The commit that a repository's HEAD points to; None if it has no commit yet.

    Raises:
        GitFailed: it is no repository or cannot be reached ``within`` so many seconds.
    """
    process = start("ls-remote", "--quiet", "--", url, "HEAD")
    try:
        with anyio.fail_after(within):
            stdout, stderr = await _communicate(process)
    except TimeoutError:
        raise GitFailed(f"no answer within {within:g} seconds") from None
    check(process, stderr)
    heads = [line.split("\t")[0] for line in stdout.decode().splitlines() if line.endswith("\tHEAD")]
    return heads[0] if heads else None


async def _communicate(process: subprocess.Popen[bytes]) -> tuple[bytes, bytes]:
    """What the process writes until it ends; cancelling this kills it, and its pipes are closed either way."""

    async def kill_when_cancelled() -> None:
        try:
            await anyio.sleep_forever()
        finally:
            if process.returncode is None:
                with suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)

    async with anyio.create_task_group() as group:
        group.start_soon(kill_when_cancelled)
        with anyio.CancelScope(shield=True):
            written = await anyio.to_thread.run_sync(process.communicate)
        await anyio.lowlevel.checkpoint_if_cancelled()
        group.cancel_scope.cancel()
    return written


def is_repository(folder: Path) -> bool:
    """Whether the folder is a work tree or a bare repository."""
    return (folder / ".git").exists() or ((folder / "HEAD").is_file() and (folder / "objects").is_dir())
