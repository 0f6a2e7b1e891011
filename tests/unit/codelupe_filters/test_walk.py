from __future__ import annotations

import os
import socket
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from codelupe_filters.walk import Found, Listing, walk


def make(root: Path, *paths: str) -> None:
    for path in paths:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text("x = 1\n")


def listed(root: Path, max_entries: int = 1000) -> Listing:
    return walk(bytes(root), max_entries)


def names(listing: Listing) -> list[bytes]:
    return [found.path for found in listing.files]


def refusals(listing: Listing) -> dict[bytes, str]:
    return {verdict.path: verdict.rejection.rule for verdict in listing.refused if verdict.rejection}


def test_files_come_sorted_and_without_the_git_folder(tmp_path: Path) -> None:
    make(tmp_path, "b.py", "a/c.py", ".git/config", ".github/x.py")
    assert names(listed(tmp_path)) == [b".github/x.py", b"a/c.py", b"b.py"]


def test_an_empty_folder_has_nothing(tmp_path: Path) -> None:
    assert listed(tmp_path) == Listing()


def test_links_are_named_and_never_followed(tmp_path: Path) -> None:
    make(tmp_path, "real/a.py")
    (tmp_path / "passwd.py").symlink_to("/etc/passwd")
    (tmp_path / "everything").symlink_to("/")
    (tmp_path / "real" / "loop").symlink_to(tmp_path)
    listing = listed(tmp_path)
    assert names(listing) == [b"real/a.py"]
    assert refusals(listing) == dict.fromkeys((b"passwd.py", b"everything", b"real/loop"), "symbolic-link")


def test_pipes_and_sockets_are_no_files(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.py")
    with socket.socket(socket.AF_UNIX) as unix:
        here = Path.cwd()
        os.chdir(tmp_path)  # a socket's path has at most 108 bytes
        try:
            unix.bind("socket.py")
        finally:
            os.chdir(here)
        assert refusals(listed(tmp_path)) == {b"pipe.py": "special-file", b"socket.py": "special-file"}


def test_devices_are_no_files(tmp_path: Path) -> None:
    try:
        os.mknod(tmp_path / "zero.py", 0o600 | stat.S_IFCHR, os.makedev(1, 5))
    except PermissionError:
        pytest.skip("only root may make a device")
    assert refusals(listed(tmp_path)) == {b"zero.py": "special-file"}


def test_a_repository_inside_is_not_entered(tmp_path: Path) -> None:
    make(tmp_path, "lib/.git", "lib/a.py", "other/.git/HEAD", "other/b.py", "c.py")
    listing = listed(tmp_path)
    assert names(listing) == [b"c.py"]
    assert refusals(listing) == {b"lib": "submodule", b"other": "submodule"}


def test_names_are_taken_as_they_are(tmp_path: Path) -> None:
    odd = [b"two\nlines.py", b"caf\xe9.py", b"'quote\".py", b"-rf"]
    for name in odd:
        (tmp_path / os.fsdecode(name)).write_text("x")
    assert names(listed(tmp_path)) == sorted(odd)


def test_the_walk_stops_at_its_limit_and_says_so(tmp_path: Path) -> None:
    make(tmp_path, *(f"{n}.py" for n in range(20)))
    assert refusals(listed(tmp_path, 20)) == {}
    stopped = listed(tmp_path, 19)
    assert len(stopped.files) <= 20
    assert refusals(stopped) == {b".": "too-many-files"}


@pytest.fixture
def deep_tree(tmp_path: Path) -> Iterator[Path]:
    """A file beside 3,000 folders one in another: more than a path can name."""
    make(tmp_path, "a.py")
    here = os.open(tmp_path, os.O_RDONLY)
    for _ in range(3000):
        os.mkdir("dd", dir_fd=here)
        deeper = os.open("dd", os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = deeper
    os.close(here)
    yield tmp_path
    subprocess.run(["rm", "-rf", tmp_path / "dd"], check=True)  # shutil.rmtree cannot


def test_a_tree_too_deep_for_the_system_is_left_where_it_gets_too_deep(deep_tree: Path) -> None:
    listing = listed(deep_tree, 10_000)
    assert listing.files == [Found(b"a.py", 6)]
    assert set(refusals(listing).values()) == {"unreadable"}


def test_a_folder_that_is_gone_is_unreadable(tmp_path: Path) -> None:
    assert refusals(listed(tmp_path / "nowhere")) == {b".": "unreadable"}
