from __future__ import annotations

from pathlib import Path

import pytest
from git import Repo

from codelupe import Reject
from codelupe_filters.clone import head_commit, locate
from tests.git_server import make_repository


def test_a_clone_is_found_below_the_repositories_folder(tmp_path: Path) -> None:
    (tmp_path / "owner" / "repo").mkdir(parents=True)
    assert locate(tmp_path, "owner/repo") == tmp_path / "owner" / "repo"


@pytest.mark.parametrize("path", ["..", "../elsewhere", "/etc", ".", "owner/link"])
def test_nothing_outside_is_a_clone(tmp_path: Path, path: str) -> None:
    repositories = tmp_path / "repositories"
    (repositories / "owner").mkdir(parents=True)
    (tmp_path / "elsewhere").mkdir()
    (repositories / "owner" / "link").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(Reject, match="outside"):
        locate(repositories, path)


def test_a_missing_clone_is_rejected_with_advice(tmp_path: Path) -> None:
    with pytest.raises(Reject, match="not on disk"):
        locate(tmp_path, "owner/gone")


@pytest.mark.parametrize("packed", [False, True])
def test_the_commit_is_read_from_the_clone(tmp_path: Path, packed: bool) -> None:
    repository = make_repository(tmp_path / "r", {"a.py": b"x = 1\n"})
    if packed:
        repository.git.pack_refs("--all")
    assert head_commit(tmp_path / "r") == repository.head.commit.hexsha


def test_a_detached_head_is_a_commit_too(tmp_path: Path) -> None:
    repository = make_repository(tmp_path / "r", {"a.py": b"x = 1\n"})
    repository.git.checkout("--detach")
    assert head_commit(tmp_path / "r") == repository.head.commit.hexsha


def test_no_repository_and_no_commit_are_rejected(tmp_path: Path) -> None:
    (tmp_path / "plain").mkdir()
    Repo.init(tmp_path / "empty").close()
    for name in ("plain", "empty"):
        with pytest.raises(Reject, match="no commit"):
            head_commit(tmp_path / name)
