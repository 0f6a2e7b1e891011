from __future__ import annotations

import os
import subprocess
import uuid
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import anyio
import pytest
from git import Repo

from codelupe_downloader import git
from codelupe_downloader.disk import TooLarge, watcher
from codelupe_downloader.git import (
    CloneFailed,
    DiskFull,
    HostClosed,
    RepositoryGone,
    RepositoryRefused,
    Watch,
    clone,
)
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


@pytest.mark.parametrize(
    ("status", "text", "reason"),
    [
        (404, "", "deleted"),
        (410, "", "deleted"),
        (451, "Repository unavailable due to DMCA takedown.", "blocked"),
        (401, "", "private"),
        (403, "Access to this repository has been disabled by GitHub Staff.", "disabled"),
        (403, "Repository access blocked", "blocked"),
    ],
)
async def test_what_a_host_does_not_give_out_is_gone_for_a_reason(
    tmp_path: Path, server: GitServer, status: int, text: str, reason: str
) -> None:
    server.answers["r"] = (status, {"WWW-Authenticate": 'Basic realm="x"'} if status == 401 else {}, text)
    with pytest.raises(RepositoryGone) as gone:
        await fetch(server.url("r"), tmp_path / "clone")
    assert gone.value.reason == reason


async def test_fork_cleaner_33_a_repository_that_is_blocked_by_law_is_a_fact(tmp_path: Path, server: GitServer) -> None:
    server.answers["r"] = (451, {}, "")
    with pytest.raises(RepositoryGone, match="451"):
        await git.head_of(remote(server.url("r")), "")


@pytest.mark.parametrize(
    ("status", "headers", "after"),
    [
        (429, {"Retry-After": "17"}, timedelta(seconds=17)),
        (403, {"Retry-After": "Mon, 30 Nov 2026 10:00:30 GMT"}, None),
        (403, {}, None),
        (429, {"Retry-After": "soon"}, None),
    ],
)
async def test_a_host_that_wants_a_rest_says_how_long(
    tmp_path: Path, server: GitServer, status: int, headers: dict[str, str], after: timedelta | None
) -> None:
    server.answers["r"] = (status, headers, "rate limit")
    with pytest.raises(HostClosed) as closed:
        await fetch(server.url("r"), tmp_path / "clone")
    assert closed.value.status == status
    if after is not None or "Nov" not in str(headers):
        assert closed.value.after == after


def test_a_date_to_retry_at_counts_by_the_host_s_clock() -> None:
    lines = (
        "<= Recv header: HTTP/1.1 302 Found",
        "<= Recv header: Retry-After: 99",
        "<= Recv header: HTTP/2 429",
        "<= Recv header: date: Mon, 30 Nov 2026 10:00:00 GMT",
        "<= Recv header: retry-after: Mon, 30 Nov 2026 10:00:30 GMT",
    )
    assert git.retry_after("\n".join(lines)) == timedelta(seconds=30)
    assert git.retry_after("\n".join(lines[:3])) is None
    assert git.retry_after(
        "\n".join([*lines[:3], "Recv header: Retry-After: Mon, 30 Nov 1999 10:00:30 GMT"])
    ) == timedelta(0)


async def test_what_a_host_says_does_not_decide_what_is_wrong(tmp_path: Path, server: GitServer) -> None:
    """Else any host could make all clones wait for space, or have a repository taken for deleted."""
    server.answers["r"] = (500, {}, "No space left on device\nfatal: repository 'https://x/y' not found")
    with pytest.raises(CloneFailed, match="No space left") as failed:
        await fetch(server.url("r"), tmp_path / "clone")
    assert not isinstance(failed.value, DiskFull)


async def test_a_proxy_or_host_that_is_ill_may_be_well_later(tmp_path: Path, server: GitServer) -> None:
    for status in (500, 502, 503):
        server.answers["r"] = (status, {}, "")
        with pytest.raises(CloneFailed):
            await fetch(server.url("r"), tmp_path / "clone")


def remote(url: str, *protocols: str) -> git.Remote:
    return git.Remote(url=url, protocols=frozenset(protocols or ALLOWED))


async def test_the_head_over_there_is_told_without_a_clone(tmp_path: Path, origin: Repo) -> None:
    origin.create_head("feature/HEAD")
    assert await git.head_of(remote((tmp_path / "origin").as_uri()), "") == origin.head.commit.hexsha
    Repo.init(tmp_path / "empty").close()
    assert await git.head_of(remote((tmp_path / "empty").as_uri()), "") is None
    with pytest.raises(RepositoryRefused, match="not allowed"):
        await git.head_of(remote(f"ext::touch {tmp_path}/trap"), "")
    assert not (tmp_path / "trap").exists()


async def test_only_what_is_new_is_fetched_and_the_earlier_clone_stays_as_it_was(
    tmp_path: Path, server: GitServer
) -> None:
    large_repository(tmp_path / "origin")
    url = server.url("origin/.git")
    await fetch(url, tmp_path / "clone")
    before = {path: path.read_bytes() for path in (tmp_path / "clone").rglob("*") if path.is_file()}
    server.bytes_sent = 0
    with make_repository(tmp_path / "origin", {"b.py": b"b = 1\n"}, message="second") as changed:
        newest = changed.head.commit.hexsha
    (tmp_path / "again").mkdir()
    assert await git.fetch(remote(url), tmp_path / "clone", tmp_path / "again", no_limit) == newest
    assert server.bytes_sent < 100_000
    assert sorted(path.name for path in (tmp_path / "again").iterdir()) == [".git", "b.py", "noise.bin"]
    assert {path: path.read_bytes() for path in before} == before
    with Repo(tmp_path / "again") as again:
        assert [commit.hexsha for commit in again.iter_commits()] == [newest]
        assert not again.is_dirty()
        again.git.fsck("--full")


async def test_a_branch_that_was_renamed_or_begun_anew_is_fetched(tmp_path: Path, origin: Repo) -> None:
    url = (tmp_path / "origin").as_uri()
    await fetch(url, tmp_path / "clone")
    origin.git.checkout("--quiet", "--orphan", "trunk")
    with make_repository(tmp_path / "origin", {"c.py": b""}, message="another beginning") as begun:
        newest = begun.head.commit.hexsha
    (tmp_path / "again").mkdir()
    assert await git.fetch(remote(url), tmp_path / "clone", tmp_path / "again", no_limit) == newest


async def test_fetching_onto_what_is_no_clone_fails_and_touches_nothing(tmp_path: Path, origin: Repo) -> None:
    (tmp_path / "again").mkdir()
    with pytest.raises(CloneFailed, match="cannot stat"):
        await git.fetch(remote((tmp_path / "origin").as_uri()), tmp_path / "nothing", tmp_path / "again", no_limit)


@pytest.mark.parametrize("packed", [False, True])
async def test_the_head_of_a_clone_is_read_from_its_files(tmp_path: Path, origin: Repo, packed: bool) -> None:
    if packed:
        origin.git.pack_refs("--all")
    assert git.read_head(tmp_path / "origin") == origin.head.commit.hexsha
    origin.git.checkout("--quiet", "--detach")
    assert git.read_head(tmp_path / "origin") == origin.head.commit.hexsha


async def test_minishell_322_a_file_of_git_lfs_without_its_filter_is_a_pointer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pointer = b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"0" * 64 + b"\nsize 12345\n"
    attributes = b"*.bin filter=lfs diff=lfs merge=lfs -text\n"
    make_repository(tmp_path / "origin", {".gitattributes": attributes, "big.bin": pointer, "a.py": b""}).close()
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / ".gitconfig").write_text('[filter "lfs"]\n\trequired = true\n\tprocess = no-such-git-lfs\n')
    assert await fetch((tmp_path / "origin").as_uri(), tmp_path / "clone") is not None
    assert (tmp_path / "clone/big.bin").read_bytes() == pointer
    assert (tmp_path / "clone/a.py").exists()


async def test_nothing_that_a_repository_brings_is_run(
    tmp_path: Path, server: GitServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Hooks, filters, fsmonitor and an ssh command: in its files, its own configuration and the user's."""
    trap = tmp_path / "trap"
    script = f"#!/bin/sh\ntouch {trap}\ncat\n".encode()
    commands = (
        f"[core]\n\tfsmonitor = {tmp_path}/evil\n\tsshCommand = {tmp_path}/evil\n\thooksPath = {tmp_path}\n"
        f'[filter "evil"]\n\tsmudge = {tmp_path}/evil\n\tclean = {tmp_path}/evil\n\trequired = true\n'
        f"[uploadpack]\n\tpackObjectsHook = {tmp_path}/evil\n[alias]\n\tclone = !{tmp_path}/evil\n"
    )
    (tmp_path / "evil").write_bytes(script)
    (tmp_path / "evil").chmod(0o755)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    (tmp_path / "home").mkdir()
    (tmp_path / "home/.gitconfig").write_text(commands)
    files = {
        ".gitattributes": b"* filter=evil\n",
        ".gitconfig": commands.encode(),
        ".git-hooks/post-checkout": script,
        "hooks/post-checkout": script,
        "a.py": b"a = 1\n",
    }
    make_repository(tmp_path / "origin", files).close()
    (tmp_path / "origin/.git/hooks").mkdir(exist_ok=True)
    for hook in ("post-checkout", "post-upload-pack", "pre-receive", "reference-transaction"):
        (tmp_path / "origin/.git/hooks" / hook).write_bytes(script)
        (tmp_path / "origin/.git/hooks" / hook).chmod(0o755)
    trap.unlink(missing_ok=True)
    for number, url in enumerate([(tmp_path / "origin").as_uri(), server.url("origin/.git")]):
        await fetch(url, tmp_path / f"clone{number}")
        assert (tmp_path / f"clone{number}/a.py").read_bytes() == b"a = 1\n"
        make_repository(tmp_path / "origin", {f"b{number}.py": b""}, message="more").close()
        trap.unlink(missing_ok=True)
        (tmp_path / f"again{number}").mkdir()
        await git.fetch(remote(url), tmp_path / f"clone{number}", tmp_path / f"again{number}", no_limit)
        assert not trap.exists()


async def test_names_that_differ_by_case_are_files_of_their_own(tmp_path: Path) -> None:
    make_repository(tmp_path / "origin", {"Readme.py": b"a = 1\n", "README.py": b"b = 1\n", "src/A.py": b""}).close()
    await fetch((tmp_path / "origin").as_uri(), tmp_path / "clone")
    assert (tmp_path / "clone/Readme.py").read_bytes() == b"a = 1\n"
    assert (tmp_path / "clone/README.py").read_bytes() == b"b = 1\n"


@pytest.mark.parametrize("name", [".git/config", "../x", ".GIT/hooks/post-checkout", "a/../../x", "git~1/config"])
async def test_a_tree_whose_names_lead_elsewhere_is_refused(tmp_path: Path, origin: Repo, name: str) -> None:
    """Trees are made by hand, since git does not make such ones."""
    blob = origin.head.commit.tree["README.md"].hexsha
    folder, _, file = name.rpartition("/")
    inner, kind, entry = blob, "100644 blob", file
    for part in [*reversed(folder.split("/")), ""] if folder else [""]:
        listing = tmp_path / "listing"
        listing.write_text(f"{kind} {inner}\t{entry}\n")
        with listing.open("rb") as stream:
            inner, kind, entry = origin.git.mktree(istream=stream), "040000 tree", part
    who = {f"GIT_{role}_{what}": "t@example.org" for role in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
    origin.git.update_ref("HEAD", origin.git.commit_tree(inner, "-m", "hostile", env=who))
    before = sorted(path.name for path in tmp_path.iterdir())
    with pytest.raises(RepositoryRefused, match=r"invalid path|checkout failed"):
        await fetch((tmp_path / "origin").as_uri(), tmp_path / "clone")
    assert sorted(path.name for path in tmp_path.iterdir() if path.name != "clone") == before


async def test_objaverse_xl_29_nobody_is_asked_for_a_password(
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
