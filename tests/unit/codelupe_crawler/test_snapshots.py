from __future__ import annotations

import os
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
from git import Repo

from codelupe_crawler.git import GitFailed
from codelupe_crawler.snapshots import Files, Snapshots, commit

pytestmark = pytest.mark.anyio

FILES = [("LICENSE", b"MIT\n"), ("package/module.py", b"x = 1\n")]


def contents(repository: Path) -> dict[str, bytes]:
    with Repo(repository) as repo:
        blobs = [item for item in repo.head.commit.tree.traverse() if item.type == "blob"]  # type: ignore[union-attr]
        return {str(blob.path): blob.data_stream.read() for blob in blobs}  # type: ignore[union-attr]


def head(repository: Path) -> str:
    with Repo(repository) as repo:
        return repo.head.commit.hexsha


def plain_git_commit(folder: Path) -> str:
    """The same commit made by git's ordinary commands."""
    with Repo.init(folder) as repo:
        for name, content in FILES:
            (folder / name).parent.mkdir(exist_ok=True)
            (folder / name).write_bytes(content)
        repo.git.add("--all", "--force")
        who = {"NAME": "CodeLupe", "EMAIL": "codelupe@localhost", "DATE": "946684800 +0000"}
        env = {f"GIT_{role}_{key}": value for role in ("AUTHOR", "COMMITTER") for key, value in who.items()}
        return str(repo.git.commit_tree(repo.git.write_tree(), "-m", "package 1.0", env=env))


def test_the_commit_depends_on_the_files_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = plain_git_commit(tmp_path / "plain")
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
    commit(tmp_path / "one", FILES, message="package 1.0")
    monkeypatch.setenv("GIT_DIR", str(tmp_path / "plain" / ".git"))
    monkeypatch.setenv("GIT_INDEX_FILE", str(tmp_path / "index"))
    monkeypatch.setenv("GIT_AUTHOR_DATE", "1234567890 +0100")
    commit(tmp_path / "two", FILES, message="package 1.0")
    monkeypatch.undo()
    assert head(tmp_path / "one") == head(tmp_path / "two") == expected
    assert contents(tmp_path / "two") == dict(FILES)


def test_odd_names_and_contents_come_through(tmp_path: Path) -> None:
    files = [
        ("-dash.py", b""),
        ('quote"back\\slash.py', b"data 5\ndone\n"),
        ("line\nfeed.py", b"\r\n"),
        (" space .py", b"no newline"),
        ("caf\N{LATIN SMALL LETTER E WITH ACUTE}.py", b"\xff\xfe"),
    ]
    commit(tmp_path, files, message="odd")
    assert contents(tmp_path) == dict(files)
    (tmp_path / "bytes").mkdir()
    commit(tmp_path / "bytes", [(os.fsdecode(b"latin\xe9.py"), b"x")], message="not UTF-8")
    with Repo(tmp_path / "bytes") as repo:
        assert repo.git.ls_tree("-z", "--name-only", "HEAD", stdout_as_string=False).rstrip(b"\0") == b"latin\xe9.py"


def test_a_refusal_of_git_is_told(tmp_path: Path) -> None:
    with pytest.raises(GitFailed, match="Empty path component"):
        commit(tmp_path, [("a//b.py", b"")], message="hostile")


async def test_a_snapshot_is_made_once_for_each_revision(tmp_path: Path) -> None:
    snapshots, asked = Snapshots(tmp_path / "sources"), []

    def files(content: bytes) -> Files:
        asked.append(content)
        return [("a.py", content)]

    left_over = tmp_path / "sources" / ".package-1.0.01234567.tmp"
    left_over.mkdir(parents=True)
    (left_over / "HEAD").write_text("half made")
    url = await snapshots.keep("package-1.0", "1.0", lambda: files(b"one"))
    place = Path(unquote(urlsplit(url).path))
    first = head(place)
    assert await snapshots.keep("package-1.0", "1.0", lambda: files(b"two")) == url
    assert (asked, head(place), left_over.exists()) == ([b"one"], first, False)
    assert await Snapshots(tmp_path / "sources").keep("package-1.0", "1.1", lambda: files(b"three")) == url
    assert contents(place) == {"a.py": b"three"}


async def test_a_failure_leaves_the_snapshot_of_before(tmp_path: Path) -> None:
    snapshots = Snapshots(tmp_path)
    await snapshots.keep("p", "1", lambda: FILES)

    def broken() -> Files:
        yield "a.py", b"x"
        raise OSError("the file is gone")

    with pytest.raises(OSError, match="gone"):
        await snapshots.keep("p", "2", broken)
    assert contents(tmp_path / "p") == dict(FILES)
    await snapshots.keep("p", "2", lambda: FILES[:1])
    assert contents(tmp_path / "p") == dict(FILES[:1])
