"""A real systemd and journald in a container, booted by ``boot.sh`` beside this file and gone without a trace."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import tempfile
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.processes import HANGS

_BOOT = Path(__file__).with_name("boot.sh")
_PROGRAMS = {
    "systemd-nspawn": "systemd-container",
    "systemctl": "systemd",
    "unshare": "util-linux",
    "nsenter": "util-linux",
    "findmnt": "util-linux",
    "mount": "mount",
}
_UNSUPPORTED = 9
_BOOT_LIMIT_S = 240
_POWER_OFF_LIMIT_S = 30


class Unavailable(Exception):
    """This machine cannot hold the sandbox; the message says what is missing."""


class Sandbox:
    """The running container; its first process is systemd."""

    def __init__(self, pid: int) -> None:
        self._pid = pid

    def run(self, *command: str, check: bool = True, environment: Mapping[str, str] | None = None) -> str:
        """What a command prints that runs as root in the container."""
        inside = ["nsenter", "-t", str(self._pid), "-m", "-p", "-u", "-i", "-C", *command]
        done = subprocess.run(
            inside, capture_output=True, text=True, timeout=240, check=False, env={**os.environ, **(environment or {})}
        )
        if check and done.returncode != 0:
            raise AssertionError(f"{' '.join(command)} ended with {done.returncode}:\n{done.stdout}{done.stderr}")
        return done.stdout + done.stderr

    def show(self, unit: str, *properties: str) -> dict[str, str]:
        """Properties of a unit."""
        shown = self.run("systemctl", "show", "--property", ",".join(properties), unit)
        return dict(line.split("=", 1) for line in shown.splitlines())

    def journal(self, *matches: str) -> list[dict[str, Any]]:
        """Records that match, oldest first."""
        self.run("journalctl", "--sync")
        lines = self.run("journalctl", "--quiet", "--no-pager", "--output=json", *matches).splitlines()
        return [json.loads(line) for line in lines]


@contextlib.contextmanager
def booted(etc: Mapping[str, str], binds: Mapping[Path, str], reachable: Sequence[Path]) -> Iterator[Sandbox]:
    """A container of this machine's own system, with changes that vanish with it.

    ``etc`` are files below /etc; ``binds`` are folders of this machine, shown read-only at another place;
    ``reachable`` are paths that all users of the container may enter.

    Raises:
        Unavailable: a program or a right is missing.
    """
    _check_programs()
    name = f"codelupe-test-{uuid.uuid4().hex[:8]}"
    with contextlib.ExitStack() as stack:
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix=f"{name}-")))
        for path, text in etc.items():
            file = scratch / "etc" / path
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text)
        (scratch / "reachable").write_text("".join(f"{path}\n" for path in reachable))
        stack.enter_context(_cgroups(name))
        options = [f"--bind-ro={source}:{target}" for source, target in binds.items()]
        yield stack.enter_context(_container(scratch, name, options))


def _check_programs() -> None:
    if os.geteuid() != 0:
        raise Unavailable("booting systemd needs root")
    if missing := sorted({package for name, package in _PROGRAMS.items() if shutil.which(name) is None}):
        raise Unavailable(f"booting systemd needs: apt-get install -y {' '.join(missing)}")


@contextlib.contextmanager
def _container(scratch: Path, name: str, options: Sequence[str]) -> Iterator[Sandbox]:
    """The container dies with this process, and its mounts with it."""
    unshare = ["unshare", "--mount", "--propagation", "private", "--pid", "--mount-proc", "--fork", "--kill-child"]
    outside = str(Path("/proc/self/ns/mnt").readlink())
    command = ["setpriv", "--pdeathsig", "KILL", *unshare, str(_BOOT), str(scratch), name, outside, *options]
    output = scratch / "boot.log"
    with output.open("w") as log, subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True) as process:
        pid = None
        try:
            pid = _wait_for_systemd(process, output)
            yield Sandbox(pid)
        finally:
            if pid is not None:
                _power_off(Sandbox(pid), process)
            process.kill()


def _wait_for_systemd(process: subprocess.Popen[bytes], output: Path) -> int:
    deadline = time.monotonic() + _BOOT_LIMIT_S
    while time.monotonic() < deadline:
        if process.poll() is not None:
            error = Unavailable if process.returncode == _UNSUPPORTED else RuntimeError
            raise error(f"the container did not boot: {output.read_text().strip()}")
        if (pid := _systemd_below(process.pid)) is not None:
            state = Sandbox(pid).run("systemctl", "is-system-running", check=False).strip()
            if state in ("running", "degraded"):
                return pid
        time.sleep(0.05)
    raise RuntimeError(f"the container did not boot within {_BOOT_LIMIT_S} s: {output.read_text().strip()}")


def _systemd_below(pid: int) -> int | None:
    """The container's first process among the descendants of a process."""
    with contextlib.suppress(OSError):
        for children in Path(f"/proc/{pid}/task").glob("*/children"):
            for child in map(int, children.read_text().split()):
                is_first = Path(f"/proc/{child}/status").read_text().find("\t1\n") > 0
                if Path(f"/proc/{child}/comm").read_text().strip() == "systemd" and is_first:
                    return child
                if (found := _systemd_below(child)) is not None:
                    return found
    return None


def _power_off(sandbox: Sandbox, process: subprocess.Popen[bytes]) -> None:
    with contextlib.suppress(subprocess.TimeoutExpired):
        sandbox.run("systemctl", "poweroff", check=False)
        process.wait(_POWER_OFF_LIMIT_S)


@contextlib.contextmanager
def _cgroups(name: str) -> Iterator[None]:
    """A cgroup of the container's own in each hierarchy that systemd uses; removed with all below it."""
    root = Path("/sys/fs/cgroup")
    hierarchies = [root] if (root / "cgroup.controllers").exists() else [root / "unified", root / "systemd"]
    made = [hierarchy / name for hierarchy in hierarchies if hierarchy.is_dir()]
    try:
        for group in made:
            group.mkdir()
    except OSError as error:
        raise Unavailable(f"no cgroup can be made: {error}") from error
    try:
        yield
    finally:
        for group in made:
            _remove_cgroup(group)


def _remove_cgroup(group: Path) -> None:
    """Kill what is left in it, then remove it from the leaves up."""
    deadline = time.monotonic() + HANGS
    while group.exists():
        folders = sorted((path for path in group.rglob("*") if path.is_dir()), reverse=True)
        for folder in [*folders, group]:
            for pid in (folder / "cgroup.procs").read_text().split():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(int(pid), signal.SIGKILL)
            with contextlib.suppress(OSError):
                folder.rmdir()
        if time.monotonic() > deadline:
            raise RuntimeError(f"{group} cannot be removed")
        time.sleep(0.05)
