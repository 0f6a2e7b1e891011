from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from codelupe_downloader.clone_store import Clone, CloneStore, folder_name, read_note


def clone_of(repository_id: str, key: str = "key") -> Clone:
    return Clone(repository_id=repository_id, key=key, commit="c" * 40, size_bytes=1, seconds=0.5)


def install(root: Path, repository_id: str, name: str, *, key: str = "key") -> Path:
    store = CloneStore(root, repository_id, name)
    working = store.working_folder(key, 1)
    (working / ".git").mkdir(parents=True)
    (working / "content").write_text(key)
    return store.install(working, clone_of(repository_id, key))


@pytest.mark.parametrize(
    ("name", "folder"),
    [
        ("pypi/rich", "pypi/rich"),
        ("owner/.github", "owner/github"),
        ("owner/..", "owner/_"),
        ("../../etc/passwd", "_.._etc/passwd"),
        ("-rf/--upload-pack", "rf/upload-pack"),
        ("group/sub/project", "group_sub/project"),
        ("rich", "_/rich"),
        ("", "_/_"),
        ("a/b\x00c\n\x1b[31m", "a/b_c_31m"),
        ("a/~b", "a/_b"),
        ("\N{CYRILLIC SMALL LETTER A}/b", "_/b"),
    ],
)
def test_names_of_folders_are_harmless(name: str, folder: str) -> None:
    assert folder_name(name).as_posix() == folder


@given(st.text())
def test_any_name_stays_below_the_root(name: str) -> None:
    parts = folder_name(name).parts
    assert len(parts) == 2
    assert all(part and part[0] not in ".-~" and len(part) <= 100 and part.isascii() for part in parts)


def test_a_clone_gets_its_place_and_a_note(tmp_path: Path) -> None:
    place = install(tmp_path, "a:1", "owner/repo")
    assert place == tmp_path / "owner/repo"
    assert read_note(place) == clone_of("a:1")
    assert list((tmp_path / ".tmp").iterdir()) == []


def test_an_older_clone_of_the_same_repository_is_replaced(tmp_path: Path) -> None:
    install(tmp_path, "a:1", "owner/repo", key="old")
    place = install(tmp_path, "a:1", "owner/repo", key="new")
    assert (place / "content").read_text() == "new"
    assert list((tmp_path / ".tmp").iterdir()) == []


def test_a_renamed_repository_leaves_its_old_place(tmp_path: Path) -> None:
    old = install(tmp_path, "a:1", "owner/old", key="old")
    new = install(tmp_path, "a:1", "owner/new", key="new")
    store = CloneStore(tmp_path, "a:1", "owner/new")
    store.leave(old)
    assert (new, new.exists(), old.exists()) == (tmp_path / "owner/new", True, False)
    foreign = install(tmp_path, "b:2", "owner/other")
    store.leave(foreign)
    assert foreign.exists()


def test_a_place_that_belongs_to_another_is_left_to_it(tmp_path: Path) -> None:
    install(tmp_path, "a:1", "owner/repo")
    second = install(tmp_path, "b:2", "owner/repo")
    assert second.name.startswith("repo~")
    assert len(second.name) == len("repo~") + 8
    assert install(tmp_path, "b:2", "owner/repo", key="again") == second
    foreign = tmp_path / "owner/mine"
    foreign.mkdir()
    assert install(tmp_path, "a:3", "owner/mine").name.startswith("mine~")
    assert list(foreign.iterdir()) == []
    for taken in ("repo", "mine"):
        assert (tmp_path / "owner" / taken).exists()


def test_a_finished_clone_is_found_by_its_key(tmp_path: Path) -> None:
    place = install(tmp_path, "a:1", "owner/repo", key="k1")
    store = CloneStore(tmp_path, "a:1", "owner/repo")
    assert store.find("k1") == (place, clone_of("a:1", "k1"))
    assert store.find("k2") is None
    (place / ".git/codelupe.json").write_text("{broken")
    assert store.find("k1") is None


def test_only_left_overs_of_the_same_key_are_swept(tmp_path: Path) -> None:
    for name in ("k.1", "k.2.old0", "k2.1"):
        (tmp_path / ".tmp" / name / "deep").mkdir(parents=True)
    CloneStore(tmp_path, "a:1", "o/r").clean_up("k")
    assert [path.name for path in (tmp_path / ".tmp").iterdir()] == ["k2.1"]


def test_every_clone_of_a_repository_is_removed_and_no_other(tmp_path: Path) -> None:
    install(tmp_path, "a:1", "owner/repo")
    install(tmp_path, "a:1", "earlier/name")
    others = [install(tmp_path, "a:2", "owner/repo"), install(tmp_path, "a:3", "owner/other")]
    (tmp_path / "owner" / "foreign" / ".git").mkdir(parents=True)
    store = CloneStore(tmp_path, "a:1", "new/name")
    assert {str(place.relative_to(tmp_path)) for place in store.remove()} == {"owner/repo", "earlier/name"}
    assert all(place.exists() for place in [*others, tmp_path / "owner" / "foreign"])
    assert not (tmp_path / "owner" / "repo").exists()
    assert store.remove() == []
