"""The same repositories from the same server: by bare git, and by a daemon with the downloader."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import anyio
import anyio.to_thread

import codelupe_downloader
from benchmarks.files.usage import cpu_seconds
from codelupe import Database, load_queries
from codelupe.config.sources import Layer, RawSettings, validate
from codelupe.daemon import Daemon
from codelupe.host.discovery import Plugin
from codelupe.host.host import Host
from codelupe.log import Entry, EventLog
from codelupe.postgres.embedded import embedded_server
from codelupe.postgres.migrate import migrate, own_migrations
from codelupe_crawler.snapshots import commit
from codelupe_events import RepoAccepted

SQL = load_queries("benchmarks", "clone")
AT_ONCE = 8
_LOOK_SECONDS = 0.05
_DEADLINE_SECONDS = 600
_FILES = 12
_LINES = 60


@dataclass(frozen=True, kw_only=True)
class Lap:
    """What one way of cloning took, of all processes but the server."""

    name: str
    clones: int
    wall_seconds: float
    cpu_seconds: float

    @property
    def rate(self) -> float:
        """Clones a second."""
        return self.clones / self.wall_seconds


def make_repositories(folder: Path, count: int) -> list[str]:
    """Small bare repositories, each with files of its own; their names."""
    names = [f"owner/r{number}.git" for number in range(count)]
    for name in names:
        (folder / name).mkdir(parents=True)
        commit(folder / name, _files(name), message=name)
    return names


def _files(name: str) -> Iterator[tuple[str, bytes]]:
    for number in range(_FILES):
        lines = "".join(f"{name} = {number} + {line}\n" for line in range(_LINES))
        yield f"src/part{number % 3}/module{number}.py", lines.encode()


@contextmanager
def serving(folder: Path) -> Iterator[str]:
    """The address of a server in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.clone.server", str(folder)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        try:
            yield server.stdout.readline().strip()
        finally:
            server.kill()


def clone_barely(address: str, names: list[str], folder: Path) -> Lap:
    """By ``xargs -P8 git clone --depth=1``."""
    words = "".join(f"{address}{name} {folder}/{name}\n" for name in names)
    command = ["xargs", f"-P{AT_ONCE}", "-L1", "git", "clone", "--quiet", "--depth=1"]
    began, cpu = time.perf_counter(), cpu_seconds()
    subprocess.run(command, input=words, text=True, check=True)
    return Lap(
        name="xargs git clone",
        clones=len(list(folder.glob("*/*/.git/HEAD"))),
        wall_seconds=time.perf_counter() - began,
        cpu_seconds=cpu_seconds() - cpu,
    )


async def clone_by_daemon(url: str, address: str, names: list[str], folder: Path) -> Lap:
    """By the downloader of a daemon that is up: from accepted repositories in the log to clones on disk that log and
    table know of. The first of them shows that it is up, and does not count.
    """
    async with Database(url) as database, anyio.create_task_group() as group:
        events = [_accepted(address, name) for name in names]
        await database.execute(SQL.delete_repositories)
        ids, urls = [event.repository_id for event in events], [event.url for event in events]
        await database.execute(SQL.add_repositories, ids, urls)
        log = EventLog(database)
        group.start_soon(log.notifier.run)
        group.start_soon(_daemon(url, folder).run)
        await _clone_all(log, events[:1], in_all=1)
        began, cpu = time.perf_counter(), cpu_seconds()
        await _clone_all(log, events[1:], in_all=len(events))
        wall, cpu = time.perf_counter() - began, cpu_seconds() - cpu
        group.cancel_scope.cancel()
    found = await anyio.to_thread.run_sync(lambda: len(list(folder.glob("repos/*/*/.git/HEAD"))))
    return Lap(name="codelupe", clones=found - 1, wall_seconds=wall, cpu_seconds=cpu)


async def _clone_all(log: EventLog, events: list[RepoAccepted], *, in_all: int) -> None:
    await log.publish_all([Entry(event=event) for event in events])
    with anyio.fail_after(_DEADLINE_SECONDS):
        while await log.database.fetchval(SQL.count_cloned) < in_all:
            await anyio.sleep(_LOOK_SECONDS)


def _accepted(address: str, name: str) -> RepoAccepted:
    url = f"{address}{name}"
    return RepoAccepted(
        repository_id=f"bench:{url}", url=url, full_name=name.removesuffix(".git"), revision="1", score=100
    )


def _daemon(url: str, folder: Path) -> Daemon:
    host = Host([Plugin(name="downloader", distribution="codelupe", version="0", target=codelupe_downloader)])
    values = {
        "state_dir": str(folder),
        "database_url": url,
        "plugins": {"downloader": {"concurrency": AT_ONCE, "min_free_space": 0, "allowed_protocols": ["http"]}},
    }
    configuration = validate(RawSettings([Layer("command line", values)]), host.settings_models(), environment={})
    return Daemon(configuration.settings, host)


async def race(folder: Path, count: int, rounds: int) -> list[tuple[Lap, Lap]]:
    """Both ways in turn, as often as asked, each into new folders."""
    names = await anyio.to_thread.run_sync(make_repositories, folder / "served", count + 1)
    async with embedded_server(folder / "postgres") as url:
        async with Database(url) as database:
            await migrate(database, own_migrations())
        with serving(folder / "served") as address:
            laps = []
            for number in range(rounds):
                bare = await anyio.to_thread.run_sync(clone_barely, address, names[1:], folder / f"bare{number}")
                laps.append((bare, await clone_by_daemon(url, address, names, folder / f"daemon{number}")))
            return laps
