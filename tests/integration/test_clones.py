"""Clones that are compared, fetched, renamed and removed again, and hosts that want to be left alone."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import anyio
import anyio.to_thread
import pytest
from git import Repo
from structlog.testing import capture_logs

import codelupe_downloader
import codelupe_filters
from codelupe import Database, open_folder_lock
from codelupe.daemon import Daemon
from codelupe.log import EventLog
from codelupe.work.replay import Replay, start_replay
from codelupe_downloader import git
from codelupe_downloader.clone_store import CloneStore, read_note
from codelupe_downloader.git import HostClosed
from codelupe_downloader.hosts import Hosts
from codelupe_downloader.settings import DownloaderSettings
from codelupe_events import (
    Event,
    FilesExtracted,
    RepoAccepted,
    RepoChanged,
    RepoCloned,
    RepoEmpty,
    RepoGone,
    TaskDeadLettered,
)
from codelupe_git.clones import in_use
from tests.conftest import RunUntilIdle
from tests.git_server import GitServer, git_server, make_repository, processes_with
from tests.integration.test_downloader import CHILD, unfinished
from tests.processes import HANGS

pytestmark = pytest.mark.anyio

E = TypeVar("E", bound=Event)
DOWNLOADER: dict[str, object] = {"downloader": codelupe_downloader}
BOTH = DOWNLOADER | {"filters": codelupe_filters}
CODE = b"def add(one, other):\n    return one + other\n"
TOKEN = "planted0123456789token"


def settings(**values: Any) -> dict[str, dict[str, Any]]:
    return {
        "downloader": {"min_free_space": 0, "allowed_protocols": ["http", "file"], **values},
        "filters": {"min_stars": 0, "min_forks": 0, "min_score": 0, "unknown_licence": "accept"},
    }


def of_type(events: Iterable[Event], kind: type[E]) -> list[E]:
    return [event for event in events if isinstance(event, kind)]


def accepted(number: int, url: str, name: str = "owner/repo", revision: str = "r1") -> RepoAccepted:
    return RepoAccepted(repository_id=f"shop:{number}", url=url, full_name=name, revision=revision, score=100)


def changed(number: int, name: str, url: str) -> RepoChanged:
    return RepoChanged(repository_id=f"shop:{number}", source="shop", full_name=name, url=url, revision="r1")


Accept = Callable[..., Any]


@pytest.fixture
def accept(database: Database) -> Accept:
    """Gives each repository its row, as the crawler and the rules leave it, and returns the events."""

    async def do(*events: RepoAccepted) -> tuple[RepoAccepted, ...]:
        for event in events:
            await database.execute(
                "insert into repositories (id, source, full_name, url, revision, state)"
                " values ($1, 'shop', $2, $3, $4, 'accepted') on conflict (id) do update set"
                " full_name = excluded.full_name, url = excluded.url, revision = excluded.revision, state = 'accepted'",
                event.repository_id,
                event.full_name,
                event.url,
                event.revision,
            )
        return events

    return do


@pytest.fixture
def make_daemon(make_daemon: Callable[..., Daemon]) -> Callable[..., Daemon]:
    """As everywhere, but settings of plugins that take no part are left out."""

    def make(plugins: dict[str, object], values: dict[str, Any] | None = None, **core: Any) -> Daemon:
        return make_daemon(plugins, {name: it for name, it in (values or {}).items() if name in plugins}, **core)

    return make


@pytest.fixture
def clones(tmp_path: Path) -> Path:
    return tmp_path / "state" / "repos"


@pytest.fixture
def origin(tmp_path: Path) -> Path:
    make_repository(tmp_path / "origin", {"a.py": CODE, "b.py": b"b = 1\n" + CODE}).close()
    return tmp_path / "origin"


@pytest.fixture
def server(tmp_path: Path) -> Iterator[GitServer]:
    with git_server(tmp_path / "served") as it:
        yield it


async def row_of(database: Database, number: int = 1) -> dict[str, Any]:
    row = await database.fetchrow("select * from repositories where id = $1", f"shop:{number}")
    assert row is not None
    return dict(row)


async def files_of(database: Database, number: int = 1) -> dict[str, Any]:
    rows = await database.fetch("select * from processed_files where repository_id = $1 order by id", f"shop:{number}")
    return {f"{row['file_path']}@{row['rejected_by'] or 'stored'}": dict(row) for row in rows}


# --- compared, fetched, retired -----------------------------------------------------------------------------------


async def test_what_has_not_moved_is_neither_cloned_nor_told(
    run_until_idle: RunUntilIdle, database: Database, clones: Path, server: GitServer, accept: Accept
) -> None:
    make_repository(server.root / "r", {"a.py": CODE}).close()
    url = server.url("r/.git")
    await run_until_idle(BOTH, settings(), await accept(accepted(1, url)))
    note, row = read_note(clones / "owner/repo"), await row_of(database)
    server.requests.clear()
    events = await run_until_idle(BOTH, settings(), await accept(accepted(1, url, revision="r2")))
    assert len(of_type(events, RepoCloned)) == len(of_type(events, FilesExtracted)) == 1
    assert read_note(clones / "owner/repo") == note
    after = await row_of(database)
    assert (after["state"], after["commit"], after["path"]) == ("extracted", row["commit"], "owner/repo")
    assert len(server.requests) == 2, "an ls-remote is one request for capabilities and one for refs"


async def test_what_has_moved_is_fetched_and_its_files_are_told_apart(
    run_until_idle: RunUntilIdle, database: Database, clones: Path, server: GitServer, accept: Accept
) -> None:
    noise = os.urandom(1 << 20)
    served = server.root / "r"
    first = {"same.py": CODE, "old.py": CODE + b"old = 1\n", "moved.py": CODE + b"moved = 1\n", "noise.bin": noise}
    make_repository(served, first).close()
    url = server.url("r/.git")
    await run_until_idle(BOTH, settings(), await accept(accepted(1, url)))
    before = await files_of(database)
    with make_repository(served, {"new.py": CODE + b"new = 1\n", "noise.bin": noise}) as repository:
        repository.git.rm("--quiet", "old.py")
        repository.git.mv("moved.py", "there.py")
        repository.git.commit("--quiet", "--message=third")
        commit = repository.head.commit.hexsha
    server.bytes_sent = 0
    events = await run_until_idle(BOTH, settings(), await accept(accepted(1, url, revision="r2")))
    assert server.bytes_sent < 100_000
    assert of_type(events, RepoCloned)[1].commit == commit
    assert of_type(events, FilesExtracted)[1].stored == 3
    after = await files_of(database)
    assert set(after) == {"same.py@stored", "there.py@stored", "new.py@stored", "old.py@vanished", "noise.bin@binary"}
    assert after["same.py@stored"]["id"] == before["same.py@stored"]["id"]
    assert after["there.py@stored"]["id"] == before["moved.py@stored"]["id"]
    assert {row["commit"] for name, row in after.items() if not name.startswith("old.py")} == {commit}
    vanished = after["old.py@vanished"]
    assert (vanished["content"], vanished["quality_score"], vanished["scores"]) == (None, None, None)
    assert commit in vanished["rejection"]["detail"]
    assert unfinished(clones) == []
    with Repo(clones / "owner/repo") as clone:
        assert not clone.is_dirty()


async def test_scores_stay_with_what_is_still_there_and_what_a_batch_holds_stays(
    run_until_idle: RunUntilIdle, database: Database, origin: Path, accept: Accept
) -> None:
    url = origin.as_uri()
    await run_until_idle(BOTH, settings(), await accept(accepted(1, url)))
    await database.execute("update processed_files set quality_score = 77, scored_at = now()")
    held = (await files_of(database))["b.py@stored"]["id"]
    await database.execute("insert into batches (files, characters, repositories, min_score) values (1, 1, 1, 1)")
    await database.execute("insert into batch_files select $1, max(id), 'train' from batches", held)
    with make_repository(origin, {"c.py": b""}) as repository:
        repository.git.rm("--quiet", "b.py")
        repository.git.commit("--quiet", "--message=third")
    await run_until_idle(BOTH, settings(), await accept(accepted(1, url, revision="r2")))
    after = await files_of(database)
    assert after["a.py@stored"]["quality_score"] == 77
    assert after["b.py@stored"]["id"] == held
    assert after["b.py@stored"]["content"] is not None


async def test_what_vanishes_here_and_is_also_elsewhere_is_stored_as_that_copy(
    run_until_idle: RunUntilIdle, database: Database, origin: Path, tmp_path: Path, accept: Accept
) -> None:
    make_repository(tmp_path / "other", {"lib/copy.py": CODE}).close()
    await run_until_idle(BOTH, settings(), await accept(accepted(1, origin.as_uri())))
    other = accepted(2, (tmp_path / "other").as_uri(), "owner/other")
    await run_until_idle(BOTH, settings(), await accept(other))
    stored = (await files_of(database, 1))["a.py@stored"]["id"]
    assert set(await files_of(database, 2)) == {"lib/copy.py@exact-duplicate"}
    with Repo(origin) as repository:
        repository.git.rm("--quiet", "a.py")
        repository.git.commit("--quiet", "--message=gone")
    await run_until_idle(BOTH, settings(), await accept(accepted(1, origin.as_uri(), revision="r2")))
    assert set(await files_of(database, 1)) == {"b.py@stored"}
    [copy] = (await files_of(database, 2)).items()
    assert (copy[0], copy[1]["id"], copy[1]["content"].encode()) == ("lib/copy.py@stored", stored, CODE)


async def test_a_repository_that_lost_all_its_commits_is_empty(
    run_until_idle: RunUntilIdle, database: Database, origin: Path, accept: Accept
) -> None:
    await run_until_idle(DOWNLOADER, settings(), await accept(accepted(1, origin.as_uri())))
    shutil.rmtree(origin)
    Repo.init(origin).close()
    events = await run_until_idle(DOWNLOADER, settings(), await accept(accepted(1, origin.as_uri(), revision="r2")))
    assert len(of_type(events, RepoEmpty)) == 1
    assert (await row_of(database))["state"] == "empty"


async def test_a_clone_that_cannot_be_fetched_onto_is_made_from_nothing(
    run_until_idle: RunUntilIdle, clones: Path, origin: Path, accept: Accept
) -> None:
    await run_until_idle(DOWNLOADER, settings(), await accept(accepted(1, origin.as_uri())))
    (clones / "owner/repo/.git/config").write_text("[broken")
    with make_repository(origin, {"c.py": b""}) as repository:
        commit = repository.head.commit.hexsha
    with capture_logs() as logs:
        events = await run_until_idle(DOWNLOADER, settings(), await accept(accepted(1, origin.as_uri(), revision="r2")))
    assert [event.commit for event in of_type(events, RepoCloned)][1:] == [commit]
    assert [entry for entry in logs if entry["event"] == "fetch_failed"]
    assert (clones / "owner/repo/c.py").exists()
    assert unfinished(clones) == []


# --- names --------------------------------------------------------------------------------------------------------


async def clone_named(run: RunUntilIdle, accept: Accept, folder: Path, names: dict[int, str]) -> None:
    for number, name in names.items():
        make_repository(folder / f"origin{number}", {"id.py": f"id = {number}\n".encode() + CODE}).close()
        await run(DOWNLOADER, settings(), await accept(accepted(number, (folder / f"origin{number}").as_uri(), name)))


async def rename(run: RunUntilIdle, database: Database, names: dict[int, str]) -> None:
    """As the crawler tells it: the rows first, then an event for each."""
    events = []
    for number, name in names.items():
        renamed = "update repositories set full_name = $2 where id = $1 returning url"
        url = await database.fetchval(renamed, f"shop:{number}", name)
        events.append(changed(number, name, url))
    await run(DOWNLOADER, settings(), events)


async def places(database: Database, clones: Path) -> dict[str, str]:
    """Where each clone lies, which the note in it and the table agree on."""
    rows = await database.fetch("select id, path from repositories where path is not null")
    noted = {note.repository_id: str(at.relative_to(clones)) for at in clones.glob("*/*") if (note := read_note(at))}
    assert {row["id"]: row["path"] for row in rows} == noted
    return noted


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ({1: "o/a"}, {1: "p/b"}),
        ({1: "o/a", 2: "o/b"}, {1: "o/b", 2: "o/a"}),
        ({1: "o/a", 2: "o/b"}, {1: "o/b", 2: "o/c"}),
        ({1: "o/a", 2: "o/b", 3: "o/c"}, {1: "o/b", 2: "o/c", 3: "o/a"}),
        ({1: "o/a", 2: "o/b", 3: "o/c"}, {3: "o/a", 2: "o/c", 1: "o/b"}),
    ],
)
async def test_augur_3056_hound_1128_clones_follow_names_also_when_these_are_exchanged(
    run_until_idle: RunUntilIdle,
    database: Database,
    clones: Path,
    tmp_path: Path,
    accept: Accept,
    before: dict[int, str],
    after: dict[int, str],
) -> None:
    await clone_named(run_until_idle, accept, tmp_path, before)
    await rename(run_until_idle, database, after)
    assert await places(database, clones) == {f"shop:{number}": name for number, name in after.items()}
    for number, name in after.items():
        assert (clones / name / "id.py").read_text().startswith(f"id = {number}\n")


async def exchange_names(database: Database, server: GitServer) -> list[RepoChanged]:
    """What is at /a is at /b by now, and the other way round; the source has told so."""
    (server.root / "a").rename(server.root / "c")
    (server.root / "b").rename(server.root / "a")
    (server.root / "c").rename(server.root / "b")
    return await tell_exchange(database, server)


async def tell_exchange(database: Database, server: GitServer) -> list[RepoChanged]:
    events = [changed(1, "o/b", server.url("b/.git")), changed(2, "o/a", server.url("a/.git"))]
    for event in events:
        moved = "update repositories set full_name = $2, url = $3 where id = $1"
        await database.execute(moved, event.repository_id, event.full_name, event.url)
    return events


def serve_two(server: GitServer) -> dict[int, str]:
    for number, name in {1: "a", 2: "b"}.items():
        make_repository(server.root / name, {"id.py": f"id = {number}\n".encode() + CODE}).close()
    return {1: "a", 2: "b"}


async def require_own(database: Database, clones: Path) -> None:
    for repository_id, place in (await places(database, clones)).items():
        number = repository_id.removeprefix("shop:")
        assert (clones / place / "id.py").read_text().startswith(f"id = {number}\n")


async def test_names_that_are_exchanged_before_both_are_cloned_lead_to_their_own(
    run_until_idle: RunUntilIdle, database: Database, server: GitServer, clones: Path, accept: Accept
) -> None:
    names = serve_two(server)
    events = await accept(
        *(accepted(number, server.url(f"{name}/.git"), f"o/{name}") for number, name in names.items())
    )
    renamed = await exchange_names(database, server)
    told = await run_until_idle(DOWNLOADER, settings(), [*events, *renamed])
    assert sorted(event.repository_id for event in of_type(told, RepoCloned)) == ["shop:1", "shop:2"]
    await require_own(database, clones)


async def test_names_that_are_exchanged_while_both_are_cloned_lead_to_their_own(
    run_until_idle: RunUntilIdle,
    database: Database,
    server: GitServer,
    clones: Path,
    accept: Accept,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    names = serve_two(server)
    events = await accept(
        *(accepted(number, server.url(f"{name}/.git"), f"o/{name}") for number, name in names.items())
    )
    clone, cloned = git.clone, 0

    async def clone_and_exchange(*arguments: Any) -> str | None:
        nonlocal cloned
        cloned += 1
        if cloned == 1:
            renamed.extend(await exchange_names(database, server))
        return await clone(*arguments)

    renamed: list[RepoChanged] = []
    monkeypatch.setattr(git, "clone", clone_and_exchange)
    await run_until_idle(DOWNLOADER, settings(concurrency=1), events)
    await run_until_idle(DOWNLOADER, settings(), renamed)
    await require_own(database, clones)


async def test_names_that_were_exchanged_before_the_source_told_so_lead_to_their_own_once_it_has(
    run_until_idle: RunUntilIdle, database: Database, server: GitServer, clones: Path, accept: Accept
) -> None:
    names = serve_two(server)
    events = await accept(
        *(accepted(number, server.url(f"{name}/.git"), f"o/{name}") for number, name in names.items())
    )
    (server.root / "a").rename(server.root / "c")
    (server.root / "b").rename(server.root / "a")
    (server.root / "c").rename(server.root / "b")
    await run_until_idle(DOWNLOADER, settings(), events)
    renamed = await tell_exchange(database, server)
    told = await run_until_idle(DOWNLOADER, settings(), renamed)
    assert len(of_type(told, RepoCloned)) == 4
    await require_own(database, clones)
    asked = len(server.requests)
    await run_until_idle(DOWNLOADER, settings(), renamed)  # the clones are known to be theirs
    assert len(server.requests) == asked


async def test_cla_assistant_779_the_name_of_a_deleted_repository_goes_to_the_new_one(
    run_until_idle: RunUntilIdle, database: Database, clones: Path, tmp_path: Path, accept: Accept
) -> None:
    await clone_named(run_until_idle, accept, tmp_path, {3: "o/a"})
    await database.execute("update repositories set state = 'gone' where id = 'shop:3'")
    await clone_named(run_until_idle, accept, tmp_path, {9: "o/a"})
    found = await places(database, clones)
    assert found["shop:9"] == "o/a"
    assert found["shop:3"].startswith("o/a~")


async def test_a_name_is_taken_over_when_its_owner_is_told_to_be_gone_later(
    run_until_idle: RunUntilIdle, database: Database, clones: Path, tmp_path: Path, accept: Accept
) -> None:
    await clone_named(run_until_idle, accept, tmp_path, {3: "o/a", 9: "o/a"})
    assert (await places(database, clones))["shop:9"].startswith("o/a~")
    await database.execute("update repositories set state = 'gone' where id = 'shop:3'")
    gone = RepoGone(repository_id="shop:3", full_name="o/a", url="u", reason="deleted")
    await run_until_idle(DOWNLOADER, settings(), [gone])
    found = await places(database, clones)
    assert found["shop:9"] == "o/a"
    assert found["shop:3"].startswith("o/a~")


async def test_files_are_extracted_from_the_clone_that_moved_before_its_turn_came(
    run_until_idle: RunUntilIdle, database: Database, tmp_path: Path, accept: Accept
) -> None:
    await clone_named(run_until_idle, accept, tmp_path, {1: "o/a", 2: "o/b"})
    await rename(run_until_idle, database, {1: "o/b", 2: "o/a"})
    events = await run_until_idle(BOTH, settings())
    assert not of_type(events, TaskDeadLettered)
    for number in (1, 2):
        [file] = (await files_of(database, number)).values()
        assert file["content"].startswith(f"id = {number}\n")


async def test_a_clone_in_use_is_not_moved_until_it_is_free(
    run_until_idle: RunUntilIdle, clones: Path, tmp_path: Path, accept: Accept
) -> None:
    await clone_named(run_until_idle, accept, tmp_path, {1: "o/a"})
    store = CloneStore(clones, "shop:1", "o/b")
    with in_use(clones / "o/a") as is_there:
        assert is_there
        assert await anyio.to_thread.run_sync(store.move, clones / "o/a") is None
        assert (clones / "o/a/id.py").exists()
    assert await anyio.to_thread.run_sync(store.move, clones / "o/a") == clones / "o/b"


# --- retention ----------------------------------------------------------------------------------------------------


async def test_clones_are_removed_once_their_files_are_extracted_and_come_back_by_a_replay(
    run_until_idle: RunUntilIdle, database: Database, clones: Path, origin: Path, accept: Accept
) -> None:
    url = origin.as_uri()
    events = await run_until_idle(BOTH, settings(keep_size=0), await accept(accepted(1, url)))
    assert len(of_type(events, FilesExtracted)) == 1
    assert not (clones / "owner/repo").exists()
    assert unfinished(clones) == []
    assert ((await row_of(database))["path"], (await row_of(database))["state"]) == (None, "extracted")
    events = await run_until_idle(BOTH, settings(keep_size=0), await accept(accepted(1, url, revision="r2")))
    assert len(of_type(events, RepoCloned)) == 1, "it has not moved"
    assert (await row_of(database))["state"] == "extracted"
    make_repository(origin, {"c.py": CODE + b"c = 1\n"}).close()
    events = await run_until_idle(BOTH, settings(keep_size=0), await accept(accepted(1, url, revision="r3")))
    assert len(of_type(events, RepoCloned)) == 2
    assert set(await files_of(database)) == {"a.py@stored", "b.py@stored", "c.py@stored"}
    assert not (clones / "owner/repo").exists()
    [subscription] = codelupe_downloader.codelupe_subscriptions(DownloaderSettings())
    again = Replay(subscription=replace(subscription, name="downloader.clone"), after=0)
    await start_replay(database, again)
    events = await run_until_idle(BOTH, settings())
    assert len(of_type(events, RepoCloned)) == 2
    assert (clones / "owner/repo/c.py").exists()


async def test_of_clones_over_the_space_for_them_the_one_used_longest_ago_goes_first(
    run_until_idle: RunUntilIdle, database: Database, clones: Path, tmp_path: Path, accept: Accept
) -> None:
    events = []
    for number in (1, 2, 3):
        make_repository(tmp_path / f"o{number}", {"a.py": CODE + f"n = {number}\n".encode()}).close()
        [event] = await accept(accepted(number, (tmp_path / f"o{number}").as_uri(), f"o/r{number}"))
        events.append(event)
    await run_until_idle(BOTH, settings(), events)
    size = (await row_of(database))["size_bytes"]
    await run_until_idle(BOTH, settings(), await accept(accepted(1, events[0].url, "o/r1", "r2")))
    await database.execute("update repositories set clone_used_at = now() - interval '1 hour' where id = 'shop:2'")
    await run_until_idle(BOTH, settings(keep_size=size * 5 // 2))
    assert sorted(path.name for path in (clones / "o").iterdir()) == ["r1", "r3"]
    assert (await row_of(database, 2))["path"] is None


async def test_a_clone_in_work_is_never_removed(
    run_until_idle: RunUntilIdle, database: Database, clones: Path, origin: Path, accept: Accept
) -> None:
    """Neither one whose files were not extracted yet nor one that a process, also another, is at work in."""
    await run_until_idle(DOWNLOADER, settings(keep_size=0), await accept(accepted(1, origin.as_uri())))
    assert (clones / "owner/repo/a.py").exists()
    await run_until_idle(BOTH, settings())
    script = (
        "import sys, time; from pathlib import Path; from codelupe_git.clones import in_use\n"
        "with in_use(Path(sys.argv[1])) as held: print(held, flush=True); time.sleep(3600)"
    )
    command = [sys.executable, "-c", script, str(clones / "owner/repo")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as reader:
        assert reader.stdout is not None
        assert reader.stdout.readline() == "True\n"
        await run_until_idle(DOWNLOADER, settings(keep_size=0))
        assert (clones / "owner/repo/a.py").exists()
        assert (await row_of(database))["path"] == "owner/repo"
        reader.kill()
    await run_until_idle(DOWNLOADER, settings(keep_size=0))
    assert not (clones / "owner/repo").exists()


# --- hosts --------------------------------------------------------------------------------------------------------


async def test_a_host_that_says_429_is_left_alone_by_all_repositories(
    make_daemon: Callable[..., Daemon], database: Database, clones: Path, server: GitServer, accept: Accept
) -> None:
    make_repository(server.root / "good", {"a.py": CODE}).close()
    server.answers["limited"] = (429, {"Retry-After": "3600"}, "slow down")
    daemon = make_daemon(DOWNLOADER, settings(concurrency=1), until_idle=False)
    events = await accept(
        accepted(1, server.url("limited"), "o/limited"), accepted(2, server.url("good/.git"), "o/good")
    )
    await publish(database, events[:1])
    with capture_logs() as logs:
        async with anyio.create_task_group() as group:
            group.start_soon(daemon.run)
            await until(lambda: len(waits(logs)) == 1)
            asked = len(server.requests)
            await publish(database, events[1:])
            await until(lambda: len(waits(logs)) == 2)
            group.cancel_scope.cancel()
    assert len(server.requests) == asked == 1
    assert all("left alone: it answered 429" in entry["reason"] for entry in waits(logs))
    row = await database.fetchrow("select host, waits, next_at - now() > '50 minutes' as long from clone_hosts")
    assert row is not None
    assert tuple(row) == ("127.0.0.1", 1, True)


async def test_while_a_host_is_away_its_repositories_wait_and_the_downloader_goes_on(
    make_daemon: Callable[..., Daemon], database: Database, server: GitServer, accept: Accept
) -> None:
    away, overloaded = "http://127.0.0.2:1", server.url("")
    server.answers[""] = (503, {}, "no server is available")
    urls = [f"{away}/r{n}" for n in range(3)] + [f"{overloaded}/r{n}" for n in range(3)]
    await publish(database, await accept(*(accepted(n, url, f"o/r{n}") for n, url in enumerate(urls))))
    daemon = make_daemon(DOWNLOADER, settings(), until_idle=False)
    with capture_logs() as logs:
        async with anyio.create_task_group() as group:
            group.start_soon(daemon.run)
            await until(lambda: {entry["stream"] for entry in waits(logs)} == {f"repo/shop:{n}" for n in range(6)})
            group.cancel_scope.cancel()
    assert {row["reason"] for row in await database.fetch("select reason from clone_hosts")} == {
        "it cannot be reached",
        "it answered 503",
    }
    assert {entry["event"] for entry in logs if entry["log_level"] in ("warning", "error")} == {
        "no_search_index",
        "retry_later",
    }


@pytest.mark.parametrize(("status", "url"), [(None, "http://127.0.0.1:1/r"), (502, None), (504, None)])
async def test_a_repository_whose_host_stays_away_is_given_up_in_the_end(
    run_until_idle: RunUntilIdle,
    server: GitServer,
    accept: Accept,
    monkeypatch: pytest.MonkeyPatch,
    status: int | None,
    url: str | None,
) -> None:
    monkeypatch.setattr("codelupe_downloader.downloader._REFUSALS_IN_ALL", 1)
    if status is not None:
        server.answers["r"] = (status, {}, "")
    events = await run_until_idle(DOWNLOADER, settings(), await accept(accepted(1, url or server.url("r"))))
    [letter] = of_type(events, TaskDeadLettered)
    assert "127.0.0.1 could not serve it in 1 attempts" in letter.error


async def test_a_host_is_asked_again_when_its_time_is_over_and_what_waited_is_cloned(
    run_until_idle: RunUntilIdle, database: Database, clones: Path, server: GitServer, accept: Accept
) -> None:
    for name in ("one", "two"):
        make_repository(server.root / name, {"a.py": CODE}).close()
    server.answers[""] = (403, {"Retry-After": "1"}, "secondary rate limit")
    threading.Timer(1.5, server.answers.clear).start()
    events = await accept(*(accepted(n, server.url(f"{name}/.git"), name) for n, name in enumerate(("one", "two"))))
    with anyio.fail_after(HANGS):
        told = await run_until_idle(DOWNLOADER, settings(), events)
    assert len(of_type(told, RepoCloned)) == 2
    assert not of_type(told, TaskDeadLettered)
    assert await database.fetchval("select count(*) from clone_hosts") == 0


async def test_waits_grow_and_count_once_for_all_who_find_the_host_closed(database: Database) -> None:
    hosts = Hosts(database, Path(), 1)
    closed = HostClosed("", 403, None)
    waits, seconds = [], []
    for _ in range(9):
        waits.append(await hosts.close("h", closed))
        assert await hosts.close("h", closed) == waits[-1], "another one that found it closed at the same time"
        seconds.append(
            await database.fetchval("select extract(epoch from next_at - clock_timestamp())::float8 from clone_hosts")
        )
        await database.execute("update clone_hosts set next_at = now() - interval '1 second'")
    assert waits == [1, 2, 3, 4, 5, 6, 7, 8, 9]
    assert seconds == pytest.approx([60, 120, 240, 480, 960, 1920, 3600, 3600, 3600], abs=2)


async def test_a_repository_that_alone_is_always_forbidden_is_private(
    run_until_idle: RunUntilIdle, database: Database, server: GitServer, accept: Accept, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("codelupe_downloader.downloader._REFUSALS", 1)
    server.answers["r"] = (403, {}, "")
    events = await run_until_idle(DOWNLOADER, settings(), await accept(accepted(1, server.url("r"))))
    [gone] = of_type(events, RepoGone)
    assert gone.reason == "private"
    assert not of_type(events, TaskDeadLettered)


async def test_what_cannot_be_had_ends_as_a_fact(
    run_until_idle: RunUntilIdle, database: Database, server: GitServer, accept: Accept
) -> None:
    """fork-cleaner#33: 451; objaverse-xl#29: a prompt; and the kinds beside them."""
    ask = {"WWW-Authenticate": 'Basic realm="x"'}
    cases: dict[str, tuple[int, dict[str, str], str]] = {
        "deleted": (404, {}, "deleted"),
        "also": (410, {}, "deleted"),
        "secret": (401, ask, "private"),
        "blocked": (451, {}, "blocked"),
    }
    events = []
    for number, (name, (status, headers, _)) in enumerate(cases.items()):
        server.answers[name] = (status, headers, "")
        [event] = await accept(accepted(number, server.url(name), f"o/{name}"))
        events.append(event)
    with anyio.fail_after(HANGS):
        told = await run_until_idle(DOWNLOADER, settings(), events)
    gone = {event.full_name: (event.reason, event.url) for event in of_type(told, RepoGone)}
    assert gone == {f"o/{name}": (reason, server.url(name)) for name, (_, _, reason) in cases.items()}
    assert not of_type(told, TaskDeadLettered)
    assert await database.fetchval("select count(*) from repositories where state = 'gone'") == len(cases)


async def test_no_host_has_more_clones_than_it_may(
    run_until_idle: RunUntilIdle, server: GitServer, accept: Accept
) -> None:
    events = []
    for number in range(6):
        make_repository(server.root / f"r{number}", {"a.py": CODE}).close()
        [event] = await accept(accepted(number, server.url(f"r{number}/.git"), f"o/r{number}"))
        events.append(event)
    server.pause = 0.1
    told = await run_until_idle(DOWNLOADER, settings(concurrency=6, concurrency_per_host=2), events)
    assert len(of_type(told, RepoCloned)) == 6
    assert server.most_at_once == 2


async def test_over_the_network_only_https_is_allowed_unless_settings_say_otherwise(
    run_until_idle: RunUntilIdle, server: GitServer, origin: Path, accept: Accept
) -> None:
    urls = {1: server.url("r"), 2: "ssh://host/r", 3: "git://host/r", 4: "host:o/r", 5: origin.as_uri()}
    events = await accept(*(accepted(number, url, f"o/r{number}") for number, url in urls.items()))
    told = await run_until_idle(DOWNLOADER, {"downloader": {"min_free_space": 0}}, events)
    assert len([e for e in of_type(told, TaskDeadLettered) if "see allowed_protocols" in e.error]) == 4
    assert [event.repository_id for event in of_type(told, RepoCloned)] == ["shop:5"]
    assert server.requests == []


# --- tokens -------------------------------------------------------------------------------------------------------


class ProcessWatch(threading.Thread):
    """Reads command lines and environments of all processes, over and over, and keeps those that hold a text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self._text = text.encode()
        self._done = threading.Event()
        self.found: set[str] = set()
        self.seen: set[bytes] = set()

    def run(self) -> None:
        while not self._done.is_set():
            for folder in Path("/proc").glob("[0-9]*"):
                if folder.name == str(os.getpid()):
                    continue
                for name in ("cmdline", "environ"):
                    try:
                        content = (folder / name).read_bytes()
                    except OSError:
                        continue
                    if name == "cmdline":
                        self.seen.add(content.partition(b"\0")[0].rpartition(b"/")[2])
                    if self._text in content:
                        self.found.add(f"{name} {content[:200]!r}")

    def stop(self) -> None:
        self._done.set()
        self.join()


def with_text(folder: Path, text: str) -> list[str]:
    return [str(path) for path in folder.rglob("*") if path.is_file() and text.encode() in path.read_bytes()]


async def test_ghorg_64_test_infra_17386_a_token_is_nowhere_to_be_found(
    run_until_idle: RunUntilIdle,
    make_daemon: Callable[..., Daemon],
    database: Database,
    tmp_path: Path,
    server: GitServer,
    accept: Accept,
    capfd: pytest.CaptureFixture[str],
) -> None:
    """In no remote, log, error, table, file, command line or environment: of a clone, a fetch and a failure."""
    make_repository(server.root / "r", {"a.py": CODE}).close()
    server.password, server.pause = TOKEN, 0.05
    credentials = server.url("").replace("http://", f"http://reader:{TOKEN}@")
    used = settings(credentials=credentials)
    watch = ProcessWatch(TOKEN)
    watch.start()
    with capture_logs() as logs:
        await run_until_idle(DOWNLOADER, used, await accept(accepted(1, server.url("r/.git"))))
        make_repository(server.root / "r", {"b.py": CODE}).close()
        events = await run_until_idle(DOWNLOADER, used, await accept(accepted(1, server.url("r/.git"), revision="r2")))
        server.answers["wrong"] = (401, {"WWW-Authenticate": "Basic"}, f"no such token: {TOKEN}")
        server.answers["ill"] = (500, {}, f"while checking {TOKEN}")
        bad = (accepted(2, server.url("wrong"), "o/wrong"), accepted(3, server.url("ill"), "o/ill"))
        await publish(database, await accept(*bad))
        async with anyio.create_task_group() as group:
            group.start_soon(make_daemon(DOWNLOADER, used, until_idle=False).run)
            await until(lambda: {"attempt_failed", "repository_gone"} <= {entry["event"] for entry in logs})
            group.cancel_scope.cancel()
    watch.stop()
    assert len(of_type(events, RepoCloned)) == 2
    assert b"git-remote-http" in watch.seen
    assert watch.found == set()
    assert TOKEN not in str(logs) + "".join(capfd.readouterr())
    assert with_text(tmp_path / "state", TOKEN) == []
    tables = await database.fetch("select tablename from pg_tables where schemaname = 'public'")
    for table in tables:
        rows = await database.fetch(f'select t::text as line from "{table["tablename"]}" as t')
        assert not [row["line"] for row in rows if TOKEN in row["line"]], table["tablename"]


async def test_a_token_in_a_repository_s_url_stays_out_of_all_that_the_downloader_writes(
    run_until_idle: RunUntilIdle, tmp_path: Path, server: GitServer, accept: Accept
) -> None:
    make_repository(server.root / "r", {"a.py": CODE}).close()
    server.password = TOKEN
    urls = {
        n: server.url(name).replace("http://", f"http://reader:{TOKEN}@") for n, name in enumerate(("r/.git", "no"))
    }
    events = await accept(*(accepted(n, url, f"o/r{n}") for n, url in urls.items()))
    with capture_logs() as logs:
        told = await run_until_idle(DOWNLOADER, settings(), events)
    assert len(of_type(told, RepoCloned)) == 1
    [gone] = of_type(told, RepoGone)
    assert gone.url == server.url("no")
    assert TOKEN not in str(logs) + str(gone)
    assert with_text(tmp_path / "state", TOKEN) == []


# --- what processes leave that are killed ---------------------------------------------------------------------------


async def test_skara_1374_what_a_killed_process_left_goes_also_if_its_repository_is_not_cloned_again(
    run_until_idle: RunUntilIdle,
    database: Database,
    database_url: str,
    clones: Path,
    tmp_path: Path,
    server: GitServer,
    accept: Accept,
) -> None:
    make_repository(server.root / "repo", {"noise.bin": os.urandom(4 << 20)}).close()
    server.stall_after = 1 << 20
    await publish(database, await accept(accepted(1, server.url("repo/.git"))))
    with subprocess.Popen([sys.executable, "-c", CHILD, str(tmp_path / "state"), database_url]) as child:
        assert await anyio.to_thread.run_sync(server.stalled.wait, 60)
        [left_over] = unfinished(clones)
        os.kill(child.pid, signal.SIGKILL)
    assert processes_with(f"CODELUPE_GIT={clones}/.tmp/{left_over}")
    assert list(clones.glob("[!.]*/*")) == []
    await database.execute("delete from tasks")
    await run_until_idle(DOWNLOADER, settings())
    assert unfinished(clones) == []
    assert processes_with(f"CODELUPE_GIT={clones}/.tmp/{left_over}") == []


async def test_what_another_process_or_machine_is_cloning_is_no_left_over(
    run_until_idle: RunUntilIdle, clones: Path
) -> None:
    machine = socket.gethostname()
    for name in (f"alive.1.{machine}", f"dead.1.{machine}", "far.1.elsewhere", "old.1.elsewhere"):
        (clones / ".tmp" / name / "deep").mkdir(parents=True)
    os.utime(clones / ".tmp/old.1.elsewhere", (0, 0))
    with open_folder_lock(clones / f".tmp/alive.1.{machine}") as lock:
        assert lock.try_acquire()
        await run_until_idle(DOWNLOADER, settings())
    assert unfinished(clones) == [f"alive.1.{machine}", "far.1.elsewhere"]


# --- helpers --------------------------------------------------------------------------------------------------------


def waits(logs: list[Any]) -> list[Any]:
    return [entry for entry in logs if entry["event"] == "retry_later"]


async def until(condition: Callable[[], bool]) -> None:
    with anyio.fail_after(HANGS):
        while not condition():
            await anyio.sleep(0.02)


async def publish(database: Database, events: Iterable[Event]) -> None:
    for event in events:
        await EventLog(database).publish(event)
