from __future__ import annotations

import subprocess
import uuid
from collections.abc import Iterator
from pathlib import Path

import anyio
import anyio.to_thread
import pytest
from pydantic import SecretStr

from codelupe_git import process
from codelupe_git.credentials import Credential
from tests.git_server import GitServer, git_server, make_repository, open_pipes
from tests.processes import HANGS

pytestmark = pytest.mark.anyio

TOKEN = "planted0123456789token"


@pytest.fixture
def server(tmp_path: Path) -> Iterator[GitServer]:
    with git_server(tmp_path / "served") as it:
        make_repository(tmp_path / "served" / "r", {"a.py": b""}).close()
        it.password = TOKEN
        yield it


def credential_for(address: str, password: str = TOKEN) -> Credential:
    return Credential(address=address, username="reader", password=SecretStr(password))


async def ask(server: GitServer, credential: Credential | None, path: str = "r/.git") -> process.Ended:
    asking = ("ls-remote", "--", server.url(path), "HEAD")
    return await process.run(*asking, protocols=["http"], mark="", credential=credential)


def everywhere(pid: int) -> bytes:
    """The command line and environment of a process."""
    return b"".join(Path(f"/proc/{pid}/{name}").read_bytes() for name in ("cmdline", "environ"))


async def test_a_host_that_asks_is_shown_the_credential_and_another_is_not(server: GitServer) -> None:
    assert (await ask(server, credential_for(server.url("").rstrip("/")))).status == 0
    shown = len(server.authorizations)
    assert shown > 0
    for elsewhere in ("http://localhost:1", server.url("").rstrip("/").replace("http", "https"), "http://127.0.0.1:1"):
        assert (await ask(server, credential_for(elsewhere))).status != 0
    assert len([one for one in server.authorizations[shown:] if one != "Basic Og=="]) == 0


async def test_a_redirect_does_not_take_the_credential_elsewhere(server: GitServer, tmp_path: Path) -> None:
    with git_server(tmp_path / "served") as other:
        other.password = TOKEN
        server.password = None
        server.answers["moved"] = (302, {"Location": other.url("r/.git/info/refs?service=git-upload-pack")}, "")
        ended = await ask(server, credential_for(server.url("").rstrip("/")), "moved")
        assert ended.status != 0
        assert other.requests
        assert [one for one in other.authorizations if one != "Basic Og=="] == []


async def test_gitpython_1284_a_token_is_in_no_command_line_environment_or_message(
    server: GitServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GITHUB_TOKEN", TOKEN)
    monkeypatch.setenv("CODELUPE_PLUGINS__DOWNLOADER__CREDENTIALS", f"http://u:{TOKEN}@127.0.0.1")
    server.answers["r/"] = (401, {"WWW-Authenticate": 'Basic realm="x"'}, f"wrong token {TOKEN}")
    seen: list[bytes] = []
    start = process.start

    def watched(*arguments: str, **options: object) -> subprocess.Popen[bytes]:
        started = start(*arguments, **options)  # type: ignore[arg-type]
        seen.append(everywhere(started.pid))
        return started

    monkeypatch.setattr(process, "start", watched)
    ended = await ask(server, credential_for(server.url("").rstrip("/")))
    assert server.authorizations
    assert len(seen) == 1
    assert b"ls-remote" in seen[0]
    assert TOKEN.encode() not in seen[0]
    assert TOKEN not in ended.message + ended.headers + ended.output
    assert "wrong token ***" in ended.message


async def test_git_inherits_little_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", TOKEN)
    monkeypatch.setenv("GIT_DIR", "/elsewhere")
    monkeypatch.setenv("https_proxy", "http://proxy:1")
    started = process.start("-c", "alias.env=!env", "env")
    output = started.communicate()[0].decode()
    names = {line.partition("=")[0] for line in output.splitlines()}
    assert {"PATH", "https_proxy", "GIT_TERMINAL_PROMPT"} <= names
    assert "AWS_SECRET_ACCESS_KEY" not in names
    assert "/elsewhere" not in output


async def test_no_descriptor_is_left_open(server: GitServer) -> None:
    before = (open_pipes(), len(list(Path("/proc/self/fd").iterdir())))
    for password in (TOKEN, "wrong"):
        await ask(server, credential_for(server.url("").rstrip("/"), password))
    assert (open_pipes(), len(list(Path("/proc/self/fd").iterdir()))) == before


async def test_only_strays_with_the_mark_are_ended() -> None:
    mark = uuid.uuid4().hex
    with subprocess.Popen(["sleep", "3600"], env={"CODELUPE_GIT": f"{mark}/1"}, start_new_session=True) as stray:
        await anyio.to_thread.run_sync(process.end_processes, f"{mark}/")
        assert stray.wait(HANGS) == -9
