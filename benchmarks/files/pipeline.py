"""The whole way: a real daemon with the filters and the scorers, from events about clones to committed rows."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import anyio

import codelupe_filters
import codelupe_scorers
from benchmarks.files.usage import MemoryWatch, cpu_seconds
from codelupe import Database, Reject, load_queries
from codelupe.config.sources import Layer, RawSettings, validate
from codelupe.daemon import Daemon
from codelupe.host.discovery import Plugin
from codelupe.host.host import Host
from codelupe.log import Entry, EventLog
from codelupe.postgres.embedded import embedded_server
from codelupe.postgres.migrate import migrate, own_migrations
from codelupe_events import RepoCloned
from codelupe_filters.clone import head_commit

SQL = load_queries("benchmarks", "files")
_PLUGINS = {"filters": codelupe_filters, "scorers": codelupe_scorers}


@dataclass(frozen=True, kw_only=True)
class Passage:
    """What the whole way took, and where the files came out. Times in seconds; ``cpu`` with all processes."""

    repositories: int
    files: int
    bytes: int
    cpu_seconds: float
    """Of the daemon, its worker processes and Postgres."""
    postgres_cpu_seconds: float
    wall_seconds: float
    peak_memory_bytes: int
    """Of the daemon and its worker processes, without Postgres."""
    outcomes: dict[str, int]
    """Files by the rule that refused them; ``stored`` are the others."""
    scored: int
    trainable: int
    """With a score of 70 and more."""

    @property
    def files_per_cpu_second(self) -> float:
        return self.files / self.cpu_seconds


@dataclass(frozen=True)
class Clone:
    """A repository of the tree."""

    path: str
    commit: str


def find_clones(tree: Path, at_most: int | None = None) -> list[Clone]:
    """The git repositories below a folder, at most three levels deep.

    Raises:
        LookupError: there is none with a commit.
    """
    roots = sorted({folder.parent for depth in ("*", "*/*", "*/*/*") for folder in tree.glob(f"{depth}/.git")})
    clones = []
    for root in roots[:at_most]:
        try:
            clones.append(Clone(str(root.relative_to(tree)), head_commit(root)))
        except Reject:
            continue
    if not clones:
        raise LookupError(f"no git repository with a commit lies below {tree}")
    return clones


async def measure(tree: Path, clones: Sequence[Clone], folder: Path) -> Passage:
    """Send the clones through, with a new database and all else below ``folder``."""
    async with embedded_server(folder / "postgres") as url:
        await _prepare(url, clones)
        server = int((folder / "postgres/data/postmaster.pid").read_text().split()[0])
        daemon, watch = _daemon(url, tree, folder), MemoryWatch()
        began, cpu_before, server_before = time.perf_counter(), cpu_seconds(), cpu_seconds(server)
        async with anyio.create_task_group() as group:
            group.start_soon(watch.run)
            await daemon.run()
            group.cancel_scope.cancel()
        wall, cpu, server_cpu = (
            time.perf_counter() - began,
            cpu_seconds() - cpu_before,
            cpu_seconds(server) - server_before,
        )
        async with Database(url) as database:
            outcomes = await database.fetch(SQL.count_outcomes)
            scores = await database.fetchrow(SQL.count_scores)
    assert scores is not None
    return Passage(
        repositories=len(clones),
        files=sum(row["files"] for row in outcomes),
        bytes=sum(row["bytes"] for row in outcomes),
        cpu_seconds=cpu + server_cpu,
        postgres_cpu_seconds=server_cpu,
        wall_seconds=wall,
        peak_memory_bytes=watch.peak_bytes,
        outcomes={row["rejected_by"] or "stored": row["files"] for row in outcomes},
        scored=scores["scored"],
        trainable=scores["trainable"],
    )


async def _prepare(url: str, clones: Sequence[Clone]) -> None:
    async with Database(url) as database:
        await migrate(database, own_migrations())
        for clone in clones:
            await database.execute(SQL.add_repository, f"bench:{clone.path}", clone.path, clone.commit)
        await EventLog(database).publish_all([Entry(event=_cloned(clone)) for clone in clones])


def _cloned(clone: Clone) -> RepoCloned:
    return RepoCloned(
        repository_id=f"bench:{clone.path}", commit=clone.commit, path=clone.path, size_bytes=0, seconds=0.0
    )


def _daemon(url: str, tree: Path, folder: Path) -> Daemon:
    host = Host([Plugin(name=name, distribution="codelupe", version="0", target=it) for name, it in _PLUGINS.items()])
    values = {
        "state_dir": str(folder / "state"),
        "repositories_dir": str(tree),
        "database_url": url,
        "plugins": {},
    }
    configuration = validate(RawSettings([Layer("command line", values)]), host.settings_models(), environment={})
    return Daemon(configuration.settings, host, until_idle=True)
