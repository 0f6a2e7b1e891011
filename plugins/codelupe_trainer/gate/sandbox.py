"""Runs a generated program where it can do no harm: no network, no files but its own, no sight of other processes.

Bubblewrap (`bwrap`, as Flatpak uses it) gives the program namespaces and a file system of its own: of the machine's it
holds the system's libraries and this Python, read-only. `prlimit` of util-linux limits processor time, memory, files
and processes. The daemon's root gives up its user inside; any other user has a user namespace of its own.
"""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

_UNPRIVILEGED = "65534"
_UNUSED = range(1_879_048_192, 2_147_483_648)
"""Users' numbers that no system gives away (systemd's list of them, UIDS-GIDS): with one of its own for each run, other
runs do not count among its processes."""
_PYTHON = Path("/python")
_SYSTEM = ("bin", "lib", "lib64", "sbin")
_ISOLATED = ("--unshare-net", "--unshare-pid", "--unshare-ipc", "--unshare-uts", "--die-with-parent", "--new-session")


class SandboxMissing(Exception):
    """Programs cannot be run apart from others here; the message says what is missing."""


class Outcome(StrEnum):
    """How a program ended."""

    PASSED = "passed"
    FAILED = "failed"
    TIMED_OUT = "timed out"


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What one program may use. Memory is that of each process, so all together may use as many times as much."""

    seconds: float = 10
    cpu_seconds: int = 5
    memory_bytes: int = 512 * 1024 * 1024
    folder_bytes: int = 16 * 1024 * 1024
    """Of its folder `/tmp`, which is in memory and gone with it."""
    processes: int = 8


def check_sandbox() -> None:
    """Run a program that does nothing.

    Raises:
        SandboxMissing: that fails, or a program that is needed is not installed.
    """
    needed = ("bwrap", "prlimit", "setpriv")
    if missing := [name for name in needed if shutil.which(name) is None]:
        raise SandboxMissing(f"{' and '.join(missing)} not found; install the packages bubblewrap and util-linux")
    if run_program("pass", Limits()) is not Outcome.PASSED:
        raise SandboxMissing("bwrap cannot make a sandbox here; are user namespaces allowed?")


def run_program(program: str, limits: Limits) -> Outcome:
    """Run Python code to its end; it passes if the end is reached, so a program that exits early does not.

    It must be called off the event loop.
    """
    told, tells = os.pipe()
    token = secrets.token_hex()
    try:
        process = subprocess.Popen(
            [*_sandbox(limits), *_limited(limits), str(_python()), "-I", "-"],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            pass_fds=(tells,),
            env={},
            start_new_session=True,
        )
    finally:
        os.close(tells)
    with os.fdopen(told, "rb") as reader:
        ended = _wait(process, f"{program}\n\n__import__('os').write({tells}, b'{token}')\n".encode(), limits.seconds)
        if not ended:
            return Outcome.TIMED_OUT
        return Outcome.PASSED if reader.read(len(token)) == token.encode() else Outcome.FAILED


def _wait(process: subprocess.Popen[bytes], source: bytes, seconds: float) -> bool:
    """Whether it ended by itself; either way nothing of it is left."""
    try:
        process.communicate(source, timeout=seconds)
    except subprocess.TimeoutExpired:
        return False
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
    return True


def _sandbox(limits: Limits) -> Iterator[str]:
    yield from ("bwrap", *_ISOLATED, "--clearenv", "--proc", "/proc", "--dev", "/dev")
    yield from ("--ro-bind", "/usr", "/usr", "--ro-bind", sys.base_prefix, str(_PYTHON))
    for path in (Path("/") / name for name in _SYSTEM):
        if path.is_symlink():
            yield from ("--symlink", str(path.readlink()), str(path))
        elif path.is_dir():
            yield from ("--ro-bind", str(path), str(path))
    yield from ("--size", str(limits.folder_bytes), "--perms", "1777", "--tmpfs", "/tmp", "--chdir", "/tmp")  # noqa: S108
    if os.geteuid() == 0:
        user = secrets.choice(_UNUSED)
        yield from ("--", "setpriv", f"--reuid={user}", f"--regid={user}", "--clear-groups", "--no-new-privs")
        yield from ("--inh-caps=-all", "--bounding-set=-all")
    else:
        yield from ("--unshare-user", "--uid", _UNPRIVILEGED, "--gid", _UNPRIVILEGED, "--disable-userns", "--")


def _limited(limits: Limits) -> Iterator[str]:
    yield "prlimit"
    yield f"--cpu={limits.cpu_seconds}"
    yield f"--as={limits.memory_bytes}"
    yield f"--fsize={limits.folder_bytes}"
    yield f"--nproc={limits.processes}"
    yield from ("--core=0", "--")


def _python() -> Path:
    """This Python, where the sandbox has it."""
    return _PYTHON / Path(sys.executable).resolve().relative_to(Path(sys.base_prefix).resolve())
