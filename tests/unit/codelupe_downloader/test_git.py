from __future__ import annotations

import os
import subprocess
import uuid
from collections.abc import Iterator
from pathlib import Path

import anyio
import pytest
from git import Repo

from codelupe_downloader.disk import TooLarge, watcher
from codelupe_downloader.git import CloneFailed, RepositoryRefused, Watch, clone
from codelupe_git.process import end_processes
from tests.git_server import GitServer, git_server, make_repository, open_pipes, processes_with
from tests.processes import HANGS

pytestmark = pytest.mark.anyio

ALLOWED = ("file", "http")


async def no_limit() -> Exception:
    await anyio.sleep_forever()
    raise AssertionError


async def fetch(url: str, folder: Path, watch: Watch = no_limit) -> str | None:
    return await clone(url, folder, ALLOWED, watch)


@pytest.fixture
def origin(tmp_path: Path) -> Iterator[Repo]:
    with make_repository(tmp_path / "origin", {"README.md": b"hello\n", "src/a.py": b"a = 1\n"}) as repo:
        yield repo


@pytest.fixture
def server(tmp_path: Path) -> Iterator[GitServer]:
    with git_server(tmp_path) as it:
        yield it


def large_repository(folder: Path) -> None:
    make_repository(folder, {"noise.bin": os.urandom(4 << 20)}).close()


async def test_the_newest_commit_comes_alone(tmp_path: Path, origin: Repo) -> None:
    make_repository(tmp_path / "origin", {"src/a.py": b"a = 2\n"}, message="second").close()
    origin.create_tag("v1")
    newest = origin.head.commit.hexsha
    assert await fetch((tmp_path / "origin").as_uri(), tmp_path / "clone") == newest
    with Repo(tmp_path / "clone") as cloned:
        assert [commit.hexsha for commit in cloned.iter_commits()] == [newest]
        assert not cloned.tags
    assert (tmp_path / "clone/src/a.py").read_bytes() == b"a = 2\n"


async def test_a_plain_path_is_cloned_shallowly_too(tmp_path: Path, origin: Repo) -> None:
    make_repository(tmp_path / "origin", {"b.py": b""}, message="second").close()
    assert await fetch(str(tmp_path / "origin"), tmp_path / "clone") == origin.head.commit.hexsha
    assert (tmp_path / "clone/.git/shallow").exists()


async def test_an_empty_repository_has_no_commit(tmp_path: Path) -> None:
    Repo.init(tmp_path / "origin").close()
    assert await fetch((tmp_path / "origin").as_uri(), tmp_path / "clone") is None


async def test_a_detached_head_is_cloned(tmp_path: Path, origin: Repo) -> None:
    first = origin.head.commit.hexsha
    make_repository(tmp_path / "origin", {"b.py": b""}, message="second").close()
    origin.git.checkout("--quiet", "--detach", first)
    assert await fetch((tmp_path / "origin").as_uri(), tmp_path / "clone") == first


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("ext::sh -c touch% {trap}", "not allowed"),
        ("ext://sh -c touch% {trap}", "not allowed"),
        ("fd::17/foo", "not allowed"),
        ("https://127.0.0.1:1/a/b", "not allowed"),
        ("--upload-pack=touch {trap}", "does not exist"),
        ("--config=core.sshCommand=touch {trap}", "does not exist"),
        ("file:///no/such/place", "does not appear to be a git repository"),
        ("/no/such/place", "does not exist"),
        ("", "not a valid path"),
        ("http://[bad/", "URL using bad"),
    ],
)
async def test_what_must_not_or_cannot_be_cloned_is_refused_for_good(tmp_path: Path, url: str, reason: str) -> None:
    trap = tmp_path / "trap"
    with pytest.raises(RepositoryRefused, match=reason):
        await fetch(url.format(trap=trap), tmp_path / "clone")
    assert not trap.exists()


async def test_ssh_gets_no_options(tmp_path: Path) -> None:
    with pytest.raises(RepositoryRefused, match="strange hostname"):
        await clone(f"ssh://-oProxyCommand=touch {tmp_path}/trap/x", tmp_path / "clone", ["ssh"], no_limit)
    assert not (tmp_path / "trap").exists()


async def test_a_missing_repository_is_refused_and_a_missing_server_is_not(tmp_path: Path, server: GitServer) -> None:
    with pytest.raises(RepositoryRefused, match="not found"):
        await fetch(server.url("missing"), tmp_path / "clone")
    with pytest.raises(CloneFailed, match="connect to 127"):
        await fetch("http://127.0.0.1:1/a/b", tmp_path / "clone")


async def test_nobody_is_asked_for_a_password(
    tmp_path: Path, server: GitServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    large_repository(tmp_path / "origin")
    server.password = "secret"
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / ".gitconfig").write_text(f'[credential]\n\thelper = "!touch {tmp_path}/trap; echo password=secret;"\n')
    with pytest.raises(RepositoryRefused, match="Authentication failed"):
        await fetch(server.url("origin/.git"), tmp_path / "clone")
    assert not (tmp_path / "trap").exists()


async def test_the_user_s_configuration_and_environment_change_nothing(
    tmp_path: Path, origin: Repo, monkeypatch: pytest.MonkeyPatch
) -> None:
    templates = tmp_path / "templates" / "hooks"
    templates.mkdir(parents=True)
    hook = templates / "post-checkout"
    hook.write_text(f"#!/bin/sh\ntouch {tmp_path}/trap\n")
    hook.chmod(0o755)
    (tmp_path / ".gitconfig").write_text(
        f"[core]\n\thooksPath = {templates}\n[init]\n\ttemplateDir = {templates.parent}\n"
    )
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("GIT_TEMPLATE_DIR", str(templates.parent))
    monkeypatch.setenv("GIT_DIR", str(tmp_path / "elsewhere"))
    monkeypatch.setenv("GIT_WORK_TREE", str(tmp_path / "elsewhere"))
    monkeypatch.setenv("GIT_CONFIG_COUNT", "1")
    monkeypatch.setenv("GIT_CONFIG_KEY_0", "core.hooksPath")
    monkeypatch.setenv("GIT_CONFIG_VALUE_0", str(templates))
    assert await fetch((tmp_path / "origin").as_uri(), tmp_path / "clone") is not None
    assert (tmp_path / "clone/src/a.py").exists()
    assert not (tmp_path / "elsewhere").exists()
    assert not (tmp_path / "trap").exists()


async def test_links_become_text_and_submodules_stay_away(tmp_path: Path, origin: Repo) -> None:
    (tmp_path / "origin/link").symlink_to("/etc/passwd")
    modules = f'[submodule "x"]\n\tpath = x\n\turl = {(tmp_path / "origin").as_uri()}\n'.encode()
    origin.git.update_index("--add", "--cacheinfo", f"160000,{origin.head.commit.hexsha},x")
    make_repository(tmp_path / "origin", {".gitmodules": modules}, message="hostile").close()
    await fetch((tmp_path / "origin").as_uri(), tmp_path / "clone")
    assert not (tmp_path / "clone/link").is_symlink()
    assert (tmp_path / "clone/link").read_text() == "/etc/passwd"
    assert not (tmp_path / "clone/x").is_dir() or not any((tmp_path / "clone/x").iterdir())


async def test_a_tree_that_names_itself_many_times_does_not_fill_the_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ten trees, each naming the next ten times: ten thousand million files in a kilobyte."""
    monkeypatch.setattr("codelupe_git.process._MEMORY_BYTES", 128 << 20)
    with Repo.init(tmp_path / "origin", initial_branch="main") as repo:
        inner = repo.git.hash_object("-w", "--stdin", istream=subprocess.DEVNULL)
        kind = "100644 blob"
        for _ in range(10):
            listing = tmp_path / "listing"
            listing.write_text("".join(f"{kind} {inner}\t{number}\n" for number in range(10)))
            with listing.open("rb") as stream:
                inner, kind = repo.git.mktree(istream=stream), "040000 tree"
        who = {f"GIT_{role}_{what}": "t@example.org" for role in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
        repo.git.update_ref("HEAD", repo.git.commit_tree(inner, "-m", "bomb", env=who))
    with anyio.fail_after(HANGS), pytest.raises(RepositoryRefused, match=r"[Oo]ut of memory"):
        await fetch((tmp_path / "origin").as_uri(), tmp_path / "clone")


async def test_a_clone_that_cannot_be_checked_out_is_refused(tmp_path: Path, origin: Repo) -> None:
    blob = origin.head.commit.tree["README.md"].hexsha
    origin.git.update_index("--add", "--cacheinfo", f"100644,{blob},{'x' * 300}")
    origin.git.commit("--quiet", "--message=a name that no file system takes")
    with pytest.raises(RepositoryRefused, match="checkout failed"):
        await fetch((tmp_path / "origin").as_uri(), tmp_path / "clone")


async def test_a_clone_is_ended_while_it_grows(tmp_path: Path, server: GitServer) -> None:
    large_repository(tmp_path / "origin")
    server.stall_after = 2 << 20
    watch = watcher(tmp_path / "clone", 1 << 20, 0)
    with anyio.fail_after(HANGS), pytest.raises(TooLarge, match="at most 1,048,576"):
        await fetch(server.url("origin/.git"), tmp_path / "clone", watch)
    assert server.stalled.is_set()
    assert not server.go_on.is_set()
    assert processes_with(f"CODELUPE_GIT={tmp_path}/clone") == []


async def test_cancelling_leaves_no_process(tmp_path: Path, server: GitServer) -> None:
    large_repository(tmp_path / "origin")
    server.stall_after = 1 << 20
    async with anyio.create_task_group() as group:
        group.start_soon(fetch, server.url("origin/.git"), tmp_path / "clone")
        with anyio.fail_after(HANGS):
            await anyio.to_thread.run_sync(server.stalled.wait)
        assert processes_with(f"CODELUPE_GIT={tmp_path}/clone")
        group.cancel_scope.cancel()
    assert processes_with(f"CODELUPE_GIT={tmp_path}/clone") == []


async def test_a_clone_that_is_cancelled_before_it_is_read_leaves_no_pipe_open(tmp_path: Path, origin: Repo) -> None:
    before = open_pipes()
    with anyio.move_on_after(0) as scope:
        await fetch(str(origin.working_dir), tmp_path / "clone")
    assert scope.cancelled_caught
    assert open_pipes() == before


async def test_strays_of_an_earlier_process_are_found_and_ended() -> None:
    def stray(name: str) -> subprocess.Popen[bytes]:
        return subprocess.Popen(["sleep", "3600"], env={"CODELUPE_GIT": name}, start_new_session=True)

    mark = uuid.uuid4().hex
    with stray(f"{mark}.1") as first, stray(f"{mark}.2") as second, stray(f"{mark}2.1") as other:
        await anyio.to_thread.run_sync(end_processes, f"{mark}.")
        await anyio.to_thread.run_sync(end_processes, "")
        assert (first.wait(HANGS), second.wait(HANGS), other.poll()) == (-9, -9, None)
        other.kill()


async def test_a_torrent_of_messages_is_not_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A remote program may write to git's standard error as much as it likes."""
    talker = tmp_path / "bin" / "ssh"
    talker.parent.mkdir()
    talker.write_text("#!/bin/sh\nhead -c 30000000 /dev/zero >&2\nprintf 'the \\033[31mend' >&2\nexit 1\n")
    talker.chmod(0o755)
    monkeypatch.setenv("PATH", f"{talker.parent}:{os.environ['PATH']}")
    with pytest.raises(CloneFailed) as failed:
        await clone("ssh://host/a/b", tmp_path / "clone", ["ssh"], no_limit)
    assert len(str(failed.value)) <= 4096
    assert "the \N{REPLACEMENT CHARACTER}[31mend" in str(failed.value)
