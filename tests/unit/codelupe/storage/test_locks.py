from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import anyio
import anyio.to_thread
import pytest

from codelupe import open_lock

_HOLD = """
import sys
from pathlib import Path
from codelupe import open_lock
with open_lock(Path(sys.argv[1])) as lock:
    assert lock.try_acquire()
    lock.write_holder()
    print("held", flush=True)
    sys.stdin.read()
"""


def test_one_holds_it_and_its_end_frees_it(tmp_path: Path) -> None:
    with open_lock(tmp_path / "lock") as one, open_lock(tmp_path / "lock") as other:
        assert one.try_acquire()
        assert not other.try_acquire()
        one.release()
        assert other.try_acquire()
    with open_lock(tmp_path / "lock") as next_one:
        assert next_one.try_acquire()


def test_many_share_it_until_one_wants_it_alone(tmp_path: Path) -> None:
    with open_lock(tmp_path / "lock") as one, open_lock(tmp_path / "lock") as other:
        one.acquire_shared()
        other.acquire_shared()
        assert not other.try_acquire()
        one.release()
        assert other.try_acquire()


def test_another_process_is_named_and_a_killed_one_holds_nothing(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    command = [sys.executable, "-c", _HOLD, str(path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        with open_lock(path) as lock:
            assert not lock.try_acquire()
            assert lock.holder == str(process.pid)
            process.send_signal(signal.SIGKILL)
            process.wait()
            assert lock.try_acquire()
            lock.write_holder()
            assert lock.holder == str(os.getpid())


@pytest.mark.anyio
async def test_waiting_ends_when_it_is_free(tmp_path: Path) -> None:
    with open_lock(tmp_path / "lock") as one, open_lock(tmp_path / "lock") as other:
        assert one.try_acquire()
        async with anyio.create_task_group() as group:
            group.start_soon(anyio.to_thread.run_sync, other.acquire)
            one.release()
        assert not one.try_acquire()


def test_a_link_in_its_place_is_refused_and_a_new_lock_has_no_holder(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OSError, match="symbolic link"), open_lock(tmp_path / "link"):
        pass
    with open_lock(tmp_path / "lock", mode=0o600) as lock:
        assert lock.holder is None
    assert (tmp_path / "lock").stat().st_mode & 0o777 == 0o600
