"""The state directory: made, checked, held by one daemon, and clear words when it cannot be used."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from codelupe import Directories
from codelupe.config.directories import create_directories, held_by_one_daemon, locate_directories
from codelupe.config.settings import Settings
from codelupe.errors import StateDirectoryError

UNPRIVILEGED = 65534
"""nobody's number on Debian and most others."""


def under(folder: Path) -> Directories:
    return locate_directories(Settings.model_validate({"state_dir": folder}))


@pytest.fixture
def tiny_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system with room for 64 KiB and twenty files."""
    place = tmp_path / "disk"
    place.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=64k,nr_inodes=20", "tmpfs", place],
        capture_output=True,
        text=True,
        check=False,
    )
    if mounted.returncode != 0:
        pytest.skip(f"a small file system cannot be mounted here: {mounted.stderr.strip()}")
    try:
        yield place
    finally:
        subprocess.run(["umount", place], check=True)


def fill(place: Path) -> None:
    with (place / "ballast").open("wb", buffering=0) as ballast:
        try:
            while True:
                ballast.write(b"x" * 4096)
        except OSError:
            pass


# --- where things lie ---


def test_everything_lies_under_the_state_directory_unless_told_otherwise(tmp_path: Path) -> None:
    folders = under(tmp_path / "state")
    assert (folders.state, folders.repositories) == (tmp_path / "state", tmp_path / "state" / "repos")
    assert (folders.models, folders.work) == (tmp_path / "state" / "models", tmp_path / "state" / "work")
    assert not folders.state.exists()


def test_folders_may_lie_elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", "/home/someone")
    values: dict[str, Any] = {"state_dir": "here", "repositories_dir": "~/repos", "models_dir": "/models"}
    folders = locate_directories(Settings.model_validate(values))
    assert folders.state == tmp_path / "here"
    assert folders.repositories == Path("/home/someone/repos")
    assert folders.models == Path("/models")


def test_the_home_of_nobody_known_is_an_error() -> None:
    with pytest.raises(ValueError, match=r"state_dir\n.* cannot be found: .*~no-such-user"):
        under(Path("~no-such-user/state"))


def test_a_circle_of_links_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("a")
    with pytest.raises(ValueError, match=rf"state_dir\n.* cannot be found: Symlink loop from '{tmp_path}/a'"):
        under(tmp_path / "a")


def test_all_folders_are_made_and_making_them_again_is_no_error(tmp_path: Path) -> None:
    folders = under(tmp_path / "deep" / "state")
    create_directories(folders)
    create_directories(folders)
    assert all(each.is_dir() for each in (folders.state, folders.repositories, folders.models, folders.work))


# --- what cannot be used ---


def test_a_file_in_the_way_is_named(tmp_path: Path) -> None:
    (tmp_path / "state").touch()
    with pytest.raises(StateDirectoryError, match=f"{tmp_path}/state cannot be used") as caught:
        create_directories(under(tmp_path / "state"))
    assert "CODELUPE_STATE_DIR" in (caught.value.hint or "")
    with pytest.raises(StateDirectoryError, match="Not a directory"):
        create_directories(under(tmp_path / "state" / "below"))


def test_a_lock_that_is_a_folder_is_named(tmp_path: Path) -> None:
    (tmp_path / "daemon.lock").mkdir()
    with pytest.raises(StateDirectoryError, match="cannot be used"), held_by_one_daemon(tmp_path):
        pass


@pytest.mark.skipif(os.getuid() != 0, reason="only root can become another user; others cannot write there anyway")
@pytest.mark.parametrize(("mode", "below"), [(0o755, "state"), (0o555, "")])
def test_no_write_access_is_said(open_directory: Path, mode: int, below: str) -> None:
    """As another user, since root may write anywhere."""
    place = open_directory / f"no-access-{mode:o}"
    place.mkdir(mode=mode)
    code = f"""
import os
from pathlib import Path

from codelupe.config.directories import create_directories, locate_directories
from codelupe.config.settings import Settings
from codelupe.errors import StateDirectoryError
folders = locate_directories(Settings.model_validate({{"state_dir": {str(place / below)!r}}}))
os.setgroups([]), os.setgid({UNPRIVILEGED}), os.setuid({UNPRIVILEGED})
try:
    create_directories(folders)
except StateDirectoryError as error:
    print(error)
"""
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert f"the directory {place / below}" in said
    assert "ermission denied" in said or "no write access" in said
    assert "CODELUPE_STATE_DIR" in said


def test_no_write_access_of_ours_is_said(tmp_path: Path) -> None:
    if os.getuid() == 0:
        pytest.skip("root may write anywhere; the test above becomes another user")
    tmp_path.chmod(0o555)
    with pytest.raises(StateDirectoryError, match="cannot be used"):
        create_directories(under(tmp_path / "state"))


def test_a_full_disk_is_said_when_folders_are_made(tiny_disk: Path) -> None:
    for number in range(19):
        (tiny_disk / str(number)).touch()
    with pytest.raises(StateDirectoryError, match="No space left on device"):
        create_directories(under(tiny_disk / "state"))


def test_a_full_disk_is_said_when_the_lock_is_taken(tiny_disk: Path) -> None:
    (tiny_disk / "daemon.lock").touch()
    fill(tiny_disk)
    with pytest.raises(StateDirectoryError, match="No space left on device"), held_by_one_daemon(tiny_disk):
        pass


# --- one daemon ---


def test_a_second_daemon_is_told_who_has_the_directory(tmp_path: Path) -> None:
    with held_by_one_daemon(tmp_path):
        with (
            pytest.raises(StateDirectoryError, match=rf"process {os.getpid()}\) works in {tmp_path}") as caught,
            held_by_one_daemon(tmp_path),
        ):
            pass
        assert "CODELUPE_STATE_DIR" in (caught.value.hint or "")


def test_the_directory_is_free_again_afterwards(tmp_path: Path) -> None:
    with held_by_one_daemon(tmp_path):
        pass
    with pytest.raises(ValueError, match="mine"), held_by_one_daemon(tmp_path):
        raise ValueError("mine")
    with held_by_one_daemon(tmp_path):
        assert (tmp_path / "daemon.lock").read_text() == f"{os.getpid()}\n"


def test_the_kernel_frees_the_directory_of_a_daemon_that_was_killed(tmp_path: Path) -> None:
    code = f"""
import time
from pathlib import Path
from codelupe.config.directories import held_by_one_daemon

with held_by_one_daemon(Path({str(tmp_path)!r})):
    print("held", flush=True)
    time.sleep(3600)
"""
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "held\n"
        with pytest.raises(StateDirectoryError, match=f"process {other.pid}"), held_by_one_daemon(tmp_path):
            pass
        other.kill()
    with held_by_one_daemon(tmp_path):
        pass
