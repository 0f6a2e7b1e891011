"""Git, started with nothing of the user's configuration, without asking a question, and ended for sure."""

from __future__ import annotations

import os
import re
import resource
import signal
import subprocess
import time
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager, suppress
from importlib.resources import files
from pathlib import Path
from typing import IO, NamedTuple, cast

import anyio
import anyio.to_thread

from codelupe_git.credentials import Credential, lent

MARK = "CODELUPE_GIT"
"""The variable by which :func:`end_processes` knows what a process of git works on."""
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
    "GIT_TRACE_CURL_NO_DATA": "1",
    "LANGUAGE": "C",
    "LC_ALL": "C",
}
_KEPT = {
    *("PATH", "LD_LIBRARY_PATH", "HOME", "USER", "LOGNAME", "TMPDIR", "SSH_AUTH_SOCK", "SSL_CERT_FILE", "SSL_CERT_DIR"),
    *("http_proxy", "https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY", "no_proxy", "NO_PROXY"),
}
"""What git inherits of this process's environment; the rest may hold tokens that are none of its business."""
_MESSAGE_BYTES = 4096
"""How much of git's last words is kept; a server may send as many as it likes."""
_TRACE_BYTES = 64 << 10
_PAUSE_SECONDS = 0.01
_PATIENCE = 100
"""How often, after pauses, to look whether killed processes are gone; the kernel takes a moment to bury them."""


class Ended(NamedTuple):
    """How git ended: its exit status, what it printed, and the end of what it complained about."""

    status: int
    output: str
    message: str
    headers: str = ""
    """What git traced of its talk by HTTP, if it failed."""


async def run(*arguments: str, protocols: Iterable[str], mark: str, credential: Credential | None = None) -> Ended:
    """Run git to its end. Cancelled or not, no process of git is left, nor what it has started.

    It fetches by these ``protocols`` only, and shows the ``credential`` to none but the host that this is for. Whatever
    has the same ``mark`` ends with it when it is cancelled.
    """
    with lent(credential) as (options, descriptors), _trace() as trace:
        process = start(*options, *arguments, protocols=protocols, mark=mark, descriptors=descriptors, trace=trace)
        try:
            output, message = await anyio.to_thread.run_sync(_read_to_end, process, abandon_on_cancel=True)
        finally:
            with anyio.CancelScope(shield=True):
                await _end(process, mark)
        if credential is not None:
            message = credential.hidden_in(message)
        return Ended(process.returncode, output, message, _read_trace(trace) if process.returncode else "")


def start(
    *arguments: str,
    protocols: Iterable[str] = (),
    mark: str = "",
    stdin: int = subprocess.DEVNULL,
    descriptors: Collection[int] = (),
    trace: int | None = None,
) -> subprocess.Popen[bytes]:
    """Start git in a process group of its own, with little of this process's environment.

    It inherits the ``descriptors``, and writes to ``trace`` what it says and hears by HTTP, secrets left out.
    """
    environment = {name: value for name, value in os.environ.items() if name in _KEPT}
    environment |= _ENVIRONMENT | {"GIT_ALLOW_PROTOCOL": ":".join(sorted(protocols)), MARK: mark}
    if trace is not None:
        environment["GIT_TRACE_CURL"] = f"/proc/self/fd/{trace}"
        descriptors = [*descriptors, trace]
    process = subprocess.Popen(
        ["git", *arguments],
        stdin=stdin,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment,
        pass_fds=descriptors,
        start_new_session=True,
    )
    with suppress(ProcessLookupError):
        resource.prlimit(process.pid, resource.RLIMIT_DATA, (_MEMORY_BYTES, _MEMORY_BYTES))
    return process


@contextmanager
def _trace() -> Iterator[int]:
    """Memory to be written to, without a name."""
    descriptor = os.memfd_create("codelupe")
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _read_trace(descriptor: int) -> str:
    size = os.fstat(descriptor).st_size
    return os.pread(descriptor, _TRACE_BYTES, max(0, size - _TRACE_BYTES)).decode(errors="replace")


def end_processes(mark: str) -> None:
    """Kill every process of git whose mark begins like this, whichever process started it, and see them gone.

    A daemon that is killed leaves its git behind; without ``/proc`` that one is left to itself. An empty mark names
    none: git that was started without a mark has its process group only.
    """
    if not mark:
        return
    for _ in range(_PATIENCE):
        found = [int(path.parent.name) for path in Path("/proc").glob("[0-9]*/environ") if _is_marked(path, mark)]
        if not found:
            return
        for pid in found:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(_PAUSE_SECONDS)


def _read_to_end(process: subprocess.Popen[bytes]) -> tuple[str, str]:
    with process, cast("IO[bytes]", process.stderr) as stderr, cast("IO[bytes]", process.stdout) as stdout:
        tail = b""
        while chunk := stderr.read(_MESSAGE_BYTES):
            tail = (tail + chunk)[-_MESSAGE_BYTES:]
        return _printable(stdout.read()), _printable(tail)


def _printable(text: bytes) -> str:
    return re.sub(r"[^\n\t -~\xa0-\U0010ffff]", "\N{REPLACEMENT CHARACTER}", text.decode(errors="replace")).strip()


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


def _is_marked(environ: Path, mark: str) -> bool:
    try:
        return f"{MARK}={mark}".encode() in environ.read_bytes()
    except OSError:
        return False
