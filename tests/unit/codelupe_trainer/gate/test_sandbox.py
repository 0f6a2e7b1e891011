"""Hostile programs in the sandbox, as root and as a user without rights."""

from __future__ import annotations

import os
import secrets
import socket
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import pytest

from codelupe_trainer.gate.sandbox import Limits, Outcome, SandboxMissing, check_sandbox, run_program

LIMITS = Limits(seconds=20, cpu_seconds=2, memory_bytes=256 * 1024 * 1024, folder_bytes=1024 * 1024, processes=6)
SECRET = "do-not-tell-4711"


@pytest.fixture(autouse=True, scope="module")
def _is_possible() -> None:
    try:
        check_sandbox()
    except SandboxMissing as error:
        if os.environ.get("CI"):
            raise
        pytest.skip(str(error))


@pytest.fixture(params=["as it is", "without rights"], autouse=True)
def _user(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """The user of the tests, and where that is root also the user `nobody`, who must find a Python outside of homes."""
    if request.param == "without rights":
        if os.geteuid() != 0:
            pytest.skip("is without rights already")
        if not Path("/usr/bin/python3").exists():
            pytest.skip("no Python that every user can run; install python3")
        popen = partial(subprocess.Popen, user=65534, group=65534, extra_groups=[], cwd="/")
        monkeypatch.setattr(subprocess, "Popen", popen)
        monkeypatch.setattr(os, "geteuid", lambda: 65534)
        monkeypatch.setattr(sys, "base_prefix", "/usr")
        monkeypatch.setattr(sys, "executable", "/usr/bin/python3")


def run(program: str, **changes: float) -> Outcome:
    return run_program(program, LIMITS if not changes else Limits(**{**vars(LIMITS), **changes}))


def fails_inside(attempt: str) -> bool:
    """Whether the attempt raises; a program that gives up otherwise does not pass."""
    lines = "\n".join(f"    {line}" for line in attempt.splitlines())
    return run(f"try:\n{lines}\nexcept Exception:\n    pass\nelse:\n    raise SystemExit(1)") is Outcome.PASSED


def test_a_right_program_passes_and_a_wrong_one_fails() -> None:
    assert run("import json, math, re, collections, heapq\nassert math.sqrt(4) == 2") is Outcome.PASSED
    assert run("assert 1 == 2") is Outcome.FAILED
    assert run("this is no Python") is Outcome.FAILED


@pytest.mark.parametrize(
    "program", ["raise SystemExit(0)", "import os\nos._exit(0)", "import os\nos.kill(os.getpid(), 9)"]
)
def test_what_ends_early_does_not_pass(program: str) -> None:
    assert run(program) is Outcome.FAILED


@pytest.mark.parametrize(
    "program", ["import time\ntime.sleep(60)", "import sys\nsys.stdin.read()\nwhile True: input()"]
)
def test_what_takes_too_long_is_ended(program: str) -> None:
    started = time.monotonic()
    assert run(program, seconds=1.5) in {Outcome.TIMED_OUT, Outcome.FAILED}
    assert time.monotonic() - started < 15


def test_a_busy_loop_runs_out_of_processor_time() -> None:
    assert run("while True: pass", cpu_seconds=1, seconds=60) is Outcome.FAILED


def test_memory_is_limited() -> None:
    assert (
        run("try:\n    bytearray(10**9)\nexcept MemoryError:\n    pass\nelse:\n    raise SystemExit(1)")
        is Outcome.PASSED
    )


def named(program: str) -> tuple[str, str]:
    """The program under a name of its own, which its children have, too; and the name."""
    name = f"run-{secrets.token_hex(4)}"
    return f"open('/proc/self/comm', 'w').write({name!r})\n{program}", name


def await_end_of(name: str) -> None:
    """Wait until no process has this name."""
    deadline = time.monotonic() + 10
    while any(_name_of(process) == name for process in Path("/proc").glob("[0-9]*")):
        assert time.monotonic() < deadline, "a process of the sandbox is left"
        time.sleep(0.05)


def _name_of(process: Path) -> str:
    try:
        return (process / "comm").read_text().strip()
    except OSError:
        return ""


def test_a_fork_bomb_is_stopped_and_nothing_of_it_stays() -> None:
    bomb, name = named("import os, time\nfor _ in range(100):\n    if os.fork() == 0:\n        time.sleep(300)")
    assert run(bomb) is Outcome.FAILED
    await_end_of(name)


def test_children_do_not_outlive_the_program() -> None:
    stays, name = named("import os, time\nif os.fork() == 0:\n    os.setsid()\n    time.sleep(300)\n    os._exit(0)")
    assert run(stays) is Outcome.PASSED
    await_end_of(name)


def test_the_disk_is_limited_to_a_folder_of_its_own() -> None:
    assert run("open('/tmp/own', 'w').write('x')\nassert open('own').read() == 'x'") is Outcome.PASSED
    assert fails_inside(
        "import os\nfor n in range(9):\n    with open(f'/tmp/{n}', 'wb') as f: f.write(os.urandom(500_000))"
    )
    assert run("import os\nassert not os.listdir('/tmp')") is Outcome.PASSED


@pytest.mark.parametrize(
    "place", ["/usr/planted", "/python/planted", "/etc/planted", "/planted", "/dev/shm/../planted"]
)
def test_nothing_can_be_written_elsewhere(place: str) -> None:
    assert fails_inside(f"open({place!r}, 'w')") or not Path(place).exists()
    assert not Path(place).exists()


def test_there_is_no_network() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        assert fails_inside(f"import socket\nsocket.create_connection(('127.0.0.1', {port}), timeout=2)")
    assert fails_inside("import socket\nsocket.create_connection(('192.0.2.1', 80), timeout=2)")


def test_the_daemon_s_environment_files_and_processes_cannot_be_seen(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("CODELUPE_SECRET", SECRET)
    (tmp_path / "secret").write_text(SECRET)
    assert run(f"import os\nassert {SECRET!r} not in str(dict(os.environ))") is Outcome.PASSED
    assert fails_inside(f"open({str(tmp_path / 'secret')!r})")
    assert fails_inside(f"open('/proc/{os.getpid()}/environ')") or os.getpid() < 10
    look = f"""
import glob
for path in glob.glob("/proc/[0-9]*/environ"):
    try:
        data = open(path).read()
    except OSError:
        continue
    assert {SECRET!r} not in data
"""
    assert run(look) is Outcome.PASSED


def test_rights_cannot_be_won_back() -> None:
    assert fails_inside("import os\nos.setuid(0)")
    assert (
        run("import os\nassert os.getuid() == os.getgid() >= 65534 and os.getgroups() in ([], [65534])")
        is Outcome.PASSED
    )
    status = "lines = dict(line.split(':\\t') for line in open('/proc/self/status') if line.startswith('Cap'))\n"
    assert run(f"{status}assert int(lines['CapEff'], 16) == 0") is Outcome.PASSED
    remount = "unshare --user --map-root-user --mount mount -o remount,bind,rw /usr"
    assert run(f"import os\nassert os.system({remount!r}) != 0", processes=64) is Outcome.PASSED
