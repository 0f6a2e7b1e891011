"""Near duplicates in a real daemon on a real Postgres: pairs, clusters, survivors."""

from __future__ import annotations

import itertools
import os
import random
import types
from collections import defaultdict
from collections.abc import Callable, Sequence
from datetime import date
from pathlib import Path
from typing import Any

import anyio
import asyncpg
import pytest

import codelupe_filters
import codelupe_scorers
from codelupe import Database, Score, Scorer, SourceFile, hookimpl, load_queries
from codelupe.daemon import Daemon
from codelupe.log import EventLog
from codelupe_events import Event, FilesExtracted, FilesScored, RepoCloned, TaskDeadLettered
from codelupe_scorers.shingles import similarities
from tests.conftest import RunUntilIdle
from tests.git_server import make_repository

pytestmark = pytest.mark.anyio

PLUGINS: dict[str, object] = {"filters": codelupe_filters, "scorers": codelupe_scorers}
OPEN: dict[str, dict[str, Any]] = {
    "filters": {"min_stars": 0, "min_forks": 0, "min_score": 0, "unknown_licence": "accept"}
}
SCORERS = load_queries("codelupe_sql", "scorers")
TRAINER = load_queries("codelupe_sql", "trainer")
EVALUATION = load_queries("codelupe_sql", "evaluation")
LINES = 60


def code(first: int, last: int, but: Sequence[int] = ()) -> str:
    """A line for each number, another one for those in ``but``."""
    return "".join(
        f"def step_{n}(value):\n    return {'other' if n in but else 'value'} + {n}\n" for n in range(first, last)
    )


BASE = code(0, LINES)


def similarity(one: str, other: str) -> float:
    [value] = similarities((one, [other]))
    return value


class Pipeline:
    """Repositories on their way through filters and scorers."""

    def __init__(self, run_until_idle: RunUntilIdle, database: Database, clones: Path) -> None:
        self._run = run_until_idle
        self._database = database
        self._clones = clones

    async def clone(
        self, name: str, files: dict[str, str], *, stars: int = 0, forks: int = 0, licence: str | None = None
    ) -> RepoCloned:
        """A repository that was accepted and has just been cloned."""
        await self._database.execute(
            "insert into repositories (id, source, full_name, url, revision, stars, forks, licence, state)"
            " values ($1, 'test', $2, $2, '1', $3, $4, $5, 'cloned')",
            *(f"test:{name}", f"owner/{name}", stars, forks, licence),
        )
        contents = {path: content.encode() for path, content in files.items()}
        commit = make_repository(self._clones / name, contents).head.commit.hexsha
        return RepoCloned(repository_id=f"test:{name}", commit=commit, path=name, size_bytes=1, seconds=0.1)

    async def add(
        self, name: str, files: dict[str, str], plugins: dict[str, object] = PLUGINS, **metadata: Any
    ) -> list[Event]:
        return await self.run([await self.clone(name, files, **metadata)], plugins)

    async def run(self, events: Sequence[Event] = (), plugins: dict[str, object] = PLUGINS) -> list[Event]:
        log = await self._run(plugins, OPEN, events)
        assert not [event for event in log if isinstance(event, TaskDeadLettered)]
        return log


@pytest.fixture
def clones(tmp_path: Path) -> Path:
    folder = tmp_path / "state" / "repos"
    folder.mkdir(parents=True)
    return folder


@pytest.fixture
def pipeline(run_until_idle: RunUntilIdle, database: Database, clones: Path) -> Pipeline:
    return Pipeline(run_until_idle, database, clones)


def place(row: asyncpg.Record) -> str:
    return f"{row['repository_id'].removeprefix('test:')}/{row['file_path']}"


async def clusters(database: Database) -> dict[str, set[str]]:
    """The places of each cluster's files by its survivor's; files that are alone are left out."""
    rows = await database.fetch("select * from processed_files where cluster_id is not null order by id")
    members: defaultdict[int, set[str]] = defaultdict(set)
    survivors: dict[int, str] = {}
    for row in rows:
        members[row["cluster_id"]].add(place(row))
        if row["is_survivor"]:
            assert row["cluster_id"] not in survivors
            survivors[row["cluster_id"]] = place(row)
    assert set(survivors) == set(members)
    return {survivors[cluster]: places for cluster, places in members.items()}


async def pairs(database: Database) -> dict[frozenset[str], float]:
    rows = await database.fetch(
        "select (select row(repository_id, file_path)::text from processed_files where id = file_id) as one,"
        " (select row(repository_id, file_path)::text from processed_files where id = other_id) as other, jaccard"
        " from near_duplicates"
    )
    return {frozenset((row["one"], row["other"])): row["jaccard"] for row in rows}


async def batch(database: Database) -> set[str]:
    """The places of the files that a new batch takes."""
    await database.execute(EVALUATION.settle_groups, 0.0)
    row = await database.fetchrow(TRAINER.freeze_batch, 0, 1, 1_000_000, 1, 1000, 0.0, 1)
    assert row is not None
    rows = await database.fetch(
        "select processed_files.* from batch_files join processed_files on id = file_id where batch_id = $1", row["id"]
    )
    return {place(row) for row in rows}


async def test_near_duplicates_in_two_repositories_are_a_cluster_with_their_true_jaccard_index(
    pipeline: Pipeline, database: Database
) -> None:
    changed, different = code(0, LINES, but=[3, 30]), code(0, LINES, but=range(0, LINES, 2))
    assert 0.7 < similarity(BASE, changed) < 1
    assert similarity(BASE, different) < 0.7
    await pipeline.add("first", {"a.py": BASE, "far.py": code(500, 560)}, stars=5)
    assert await clusters(database) == {}
    await pipeline.add("second", {"b.py": changed, "c.py": different}, stars=7)
    assert await clusters(database) == {"second/b.py": {"first/a.py", "second/b.py"}}
    [(_, value)] = (await pairs(database)).items()
    assert value == pytest.approx(similarity(BASE, changed))
    assert await batch(database) == {"second/b.py", "second/c.py", "first/far.py"}


async def test_a_better_copy_that_comes_later_becomes_the_survivor_and_nothing_is_trained_on_twice(
    pipeline: Pipeline, database: Database
) -> None:
    await pipeline.add("plain", {"a.py": BASE}, stars=50)
    await pipeline.add("starred", {"a.py": code(0, LINES, but=[1])}, stars=60)
    assert list(await clusters(database)) == ["starred/a.py"]
    await pipeline.add("forked", {"a.py": code(0, LINES, but=[2])}, stars=60, forks=3)
    assert list(await clusters(database)) == ["forked/a.py"]
    assert await batch(database) == {"forked/a.py"}
    await database.execute("delete from batch_files")
    await pipeline.add("copying", {"exact.py": BASE}, stars=70)  # plain's file, which is theirs from now on
    everything = {"copying/exact.py", "starred/a.py", "forked/a.py"}
    assert await clusters(database) == {"copying/exact.py": everything}
    assert await batch(database) == {"copying/exact.py"}
    await pipeline.add("licensed", {"a.py": code(0, LINES, but=[4])}, licence="MIT")
    assert await clusters(database) == {"licensed/a.py": everything | {"licensed/a.py"}}
    assert await batch(database) == set()
    await database.execute("update repository_groups set is_held_out = true")
    assert await database.fetch(EVALUATION.held_out_files, 0, 1, 1_000_000, 100, date(2024, 2, 1)) == []


async def test_the_better_file_of_one_repository_survives(pipeline: Pipeline, database: Database) -> None:
    worse = BASE + "x = ((((\n"
    await pipeline.add("r", {"a.py": worse, "b.py": BASE, "c.py": worse + "y = ((((\n"})
    assert await clusters(database) == {"r/b.py": {"r/a.py", "r/b.py", "r/c.py"}}


async def test_near_duplicates_in_different_chunks_of_one_repository_find_each_other(
    pipeline: Pipeline, database: Database
) -> None:
    files = {f"m{n:03}.py": code(1000 * n, 1000 * n + 20) for n in range(230)}
    files |= {"a.py": BASE, "z.py": code(0, LINES, but=[7])}
    events = await pipeline.add("r", files)
    [scored] = [event for event in events if isinstance(event, FilesScored)]
    assert scored.scored == 232
    assert list((await clusters(database)).values()) == [{"r/a.py", "r/z.py"}]


async def test_a_file_that_links_two_clusters_makes_them_one_and_its_end_parts_them(
    pipeline: Pipeline, database: Database
) -> None:
    left, right = code(0, LINES), code(14, LINES + 14)
    one = await pipeline.clone("left", {"a.py": left, "b.py": code(0, LINES, but=[0])}, stars=3)
    other = await pipeline.clone("right", {"a.py": right, "b.py": code(14, LINES + 14, but=[LINES + 13])}, stars=2)
    await pipeline.run([one, other])
    two = await clusters(database)
    assert sorted(map(sorted, two.values())) == [["left/a.py", "left/b.py"], ["right/a.py", "right/b.py"]]
    link = code(7, LINES + 7)
    assert similarity(left, right) < 0.7 < min(similarity(left, link), similarity(link, right))
    await pipeline.add("middle", {"a.py": link}, stars=9)
    [(survivor, members)] = (await clusters(database)).items()
    assert (survivor, len(members)) == ("middle/a.py", 5)

    async with database.transaction() as connection:
        await connection.execute("select lock_clusters()")
        cluster = await connection.fetchval(
            "delete from processed_files where repository_id = 'test:middle' returning cluster_id"
        )
        await connection.execute("select settle_cluster($1)", cluster)
    assert await clusters(database) == two
    assert not any("test:middle" in str(pair) for pair in await pairs(database))
    assert await database.fetchval("select count(distinct file_id) from near_duplicate_bands") == 4


async def test_of_a_pair_whose_survivor_is_deleted_or_emptied_the_other_file_is_alone(
    pipeline: Pipeline, database: Database
) -> None:
    cloned = []
    for name, first in (("one", 0), ("two", 1000)):
        cloned.append(await pipeline.clone(name, {"a.py": code(first, first + LINES)}, stars=5))
        cloned.append(await pipeline.clone(f"{name}-copy", {"a.py": code(first, first + LINES, but=[first])}))
    await pipeline.run(cloned)
    assert set(await clusters(database)) == {"one/a.py", "two/a.py"}
    of = await database.fetch("select distinct cluster_id from processed_files where cluster_id is not null")
    await database.execute("delete from processed_files where repository_id = 'test:one'")
    await database.execute(
        "update processed_files set content = null, rejected_by = 'exact-duplicate' where repository_id = 'test:two'"
    )
    await database.execute("select settle_cluster(variadic $1)", [row["cluster_id"] for row in of])
    assert await clusters(database) == {}
    assert await pairs(database) == {}
    assert await batch(database) == {"one-copy/a.py", "two-copy/a.py"}


class Steady:
    """A scorer whose version changes, and which dies of files that say so."""

    name = "steady"
    weight = 1.0

    def __init__(self, version: int) -> None:
        self.version = version

    def score(self, file: SourceFile) -> Score | None:
        if "kill_the_worker" in file.content:
            os._exit(9)
        return Score(value=50, reasons=("always",))


def with_scorer(version: int) -> dict[str, object]:
    plugin = types.SimpleNamespace()

    @hookimpl
    def codelupe_scorers() -> list[Scorer]:
        return [Steady(version)]

    plugin.codelupe_scorers = codelupe_scorers
    return PLUGINS | {"other": plugin}


async def test_scoring_again_leaves_clusters_as_they_are(pipeline: Pipeline, database: Database) -> None:
    files = {"a.py": BASE, "b.py": code(0, LINES, but=[5]), "c.py": code(700, 760)}
    await pipeline.add("first", files, with_scorer(1))
    events = await pipeline.add("second", {"d.py": code(0, LINES, but=[9])}, with_scorer(1), stars=4)
    before = await clusters(database), await pairs(database), await database.fetch("table near_duplicate_bands")
    extracted = [event for event in events if isinstance(event, FilesExtracted)]
    for plugins in (with_scorer(1), with_scorer(2)):
        await pipeline.run(extracted, plugins)
        assert (await clusters(database), await pairs(database)) == before[:2]
        assert await database.fetch("table near_duplicate_bands") == before[2]
    changed = await database.fetchval("select count(*) from processed_files where previous_scores is not null")
    assert changed == 4


async def test_a_new_version_of_the_signature_compares_again_and_replaces_the_bands(
    pipeline: Pipeline, database: Database
) -> None:
    events = await pipeline.add("r", {"a.py": BASE, "b.py": code(0, LINES, but=[5])})
    before = await clusters(database), await pairs(database), await database.fetch("table near_duplicate_bands")
    await database.execute("update near_duplicate_bands set band = band + 1")
    await database.execute("delete from near_duplicates")
    await database.execute("update processed_files set signature_version = 0, cluster_id = null, is_survivor = true")
    await pipeline.run([event for event in events if isinstance(event, FilesExtracted)])
    assert (await clusters(database), await pairs(database)) == before[:2]
    assert await database.fetch("table near_duplicate_bands") == before[2]
    assert await database.fetchval("select count(*) from processed_files where previous_scores is not null") == 0


async def test_a_file_that_kills_its_worker_is_refused_alone(pipeline: Pipeline, database: Database) -> None:
    files = {f"m{n}.py": code(100 * n, 100 * n + 20) for n in range(30)}
    events = await pipeline.add("r", files | {"bad.py": "kill_the_worker = 1\n" + BASE}, with_scorer(1))
    [scored] = [event for event in events if isinstance(event, FilesScored)]
    assert scored.scored == 30
    [bad] = await database.fetch(
        "select *, rejection ->> 'detail' as detail from processed_files where content is null"
    )
    assert (bad["file_path"], bad["rejected_by"], bad["scores"]) == ("bad.py", "worker-limit", None)
    assert bad["detail"] == "its process ended with status 9"


async def test_hostile_families_and_monotonous_files_stay_within_bounds(pipeline: Pipeline, database: Database) -> None:
    family = {f"f{n:03}.py": BASE + f"last_line = {n}\n" for n in range(300)}
    monotonous = {f"w{n}.py": ("word\n" * 50_000) + f"x = {n}\n" for n in range(3)}
    short = {f"s{n}.py": f"def f(x):\n    return x + {n}  # a short one\n" for n in range(5)}
    await pipeline.add("r", family | monotonous | short)
    [members] = (await clusters(database)).values()
    assert members == {f"r/{path}" for path in family}
    per_file = await database.fetch("select count(*) as pairs from near_duplicates group by file_id")
    assert len(per_file) == 299
    assert max(row["pairs"] for row in per_file) <= 2 * 10 + 200  # ten of its own, and those of its chunk that chose it


async def test_repositories_scored_at_the_same_time_by_two_daemons_do_not_miss_one_another(
    pipeline: Pipeline, make_daemon: Callable[..., Daemon], database: Database, clones: Path, tmp_path: Path
) -> None:
    """Twelve repositories, each with a near duplicate of the same three files."""
    log = EventLog(database)
    for n in range(12):
        files = {f"{name}.py": code(at, at + LINES, but=[at + n]) for name, at in (("a", 0), ("b", 100), ("c", 200))}
        await log.publish(await pipeline.clone(f"r{n}", files, stars=n))
    async with anyio.create_task_group() as group:
        for name in ("one", "two"):
            folders = {"state_dir": str(tmp_path / name), "repositories_dir": str(clones)}
            group.start_soon(make_daemon(PLUGINS, OPEN, **folders).run)
    assert await database.fetchval("select count(*) from events where type = 'FilesScored'") == 12
    assert await clusters(database) == {
        f"r11/{name}.py": {f"r{n}/{name}.py" for n in range(12)} for name in ("a", "b", "c")
    }


async def test_scoring_anything_settles_clusters_of_files_that_lost_their_content(
    pipeline: Pipeline, database: Database
) -> None:
    await pipeline.add("r", {"a.py": BASE, "b.py": code(0, LINES, but=[5])})
    await database.execute(
        "update processed_files set content = null, rejected_by = 'language' where file_path = 'a.py'"
    )
    await pipeline.add("other", {"c.py": code(300, 320)})
    assert await clusters(database) == {}
    assert await batch(database) == {"r/b.py", "other/c.py"}


async def test_candidates_are_found_by_index(database: Database) -> None:
    await database.execute(
        "insert into near_duplicate_bands select hashint8extended(n, 0), n / 25 from generate_series(1, 50000) as n"
    )
    await database.execute("analyze near_duplicate_bands")
    bands = await database.fetch("select band, file_id from near_duplicate_bands where file_id < 100")
    arguments = [row["band"] for row in bands], [row["file_id"] for row in bands]
    plan = await database.fetch(f"explain {SCORERS.find_candidates}", *arguments)
    text = "\n".join(row[0] for row in plan)
    assert "Index Only Scan using near_duplicate_bands_pkey" in text
    assert "Seq Scan on near_duplicate_bands" not in text


def components(nodes: Sequence[int], links: Sequence[tuple[int, int]]) -> dict[int, int]:
    """By floods, one from each node."""
    neighbours: defaultdict[int, set[int]] = defaultdict(set)
    for one, other in links:
        neighbours[one].add(other)
        neighbours[other].add(one)
    found: dict[int, int] = {}
    for start in sorted(nodes):
        queue = [start]
        while queue:
            node = queue.pop()
            if node not in found:
                found[node] = start
                queue += neighbours[node]
    return found


async def test_connected_components_are_those_of_floods(database: Database) -> None:
    generator = random.Random(1)
    for size in [0, 1, 2, 5, 20, 100] * 5:
        nodes = sorted(generator.sample(range(1000), size))
        links = [(generator.choice(nodes), generator.choice(nodes)) for _ in range(generator.randint(0, size))]
        assert await connected(database, nodes, links) == components(nodes, links)


async def test_a_long_chain_is_one_component(database: Database) -> None:
    nodes = list(range(3000))
    random.Random(2).shuffle(nodes)
    links = list(itertools.pairwise(nodes))
    assert await connected(database, sorted(nodes), links) == dict.fromkeys(nodes, 0)


async def connected(database: Database, nodes: list[int], links: Sequence[tuple[int, int]]) -> dict[int, int]:
    rows = await database.fetch(
        "select * from connected_components($1, $2, $3)",
        nodes,
        [one for one, _ in links],
        [other for _, other in links],
    )
    return {row["node"]: row["component"] for row in rows}
