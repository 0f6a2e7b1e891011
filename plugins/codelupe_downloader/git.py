"""Git, run by GitPython on addresses and contents that nobody has vouched for."""

from __future__ import annotations

import os
import re
import resource
import signal
import subprocess
import time
from collections.abc import Awaitable, Callable, Iterable
from contextlib import suppress
from importlib.resources import files
from pathlib import Path
from typing import IO, cast

import anyio
import anyio.to_thread
from git import Git

MARK = "CODELUPE_CLONE"
"""The variable by which :func:`end_processes` knows what works on which clone: the name of the folder."""
_MEMORY_BYTES = 2 << 30
"""What one git process may allocate. A tree that names itself many times over would fill any machine's memory."""
_ENVIRONMENT = {
    "GIT_ASKPASS": "true",
    "GIT_ATTR_NOSYSTEM": "1",
    "GIT_CONFIG_GLOBAL": str(files(__package__) / "gitconfig"),
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_LFS_SKIP_SMUDGE": "1",
    "GIT_NO_LAZY_FETCH": "1",
    "GIT_SSH_COMMAND": "ssh -oBatchMode=yes -oControlPath=none",
    "GIT_TERMINAL_PROMPT": "0",
}
_MESSAGE_BYTES = 4096
"""How much of git's last words is kept; a server may send as many as it likes."""
_CLONE_OPTIONS = ("--depth=1", "--single-branch", "--no-tags", "--no-local", "--no-recurse-submodules", "--template=")
_PAUSE_SECONDS = 0.01
_PATIENCE = 100
"""How often, after pauses, to look whether killed processes are gone; the kernel takes a moment to bury them."""
_NO_SUCH_REVISION = 1
"""How ``git rev-parse --verify`` ends when there is nothing by that name."""

Watch = Callable[[], Awaitable[Exception]]


class CloneFailed(Exception):
    """Git ended with an error that may pass, and with a ``status``; the text is what it wrote."""

    def __init__(self, message: str, status: int | None = None) -> None:
        super().__init__(message)
        self.status = status


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
    allowed = {"GIT_ALLOW_PROTOCOL": ":".join(sorted(protocols)), MARK: folder.name}
    await _run("clone", "--quiet", *_CLONE_OPTIONS, "--", url, str(folder), environment=allowed, watch=watch)
    try:
        return await _run("-C", str(folder), "rev-parse", "--verify", "--quiet", "HEAD^{commit}", environment=allowed)
    except CloneFailed as error:
        if error.status == _NO_SUCH_REVISION:
            return None
        raise


async def _run(*arguments: str, environment: dict[str, str], watch: Watch | None = None) -> str:
    process = _start(arguments, environment)
    broken: list[Exception] = []

    async def keep(watch: Watch) -> None:
        broken.append(await watch())
        group.cancel_scope.cancel()

    try:
        async with anyio.create_task_group() as group:
            if watch is not None:
                group.start_soon(keep, watch)
            output, message = await anyio.to_thread.run_sync(_read_to_end, process, abandon_on_cancel=True)
            group.cancel_scope.cancel()
    finally:
        with anyio.CancelScope(shield=True):
            await _end(process, environment[MARK])
    if broken:
        raise broken[0]
    if process.returncode:
        raise _failure(message, process.returncode)
    return output


def _start(arguments: Iterable[str], environment: dict[str, str]) -> subprocess.Popen[bytes]:
    """Start git in a process group of its own, without any ``GIT_…`` variable of this process."""
    foreign = [part for name in os.environ if name.startswith("GIT_") for part in ("-u", name)]
    settings = [f"{name}={value}" for name, value in {**_ENVIRONMENT, **environment}.items()]
    command = ["env", *foreign, *settings, Git.GIT_PYTHON_GIT_EXECUTABLE or "git", *arguments]
    started = Git().execute(command, as_process=True, start_new_session=True)
    popen, started.proc = started.proc, None  # from here on it is ours to end
    process = cast("subprocess.Popen[bytes]", popen)
    with suppress(ProcessLookupError):
        resource.prlimit(process.pid, resource.RLIMIT_DATA, (_MEMORY_BYTES, _MEMORY_BYTES))
    return process


def _read_to_end(process: subprocess.Popen[bytes]) -> tuple[str, str]:
    """What git printed, and the end of what it complained about, once it has ended."""
    with process, cast("IO[bytes]", process.stderr) as stderr, cast("IO[bytes]", process.stdout) as stdout:
        tail = b""
        while chunk := stderr.read(_MESSAGE_BYTES):
            tail = (tail + chunk)[-_MESSAGE_BYTES:]
        return _printable(stdout.read()), _printable(tail)


def _printable(text: bytes) -> str:
    return re.sub(r"[^\n -~\xa0-\U0010ffff]", "\N{REPLACEMENT CHARACTER}", text.decode(errors="replace")).strip()


def _failure(message: str, status: int) -> Exception:
    for kind, pattern in _KINDS:
        if pattern.search(message):
            return kind(message)
    return CloneFailed(message or f"git ended with status {status}", status)


async def _end(process: subprocess.Popen[bytes], mark: str) -> None:
    """Kill git and whatever it has started, unless it has ended by itself, and see them gone."""
    if process.returncode is None:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        await anyio.to_thread.run_sync(_bury, process, mark)


def _bury(process: subprocess.Popen[bytes], mark: str) -> None:
    """Wait for the killed process, kill what it left behind, and then close the pipes that they shared."""
    with process:
        process.wait()
        end_processes(mark)


def end_processes(mark: str) -> None:
    """Kill every process that works on a clone whose mark begins like this, whoever started it, and see them gone.

    A daemon that is killed leaves its git behind; without ``/proc`` that one is left to itself.
    """
    for _ in range(_PATIENCE):
        found = [int(path.parent.name) for path in Path("/proc").glob("[0-9]*/environ") if _is_marked(path, mark)]
        if not found:
            return
        for pid in found:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(_PAUSE_SECONDS)


def _is_marked(environ: Path, mark: str) -> bool:
    try:
        return f"{MARK}={mark}".encode() in environ.read_bytes()
    except OSError:
        return False
