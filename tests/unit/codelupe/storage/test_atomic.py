"""What is written appears whole or not at all: shown by the order of system calls, and by a crash after each."""

from __future__ import annotations

import errno
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from codelupe import AtomicFile, atomic_folder, move_into_place, remove_tree, write_file, write_link
from codelupe.storage import atomic

# --- in order ---


def hidden(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir() if path.name.startswith(".")]


def test_a_file_is_written_and_replaced_and_its_parents_are_made(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b" / "file"
    write_file(path, b"old")
    write_file(path, "n\N{LATIN SMALL LETTER E WITH DIAERESIS}w")
    assert path.read_text(encoding="utf-8") == "n\N{LATIN SMALL LETTER E WITH DIAERESIS}w"
    assert hidden(path.parent) == []


def test_an_error_while_writing_leaves_what_was_there(tmp_path: Path) -> None:
    write_file(tmp_path / "file", "old")
    with pytest.raises(LookupError), AtomicFile(tmp_path / "file") as written:
        written.file.write(b"new")
        raise LookupError
    with pytest.raises(LookupError), atomic_folder(tmp_path / "folder") as unfinished:
        (unfinished / "content").touch()
        raise LookupError
    assert (tmp_path / "file").read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_file_does_not_replace_a_folder(tmp_path: Path) -> None:
    (tmp_path / "it").mkdir()
    (tmp_path / "it" / "content").touch()
    with pytest.raises(IsADirectoryError):
        write_file(tmp_path / "it", "new")
    with pytest.raises(IsADirectoryError):
        write_link(tmp_path / "it", "new")
    assert [path.name for path in tmp_path.iterdir()] == ["it"]


def test_a_folder_is_refused_or_replaced_as_said(tmp_path: Path) -> None:
    place = tmp_path / "place"
    for content in ("old", "new"):
        with atomic_folder(place, replace=True) as unfinished:
            (unfinished / content).touch()
    with pytest.raises(OSError, match="not empty"), atomic_folder(place) as unfinished:
        (unfinished / "newest").touch()
    assert [path.name for path in tmp_path.rglob("*")] == ["place", "new"]


def test_a_link_is_made_and_moved(tmp_path: Path) -> None:
    for target in ("one", "two"):
        write_link(tmp_path / "link", target)
    assert (tmp_path / "link").readlink() == Path("two")
    assert hidden(tmp_path) == []


def test_what_a_killed_writer_left_goes_and_what_others_write_stays(tmp_path: Path) -> None:
    (tmp_path / ".file.01234567.tmp").mkdir()
    (tmp_path / ".file.new.01234567.tmp").touch()
    write_file(tmp_path / "file", "new")
    assert sorted(path.name for path in tmp_path.iterdir()) == [".file.new.01234567.tmp", "file"]


def test_a_file_system_that_cannot_exchange_names_gets_them_moved(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_result: int, path: Path) -> None:
        raise OSError(errno.EINVAL, "no", str(path))

    for name in ("old", "new"):
        (tmp_path / name / name).mkdir(parents=True)
    monkeypatch.setattr(atomic, "_check", refuse)
    monkeypatch.setattr(atomic._LIBC, "renameat2", lambda *_: -1)
    atomic._exchange(tmp_path / "new", tmp_path / "old")
    assert [path.name for name in ("new", "old") for path in (tmp_path / name).iterdir()] == ["old", "new"]


def test_a_tree_of_any_depth_is_removed_and_none_is_no_error(tmp_path: Path) -> None:
    deep = tmp_path / "-deep"
    deep.mkdir()
    subprocess.run(["mkdir", "-p", "--", f"{deep}/{'d/' * 1500}"], check=True)
    remove_tree(deep)
    remove_tree(deep)
    assert not deep.exists()


@pytest.mark.parametrize("signal", ["TERM", "INT", "HUP"])
def test_a_tree_is_removed_whatever_is_sent_to_the_whole_group(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, signal: str
) -> None:
    """An rm(1) that is ended once, as by Ctrl-C in a terminal, and by systemd's stop of a whole unit."""
    rm = tmp_path / "bin" / "rm"
    rm.parent.mkdir()
    rm.write_text(f'#!/bin/sh\nmkdir {tmp_path}/ended && kill -{signal} $$\nexec /bin/rm "$@"\n')
    rm.chmod(0o755)
    monkeypatch.setenv("PATH", f"{rm.parent}:{os.environ['PATH']}")
    (tmp_path / "tree").mkdir()
    remove_tree(tmp_path / "tree")
    assert (tmp_path / "ended").exists()
    assert not (tmp_path / "tree").exists()


def test_a_tree_that_cannot_be_removed_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    (tmp_path / "rm").write_text("#!/bin/sh\nexit 1\n")
    (tmp_path / "rm").chmod(0o755)
    with pytest.raises(subprocess.CalledProcessError):
        remove_tree(tmp_path / "tree")


def test_moving_refuses_what_exists(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).write_text(name)
    with pytest.raises(FileExistsError):
        move_into_place(tmp_path / "one", tmp_path / "two")
    (tmp_path / "folder").mkdir()
    with pytest.raises(NotADirectoryError):
        move_into_place(tmp_path / "folder", tmp_path / "two")
    with pytest.raises(FileExistsError):
        write_file(tmp_path / "two" / "file", "new")
    assert (tmp_path / "two").read_text() == "two"


# --- on the disk, and after a crash ---

_LOAD = """
import importlib.util, sys
from pathlib import Path
spec = importlib.util.spec_from_file_location("atomic", sys.argv[1])
atomic = sys.modules["atomic"] = importlib.util.module_from_spec(spec)
spec.loader.exec_module(atomic)
target = Path(sys.argv[2])
"""
FILE = 'atomic.write_file(target, "new")'
FOLDER = """
with atomic.atomic_folder(target, replace=True) as unfinished:
    (unfinished / "one").write_text("new")
    (unfinished / "two").write_text("new")
"""
LINK = 'atomic.write_link(target, "new")'
_CALLS = ("write", "fsync", "syncfs", "rename", "renameat", "renameat2", "mkdir", "mkdirat", "symlink", "symlinkat")


@pytest.fixture(scope="module")
def strace() -> str:
    program = shutil.which("strace")
    is_usable = program and subprocess.run([program, "-o", os.devnull, "true"], check=False).returncode == 0
    if program is None or not is_usable:
        if os.environ.get("CI") == "true":
            pytest.fail("CI needs strace, and the right to use it")
        pytest.skip("strace is not installed, or may not trace here")
    return program


Trace = Callable[..., tuple[int, str]]


@pytest.fixture
def trace(strace: str, tmp_path: Path) -> Trace:
    """Runs code on the target under strace; returns how it ended, and its calls."""

    def run(code: str, target: Path, *options: str) -> tuple[int, str]:
        calls = "trace=" + ",".join(f"?{name}" for name in _CALLS)
        python = [os.path.realpath(sys.executable), "-S", "-B", "-c", _LOAD + code, atomic.__file__, str(target)]
        log = tmp_path / "strace.log"
        ended = subprocess.run([strace, "-y", "-o", log, "-e", calls, *options, *python], check=False)
        return ended.returncode, log.read_text()

    return run


def steps(log: str, target: Path) -> list[str]:
    """The calls in order: what each does to the new content, the target, and their folder."""
    lines = [line for line in log.splitlines() if re.match(r"\w+\(", line) and str(target.parent) in line]
    names = [re.split(r"at2?\(|\(", line)[0] for line in lines]
    what = ["folder" if f"<{target.parent}>" in line and "sync" in line else "new" for line in lines]
    return [f"{name} {thing}" for name, thing in zip(names, what, strict=True)]


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        (FILE, ["write new", "fsync new", "rename new", "fsync folder"]),
        (FOLDER, ["mkdir new", "write new", "write new", "syncfs new", "rename new", "fsync folder"]),
        (LINK, ["symlink new", "rename new", "fsync folder"]),
    ],
    ids=["file", "folder", "link"],
)
@pytest.mark.parametrize("exists", [False, True])
def test_content_is_on_disk_before_it_has_its_name(
    trace: Trace, tmp_path: Path, code: str, expected: list[str], *, exists: bool
) -> None:
    target = tmp_path / "place" / "it"
    target.parent.mkdir()
    if exists:
        assert trace(code, target)[0] == 0
    status, log = trace(code, target)
    assert (status, steps(log, target)) == (0, expected)


def content(target: Path) -> str | None:
    """What lies there; raises where it is neither whole nor absent."""
    if target.is_symlink():
        return str(target.readlink())
    if target.is_dir():
        [text] = {(target / name).read_text() for name in ("one", "two")}
        return text
    return target.read_text() if target.exists() else None


@pytest.mark.parametrize("code", [FILE, FOLDER, LINK], ids=["file", "folder", "link"])
@pytest.mark.parametrize("exists", [False, True])
def test_a_crash_at_any_step_leaves_the_old_or_the_new_and_the_next_writer_goes_on(
    trace: Trace, tmp_path: Path, code: str, *, exists: bool
) -> None:
    seen = set()
    for call in _CALLS:
        for number in range(1, 10):
            target = tmp_path / f"{call}-{number}" / "it"
            target.parent.mkdir()
            if exists:
                assert trace(code.replace("new", "old"), target)[0] == 0
            status, _ = trace(code, target, "-e", f"inject=?{call}:signal=KILL:when={number}")
            found = content(target)
            assert found in ("new", "old" if exists else None)
            seen.add(found)
            assert trace(code, target)[0] == 0
            assert content(target) == "new"
            assert hidden(target.parent) == []
            if status == 0:
                break
        else:
            pytest.fail(f"{call} was never let through")
    assert seen == {"new", "old" if exists else None}
