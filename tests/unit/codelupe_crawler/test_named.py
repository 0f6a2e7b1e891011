from __future__ import annotations

import os
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
from git import Repo

from codelupe_crawler.git import GitFailed
from codelupe_crawler.named import NamedFolder, NamedUrl, SourceUnavailable, named_source, without_credentials
from codelupe_crawler.snapshots import Snapshots
from tests.git_server import git_server, make_repository

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize(
    ("url", "safe"),
    [
        ("https://user:secret@host/a/b", "https://host/a/b"),
        ("https://secret@host/a/b", "https://host/a/b"),
        ("https://user:se/cret@host/a/b", "https://host/a/b"),
        ("https://user:se@cret@host:8080/a/b", "https://host:8080/a/b"),
        ("https://user:secret@host/@scope/b", "https://host/@scope/b"),
        ("https://host:8080/@scope/b", "https://host:8080/@scope/b"),
        ("https://host/@scope/b", "https://host/@scope/b"),
        ("ssh://git@host:22/a/b", "ssh://git@host:22/a/b"),
        ("ssh://git:secret@host/a/b", "ssh://git@host/a/b"),
        ("git@host:a/b.git", "git@host:a/b.git"),
        ("/plain/p@th", "/plain/p@th"),
    ],
)
def test_credentials_are_taken_out_of_urls(url: str, safe: str) -> None:
    assert without_credentials(url) == safe


def test_what_the_user_writes_is_told_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "with:colon").mkdir()
    folders = ["~/code", "relative/path", "/absolute", "file:///with%20space", "with:colon", "-dash", "."]
    urls = ["https://host/a/b", "git@host:a/b", "ssh://host/a/b", "ext::sh -c touch", "HOST:b"]
    assert all(isinstance(named_source(text, 1), NamedFolder) for text in folders)
    assert all(isinstance(named_source(text, 1), NamedUrl) for text in urls)
    assert named_source("file:///with%20space", 1).label == "/with space"
    assert named_source("git@host:a/b", 1).label == "host:a/b"


async def test_a_work_tree_and_a_bare_repository_are_themselves(tmp_path: Path) -> None:
    work = make_repository(tmp_path / "owner" / "pro ject", {"a.py": b"a"})
    bare = work.clone(tmp_path / "owner" / "bare.git", bare=True)
    for repo, folder, name in ((work, "pro ject", "owner/pro ject"), (bare, "bare.git", "owner/bare")):
        repository = await named_source(str(tmp_path / "owner" / folder), 10).describe(Snapshots(tmp_path / "sources"))
        assert repository.revision == repo.head.commit.hexsha
        assert repository.id == f"local:{tmp_path / 'owner' / folder}"
        assert repository.full_name == name
        assert Path(unquote(urlsplit(repository.url).path)) == tmp_path / "owner" / folder
        repo.close()
    assert not (tmp_path / "sources").exists()


async def test_a_repository_without_a_commit_is_known_as_empty(tmp_path: Path) -> None:
    Repo.init(tmp_path / "new").close()
    repository = await named_source(str(tmp_path / "new"), 10).describe(Snapshots(tmp_path / "sources"))
    assert repository.revision == "empty"


async def test_a_plain_folder_is_copied_and_its_revision_follows_its_content(tmp_path: Path) -> None:
    folder = tmp_path / os.fsdecode(b"caf\xe9 .. :x")
    folder.mkdir()
    (folder / "a.rs").write_text("fn main() {}")
    (folder / "notes.bin").write_text("left out")
    source, snapshots = named_source(str(folder), 10), Snapshots(tmp_path / "sources")
    first = await source.describe(snapshots)
    (folder / "notes.bin").write_text("changed, and still left out")
    assert await source.describe(snapshots) == first
    assert (first.language, first.size_kib) == ("Rust", 1)
    assert first.external_id == f"{tmp_path}/caf\\xe9 .. :x"
    (folder / "a.rs").rename(folder / "b.rs")
    second = await source.describe(snapshots)
    assert second.revision != first.revision
    assert (second.id, second.url) == (first.id, first.url)
    with Repo(unquote(urlsplit(second.url).path)) as repo:
        assert [blob.path for blob in repo.head.commit.tree.blobs] == ["b.rs"]


async def test_two_folders_of_one_name_do_not_share_a_copy(tmp_path: Path) -> None:
    urls = set()
    for parent in ("one", "two"):
        (tmp_path / parent / "same").mkdir(parents=True)
        (tmp_path / parent / "same" / "a.py").write_text(parent)
        source = named_source(str(tmp_path / parent / "same"), 10)
        urls.add((await source.describe(Snapshots(tmp_path / "sources"))).url)
    assert len(urls) == 2


async def test_a_url_is_asked_for_its_head(tmp_path: Path) -> None:
    make_repository(tmp_path / "a" / "b", {"a.py": b"a"}).close()
    with Repo(tmp_path / "a" / "b") as repo, git_server(tmp_path) as server:
        expected = repo.head.commit.hexsha
        repository = await named_source(server.url("a/b/.git"), 10).describe(Snapshots(tmp_path / "sources"))
        assert (repository.revision, repository.url) == (expected, server.url("a/b/.git"))
        with pytest.raises(GitFailed, match="not found"):
            await named_source(server.url("a/c"), 10).describe(Snapshots(tmp_path))


async def test_a_password_opens_a_repository_only_from_netrc(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_repository(tmp_path / "a" / "b", {"a.py": b"a"}).close()
    monkeypatch.setenv("HOME", str(tmp_path))
    with git_server(tmp_path) as server:
        server.password = "open-sesame"
        source = named_source(server.url("a/b/.git").replace("://", "://reader:open-sesame@"), 10)
        with pytest.raises(GitFailed) as refused:
            await source.describe(Snapshots(tmp_path))
        assert "sesame" not in str(refused.value) + source.label
        (tmp_path / ".netrc").write_text("machine 127.0.0.1 login reader password open-sesame\n")
        repository = await source.describe(Snapshots(tmp_path))
    assert "sesame" not in repr(repository)


@pytest.mark.parametrize("text", ["ext::sh -c touch% {}", "--upload-pack=touch {}", "ssh://-oProxyCommand=touch {}/x"])
async def test_no_name_of_a_source_becomes_a_command(tmp_path: Path, text: str) -> None:
    trap = tmp_path / "trap"
    with pytest.raises((GitFailed, SourceUnavailable)):
        await named_source(text.format(trap), 10).describe(Snapshots(tmp_path))
    assert not trap.exists()


async def test_what_cannot_be_read_says_why(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").touch()
    (tmp_path / "broken" / ".git").mkdir(parents=True)
    for name, reason in {"missing": "no such folder", "file": "no such folder", "empty": "no source file"}.items():
        with pytest.raises(SourceUnavailable, match=reason):
            await named_source(str(tmp_path / name), 10).describe(Snapshots(tmp_path))
    with pytest.raises(GitFailed, match="does not appear to be a git repository"):
        await named_source(str(tmp_path / "broken"), 10).describe(Snapshots(tmp_path))


async def test_a_silent_server_is_given_up(tmp_path: Path) -> None:
    make_repository(tmp_path / "a", {"a.py": b"a"}).close()
    with git_server(tmp_path) as server:
        server.stall_after = 0
        with pytest.raises(GitFailed, match=r"no answer within 0\.5 seconds"):
            await named_source(server.url("a/.git"), 0.5).describe(Snapshots(tmp_path))
