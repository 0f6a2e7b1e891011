"""The downloader in a real daemon, with real git over files and HTTP, on a real Postgres."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import anyio
import pytest
from git import Repo
from structlog.testing import capture_logs

import codelupe_crawler
import codelupe_downloader
from codelupe import Database, HandlerContext, Repository, Subscription, hookimpl
from codelupe.daemon import Daemon
from codelupe_downloader.clone_store import read_note
from codelupe_events import Event, RepoAccepted, RepoCloned, RepoDiscovered, RepoEmpty, TaskDeadLettered
from tests.conftest import RunUntilIdle
from tests.git_server import GitServer, git_server, make_repository, processes_with
from tests.integration.test_crawler import Shop, offering
from tests.processes import HANGS

pytestmark = pytest.mark.anyio

SETTINGS = {"downloader": {"min_free_space": 0}}
OVER_HTTP = {"downloader": {"min_free_space": 0, "allowed_protocols": ["http", "file"]}}


async def accept(event: RepoDiscovered, context: HandlerContext) -> None:
    context.emit(
        RepoAccepted(
            repository_id=event.repository_id,
            url=event.url,
            full_name=event.full_name,
            revision=event.revision,
            score=100,
        )
    )


def accepting_all() -> object:
    """Stands where the repository rules stand."""
    plugin = types.SimpleNamespace()

    @hookimpl
    def codelupe_subscriptions() -> list[Subscription]:
        return [Subscription(name="accept", events=(RepoDiscovered,), handler=accept)]

    plugin.codelupe_subscriptions = codelupe_subscriptions
    return plugin


def pipeline(shop: Shop | None = None) -> dict[str, object]:
    plugins = {"crawler": codelupe_crawler, "accepting": accepting_all(), "downloader": codelupe_downloader}
    return plugins | ({"shop": offering(shop)} if shop else {})


def repository(number: int, url: str, name: str = "owner/repo", revision: str = "r1") -> Repository:
    return Repository(source="shop", external_id=str(number), full_name=name, url=url, revision=revision)


def of_type(events: list[Event], kind: type[Any]) -> list[Any]:
    return [event for event in events if isinstance(event, kind)]


@pytest.fixture
def clones(tmp_path: Path) -> Path:
    return tmp_path / "state" / "repos"


@pytest.fixture
def server(tmp_path: Path) -> Iterator[GitServer]:
    with git_server(tmp_path / "served") as it:
        yield it


def unfinished(clones: Path) -> list[str]:
    folder = clones / ".tmp"
    return sorted(path.name for path in folder.iterdir()) if folder.exists() else []


async def test_a_named_url_is_crawled_and_cloned_over_http(
    run_until_idle: RunUntilIdle, database: Database, clones: Path, server: GitServer
) -> None:
    with make_repository(server.root / "owner" / "repo", {"src/a.py": b"a = 1\n"}) as origin:
        commit = origin.head.commit.hexsha
        origin.clone(server.root / "owner" / "repo.git", bare=True).close()
    url = server.url("owner/repo.git")
    events = await run_until_idle(pipeline(), OVER_HTTP | {"crawler": {"sources": [url]}})
    [cloned] = of_type(events, RepoCloned)
    assert (cloned.repository_id, cloned.commit, cloned.path) == (f"local:{url}", commit, "owner/repo")
    assert cloned.size_bytes > 0
    assert (clones / "owner/repo/src/a.py").read_bytes() == b"a = 1\n"
    assert unfinished(clones) == []
    row = await database.fetchrow("select * from repositories")
    assert row is not None
    assert (row["state"], row["commit"], row["path"]) == ("cloned", commit, "owner/repo")
    assert row["size_bytes"] == cloned.size_bytes
    assert row["cloned_at"] is not None


async def test_an_empty_repository_is_told_as_such(
    run_until_idle: RunUntilIdle, database: Database, clones: Path, tmp_path: Path
) -> None:
    Repo.init(tmp_path / "new" / "project").close()
    settings = SETTINGS | {"crawler": {"sources": [str(tmp_path / "new" / "project")]}}
    events = await run_until_idle(pipeline(), settings)
    [empty] = of_type(events, RepoEmpty)
    assert empty.url == (tmp_path / "new" / "project").as_uri()
    assert await database.fetchval("select state from repositories") == "empty"
    assert not (clones / "new").exists()
    make_repository(tmp_path / "new" / "project", {"a.py": b""}).close()
    events = await run_until_idle(pipeline(), settings)
    assert len(of_type(events, RepoCloned)) == 1
    assert unfinished(clones) == []


async def test_what_cannot_be_cloned_is_dead_lettered_with_its_reason(
    run_until_idle: RunUntilIdle, database: Database, clones: Path, tmp_path: Path
) -> None:
    trap = tmp_path / "trap"
    large = make_repository(tmp_path / "large", {"noise.bin": os.urandom(1 << 20)})
    large.close()
    reasons = {
        f"ext::sh -c touch% {trap}": "transport 'ext' not allowed",
        f"--upload-pack=touch {trap}": "does not exist",
        "http://127.0.0.1:1/a/b": "transport 'http' not allowed; see allowed_protocols",
        (tmp_path / "missing").as_uri(): "does not appear to be a git repository",
        "https://host/\x07bell": "unprintable characters",
        (tmp_path / "large").as_uri(): "at most 500,000 are allowed; max_size",
    }
    shop = Shop("shop", *(repository(number, url, f"o/{number}") for number, url in enumerate(reasons)))
    events = await run_until_idle(pipeline(shop), {"downloader": {"min_free_space": 0, "max_size": 500_000}})
    errors = sorted(event.error for event in of_type(events, TaskDeadLettered))
    assert len(errors) == len(reasons)
    for url, reason in reasons.items():
        assert [error for error in errors if url in error and reason in error], (url, reason, errors)
    assert not trap.exists()
    assert of_type(events, RepoCloned) == []
    assert unfinished(clones) == []
    assert await database.fetchval("select count(*) from repositories where state = 'discovered'") == len(reasons)


async def test_hostile_names_stay_below_the_folder_and_apart(
    run_until_idle: RunUntilIdle, clones: Path, tmp_path: Path
) -> None:
    make_repository(tmp_path / "origin", {"a.py": b""}).close()
    names = ["../../escape", "..", "-x/--y", "a/b\x00", "/etc/passwd", "o/" + "x" * 300, "owner/repo", "owner/repo"]
    url = (tmp_path / "origin").as_uri()
    shop = Shop("shop", *(repository(number, url, name) for number, name in enumerate(names)))
    events = await run_until_idle(pipeline(shop), SETTINGS)
    paths = {event.repository_id: event.path for event in of_type(events, RepoCloned)}
    assert len(set(paths.values())) == len(names)
    for path in paths.values():
        assert len(Path(path).parts) == 2
        assert (clones / path).resolve() == clones / path
        assert (clones / path / "a.py").exists()
    assert {paths["shop:6"].partition("~")[0], paths["shop:7"].partition("~")[0]} == {"owner/repo"}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["origin", "state"]


async def test_a_new_revision_replaces_the_clone_and_a_new_name_moves_it(
    run_until_idle: RunUntilIdle, database: Database, clones: Path, tmp_path: Path
) -> None:
    url = (tmp_path / "origin").as_uri()
    make_repository(tmp_path / "origin", {"old.py": b""}).close()
    shop = Shop("shop", repository(1, url, "owner/before"))
    await run_until_idle(pipeline(shop), SETTINGS)
    with make_repository(tmp_path / "origin", {"new.py": b""}, message="second") as origin:
        origin.index.remove(["old.py"], working_tree=True)
        origin.index.commit("third")
        commit = origin.head.commit.hexsha
    shop.repositories = [repository(1, url, "owner/after", revision="r2")]
    events = await run_until_idle(pipeline(shop), SETTINGS)
    assert of_type(events, RepoCloned)[1].commit == commit
    assert [path.name for path in (clones / "owner").iterdir()] == ["after"]
    assert sorted(path.name for path in (clones / "owner/after").iterdir()) == [".git", "new.py"]
    assert await database.fetchval("select path from repositories") == "owner/after"
    assert unfinished(clones) == []


async def test_a_dead_lettered_revision_does_not_hold_the_next_one_back(
    run_until_idle: RunUntilIdle, tmp_path: Path
) -> None:
    url = (tmp_path / "origin").as_uri()
    shop = Shop("shop", repository(1, url))
    assert len(of_type(await run_until_idle(pipeline(shop), SETTINGS), TaskDeadLettered)) == 1
    make_repository(tmp_path / "origin", {"a.py": b""}).close()
    shop.repositories = [repository(1, url, revision="r2")]
    assert len(of_type(await run_until_idle(pipeline(shop), SETTINGS), RepoCloned)) == 1


async def test_a_full_disk_is_waited_for(
    make_daemon: Callable[..., Daemon], run_until_idle: RunUntilIdle, clones: Path, tmp_path: Path
) -> None:
    make_repository(tmp_path / "origin", {"a.py": b""}).close()
    shop = Shop("shop", repository(1, (tmp_path / "origin").as_uri()))
    daemon = make_daemon(pipeline(shop), {"downloader": {"min_free_space": "1EiB"}})
    with capture_logs() as logs:
        async with anyio.create_task_group() as group:
            group.start_soon(daemon.run)
            with anyio.fail_after(HANGS):
                while not (waiting := [entry for entry in logs if entry["event"] == "retry_later"]):
                    await anyio.sleep(0.02)
            group.cancel_scope.cancel()
    assert "min_free_space" in waiting[0]["reason"]
    assert "must stay so" in waiting[0]["reason"]
    assert unfinished(clones) == []


async def test_a_clone_that_was_finished_but_not_recorded_is_not_made_again(
    make_daemon: Callable[..., Daemon], database: Database, clones: Path, tmp_path: Path
) -> None:
    make_repository(tmp_path / "origin", {"a.py": b""}).close()
    await database.execute("alter table repositories add constraint no_clones check (state <> 'cloned')")
    daemon = make_daemon(pipeline(Shop("shop", repository(1, (tmp_path / "origin").as_uri()))), SETTINGS)
    with capture_logs() as logs:
        async with anyio.create_task_group() as group:
            group.start_soon(daemon.run)
            with anyio.fail_after(HANGS):
                while not any(entry["event"] == "attempt_failed" for entry in logs):
                    await anyio.sleep(0.02)
            note = read_note(clones / "owner/repo")
            (tmp_path / "origin").rename(tmp_path / "gone")
            await database.execute("alter table repositories drop constraint no_clones")
    row = await database.fetchrow("select * from repositories")
    assert note is not None
    assert row is not None
    assert (row["state"], row["commit"], row["path"]) == ("cloned", note.commit, "owner/repo")
    assert read_note(clones / "owner/repo") == note


CHILD = """
import sys, types
import anyio
from codelupe import Subscription, hookimpl
from codelupe.config.sources import Layer, RawSettings, validate
from codelupe.daemon import Daemon
from codelupe.host.host import Host
from codelupe.host.discovery import Plugin
import codelupe_downloader

values = {
    "state_dir": sys.argv[1], "database_url": sys.argv[2],
    "plugins": {"downloader": {"min_free_space": 0, "allowed_protocols": ["http"]}},
}
host = Host([Plugin(name="downloader", distribution="test", version="0", target=codelupe_downloader)])
settings = validate(RawSettings([Layer("command line", values)]), host.settings_models(), environment={}).settings
anyio.run(Daemon(settings, host, until_idle=True).run)
"""


async def test_a_daemon_killed_in_the_middle_of_a_clone_loses_nothing(
    run_until_idle: RunUntilIdle,
    database: Database,
    database_url: str,
    clones: Path,
    tmp_path: Path,
    server: GitServer,
) -> None:
    make_repository(server.root / "repo", {"noise.bin": os.urandom(4 << 20), "a.py": b"a = 1\n"}).close()
    shop = Shop("shop", repository(1, server.url("repo/.git")))
    await run_until_idle({name: it for name, it in pipeline(shop).items() if name != "downloader"})
    server.stall_after = 1 << 20
    with subprocess.Popen([sys.executable, "-c", CHILD, str(tmp_path / "state"), database_url]) as child:
        assert await anyio.to_thread.run_sync(server.stalled.wait, 60)
        [left_over] = unfinished(clones)
        os.kill(child.pid, signal.SIGKILL)
    assert processes_with(f"CODELUPE_GIT={clones}/.tmp/{left_over}"), "git outlives its daemon"
    server.stall_after = None
    events = await run_until_idle({"downloader": codelupe_downloader}, OVER_HTTP)
    assert len(of_type(events, RepoCloned)) == 1
    assert (clones / "owner/repo/a.py").read_bytes() == b"a = 1\n"
    assert unfinished(clones) == []
    assert processes_with(f"CODELUPE_GIT={clones}/.tmp/{left_over}") == []
    assert await database.fetchval("select count(*) from tasks") == 0


async def test_stopping_in_the_middle_of_a_clone_cleans_up_and_goes_on_later(
    make_daemon: Callable[..., Daemon],
    run_until_idle: RunUntilIdle,
    clones: Path,
    server: GitServer,
) -> None:
    make_repository(server.root / "repo", {"noise.bin": os.urandom(4 << 20)}).close()
    plugins = pipeline(Shop("shop", repository(1, server.url("repo/.git"))))
    server.stall_after = 1 << 20
    async with anyio.create_task_group() as group:
        group.start_soon(make_daemon(plugins, OVER_HTTP).run)
        assert await anyio.to_thread.run_sync(server.stalled.wait, 60)
        [working] = unfinished(clones)
        group.cancel_scope.cancel()
    assert unfinished(clones) == []
    assert processes_with(f"CODELUPE_GIT={clones}/.tmp/{working}") == []
    server.stall_after = None
    assert len(of_type(await run_until_idle(plugins, OVER_HTTP), RepoCloned)) == 1


async def test_without_git_the_plugin_says_what_it_lacks(
    run_until_idle: RunUntilIdle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with capture_logs() as logs:
        await run_until_idle({"downloader": codelupe_downloader})
    [broken] = [entry for entry in logs if entry["event"] == "plugin_broken"]
    assert "git is not in PATH" in broken["error"]
