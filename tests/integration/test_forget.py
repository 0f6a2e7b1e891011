"""`codelupe forget`: a repository that is gone everywhere, and stays gone."""

from __future__ import annotations

import getpass
import time
import types
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import anyio
import asyncpg
import pytest

import codelupe_crawler
import codelupe_downloader
import codelupe_filters
import codelupe_scorers
import codelupe_search
import codelupe_trainer
from codelupe import Database, FileRule, Repository, RepositorySource, SourceFile, hookimpl
from codelupe.log import EventLog
from codelupe_dataset.forgetting import forget
from codelupe_events import (
    FilesExtracted,
    RepoAccepted,
    RepoCloned,
    RepoDiscovered,
    RepoForgotten,
    RepoRejected,
    TaskDeadLettered,
)
from codelupe_trainer.exports import read_files
from codelupe_trainer.views import trace_model
from tests.conftest import RunUntilIdle
from tests.git_server import make_repository
from tests.integration.stored_files import add_batch, add_file, add_repository
from tests.integration.test_cli import Shell
from tests.processes import HANGS
from tests.training import code_file
from tests.unit.codelupe_filters.test_licences import MIT
from tests.unit.codelupe_scorers.samples import SAMPLES

pytestmark = pytest.mark.anyio

PIPELINE: dict[str, object] = {
    "crawler": codelupe_crawler,
    "search": codelupe_search,
    "downloader": codelupe_downloader,
    "filters": codelupe_filters,
    "scorers": codelupe_scorers,
}
PYTHON, GO, RUST = (SAMPLES[language][1].encode() for language in ("Python", "Go", "Rust"))
LICENCE = MIT.encode()


@pytest.fixture
def shell(tmp_path: Path, database_url: str) -> Shell:
    return Shell(tmp_path, CODELUPE_DATABASE_URL=database_url)


OPEN: dict[str, dict[str, Any]] = {"filters": {"min_stars": 0, "min_forks": 0, "min_score": 0}}


def settings(*sources: Path) -> dict[str, dict[str, Any]]:
    """For the whole pipeline."""
    return OPEN | {"crawler": {"sources": [str(source) for source in sources]}, "downloader": {"min_free_space": 0}}


async def stored(database: Database, full_name: str) -> set[str]:
    rows = await database.fetch(
        "select file_path from processed_files join repositories on repositories.id = repository_id"
        " where full_name = $1 and content is not null",
        full_name,
    )
    return {row["file_path"] for row in rows}


def clones(shell: Shell) -> set[str]:
    return {str(note.parent.relative_to(shell.state / "repos")) for note in shell.state.glob("repos/*/*/.git")}


class Shop:
    """A source that knows the same repository by other ids."""

    name = "shop"

    def __init__(self, *repositories: Repository) -> None:
        self.repositories = repositories

    async def discover(self) -> AsyncIterator[Repository]:
        for repository in self.repositories:
            yield repository


def offering(*sources: RepositorySource) -> object:
    plugin = types.SimpleNamespace()

    @hookimpl
    def codelupe_repository_sources() -> list[RepositorySource]:
        return list(sources)

    plugin.codelupe_repository_sources = codelupe_repository_sources
    return plugin


# --- gone everywhere, for good ---


@pytest.mark.slow
async def test_a_repository_leaves_every_place_and_no_crawl_brings_it_back(
    shell: Shell, run_until_idle: RunUntilIdle, database: Database, tmp_path: Path
) -> None:
    own, other = tmp_path / "owner" / "secret", tmp_path / "owner" / "open"
    make_repository(own, {"LICENSE": LICENCE, "a.py": PYTHON, "b.go": GO})
    make_repository(other, {"LICENSE": LICENCE, "z.rs": RUST})
    chosen = settings(own, other)
    await run_until_idle(PIPELINE, chosen)
    assert await stored(database, "owner/secret") == {"a.py", "b.go"}
    assert clones(shell) == {"owner/secret", "owner/open"}
    assert [hit["full_name"] for hit in (await shell("search", "secret", "--json")).json()] == ["owner/secret"]

    await database.execute(
        "update repositories set description = 'a', topics = '{b}', terms = '{c}', default_branch = 'd', handle = 'e'"
    )
    ended = await shell("forget", "Owner/Secret", "--reason", "the author asked", "--by", "me", "--yes", "--json")
    [event] = [one for one in (await _log(database)) if isinstance(one, RepoForgotten)]
    assert (event.repository_id, event.full_name, event.url) == (f"local:{own}", "owner/secret", own.as_uri())
    assert (event.by, event.reason, event.files, event.models) == ("me", "the author asked", 3, ())
    assert ended.json()["repositories"][0]["repository_id"] == event.repository_id
    assert await database.fetchval("select count(*) from processed_files where repository_id = $1", f"local:{own}") == 0

    make_repository(own, {"c.py": PYTHON + b"# new\n"}, message="a new revision")
    events = await run_until_idle(PIPELINE, chosen)
    assert clones(shell) == {"owner/open"}
    assert (await shell("search", "secret", "--json")).json() == []
    assert await stored(database, "owner/secret") == set()
    assert await stored(database, "owner/open") == {"z.rs"}
    assert [one.full_name for one in events if isinstance(one, RepoDiscovered)].count("owner/secret") == 1
    assert not [one for one in events if isinstance(one, TaskDeadLettered)]

    for stage in (
        "search.index",
        "filters.repository-rules",
        "downloader.clone",
        "filters.file-rules",
        "scorers.score",
    ):
        assert (await shell("replay", stage, "--yes")).code == 0
    events = await run_until_idle(PIPELINE, chosen)
    assert clones(shell) == {"owner/open"}
    assert (await shell("search", "secret", "--json")).json() == []
    assert await stored(database, "owner/secret") == set()
    assert not [one for one in events if isinstance(one, TaskDeadLettered)], "a replay finds nothing to be sorry for"
    row = await database.fetchrow("select * from repositories where full_name = 'owner/secret'")
    assert row is not None
    assert (row["state"], row["path"], row["description"]) == ("forgotten", None, None)
    assert (row["topics"], row["terms"], row["default_branch"], row["handle"]) == ([], [], None, None)


async def _log(database: Database) -> list[Any]:
    return [recorded.decode() async for recorded in EventLog(database).read()]


async def test_it_does_not_come_back_by_another_id_name_or_address(
    shell: Shell, run_until_idle: RunUntilIdle, database: Database
) -> None:
    await add_repository(database, "owner/secret", url="https://git.example.org/owner/secret.git")
    assert (await shell("forget", "owner/secret", "--yes")).code == 0

    def known_as(number: int, name: str, url: str) -> Repository:
        return Repository(source="shop", external_id=str(number), full_name=name, url=url, revision="1")

    shop = Shop(
        known_as(1, "OWNER/Secret", "https://elsewhere.example.org/x/y"),
        known_as(2, "new/name", "git@git.example.org:Owner/Secret"),
        known_as(3, "newer/name", "ssh://git@git.example.org/owner/secret/"),
        known_as(4, "owner/secrets", "https://git.example.org/owner/secrets"),
    )
    plugins = {"crawler": codelupe_crawler, "filters": codelupe_filters, "shop": offering(shop)}
    events = await run_until_idle(plugins, OPEN)
    assert [one.full_name for one in events if isinstance(one, RepoDiscovered)] == ["owner/secrets"]
    assert [one.full_name for one in events if isinstance(one, RepoAccepted)] == ["owner/secrets"]

    said_by_another_plugin = RepoDiscovered(
        repository_id="x:1", source="x", full_name="a/b", url="https://git.example.org/owner/secret", revision="1"
    )
    events = await run_until_idle({"filters": codelupe_filters}, OPEN, [said_by_another_plugin])
    [rejected] = [one for one in events if isinstance(one, RepoRejected)]
    assert [reason.rule for reason in rejected.reasons] == ["forgotten"]


async def test_the_copy_of_a_plain_folder_goes_and_is_not_made_again(
    shell: Shell, run_until_idle: RunUntilIdle, tmp_path: Path
) -> None:
    plain = tmp_path / "owner" / "plain"
    plain.mkdir(parents=True)
    (plain / "a.py").write_bytes(PYTHON)
    await run_until_idle(PIPELINE, settings(plain))
    [copy] = (shell.state / "sources").iterdir()
    assert (await shell("forget", "owner/plain", "--yes")).code == 0
    (plain / "b.go").write_bytes(GO)
    await run_until_idle(PIPELINE, settings(plain))
    assert list((shell.state / "sources").iterdir()) == []
    assert clones(shell) == set()
    assert not copy.exists()
    assert (plain / "a.py").exists(), "what is the user's own stays"


# --- batches and models ---


async def test_what_a_model_learned_from_stays_on_record_without_its_content(shell: Shell, database: Database) -> None:
    one, other = await add_repository(database, "owner/one"), await add_repository(database, "owner/other")
    trained = [await add_file(database, one, f"t{n}.py") for n in range(2)]
    frozen = [await add_file(database, one, f"f{n}.py") for n in range(3)]
    kept = [await add_file(database, other, f"o{n}.py") for n in range(2)]
    await add_file(database, one, "free.py")
    await add_file(database, one, "refused.py", rejected_by="generated")
    await add_batch(database, trained, "model-1")
    waiting = await add_batch(database, [*frozen, *kept])

    plan = (await shell("forget", "owner/one", "--dry-run", "--json")).json()
    assert (plan["forgotten"], plan["models"]) == (False, ["model-1"])
    assert await database.fetchval("select count(*) from processed_files where repository_id = $1", one) == 7
    done = await shell("forget", "owner/one", "--yes")
    assert (done.code, "model-1" in done.out) == (0, True)

    rows = await database.fetch("select * from processed_files where repository_id = $1 order by id", one)
    assert [row["id"] for row in rows] == trained
    for row in rows:
        assert (row["content"], row["rejected_by"], row["scores"]) == (None, "forgotten", None)
        assert (row["commit"], row["licence"], len(row["content_hash"])) == ("c" * 40, "MIT", 16)
    trace = await trace_model(database, EventLog(database), "model-1")
    assert trace is not None
    assert [(file["path"], file["split"]) for file in trace["repositories"][0]["files"]] == [
        ("t0.py", "validation"),
        ("t1.py", "train"),
    ]
    assert [event["type"] for event in trace["repositories"][0]["events"]] == ["RepoForgotten"]
    members = await database.fetch("select file_id, split from batch_files where batch_id = $1 order by 1", waiting)
    assert [tuple(row) for row in members] == [(kept[0], "validation"), (kept[1], "train")]
    assert tuple(
        await _row(database, "select files, characters, repositories from batches where id = $1", waiting)
    ) == (
        2,
        await database.fetchval("select sum(characters) from processed_files where id = any($1)", kept),
        1,
    )
    [event] = [one for one in await _log(database) if isinstance(one, RepoForgotten)]
    assert (event.files, event.kept_without_content, event.models) == (5, 2, ("model-1",))
    told = await shell("explain", str(trained[0]))
    assert "is refused by forgotten" in told.out


async def _row(database: Database, query: str, *arguments: Any) -> asyncpg.Record:
    row = await database.fetchrow(query, *arguments)
    assert row is not None
    return row


async def test_contents_leave_the_folders_of_jobs_under_way(
    shell: Shell, run_until_idle: RunUntilIdle, database: Database
) -> None:
    repository = await add_repository(database, "owner/one")
    work = shell.state / "work" / "model-1"
    work.mkdir(parents=True)
    theirs, others = (
        code_file("secret = 1\n" * 9).model_copy(update={"repository_id": repository}),
        code_file("x = 1\n" * 9),
    )
    lines = [file.model_dump_json() for file in (theirs, others)]
    (work / "files.jsonl").write_text("\n".join(lines) + "\n")
    assert (await shell("forget", "owner/one", "--yes")).code == 0
    trainer = types.SimpleNamespace(
        codelupe_settings=codelupe_trainer.codelupe_settings,
        codelupe_subscriptions=codelupe_trainer.codelupe_subscriptions,
    )
    await run_until_idle({"trainer": trainer})
    assert list(read_files(work / "files.jsonl")) == [theirs.model_copy(update={"content": ""}), others]
    assert [path.name for path in work.iterdir()] == ["files.jsonl"]


# --- copies ---


@pytest.mark.slow
async def test_copies_in_other_repositories_come_back_by_a_replay(
    shell: Shell, run_until_idle: RunUntilIdle, database: Database, tmp_path: Path
) -> None:
    first, second = tmp_path / "owner" / "first", tmp_path / "owner" / "second"
    make_repository(first, {"LICENSE": LICENCE, "a.py": PYTHON})
    await run_until_idle(PIPELINE, settings(first))
    make_repository(second, {"LICENSE": LICENCE, "copy.py": PYTHON, "b.go": GO})
    await run_until_idle(PIPELINE, settings(first, second))
    assert await stored(database, "owner/second") == {"b.go"}

    ended = await shell("forget", "owner/first", "--yes")
    assert f"codelupe replay filters.file-rules --stream 'repo/local:{second}'" in ended.out
    for stage in ("filters.file-rules", "scorers.score"):
        assert (await shell("replay", stage, "--stream", f"repo/local:{second}", "--yes")).code == 0
        events = await run_until_idle(PIPELINE, settings(first, second))
    assert await stored(database, "owner/second") == {"b.go", "copy.py"}
    assert await database.fetchval("select min(quality_score) from processed_files where content is not null") > 0
    assert not [one for one in events if isinstance(one, TaskDeadLettered)]


async def test_a_cluster_of_near_duplicates_gets_another_survivor(shell: Shell, database: Database) -> None:
    names = ("owner/one", "owner/two", "owner/three")
    one, two, three = [await add_repository(database, name) for name in names]
    gone = await add_file(database, one, "a.py", cluster_id=1, signature_version=1)
    next_one = await add_file(database, two, "b.py", cluster_id=1, is_survivor=False, signature_version=1)
    last = await add_file(database, three, "c.py", cluster_id=1, is_survivor=False, signature_version=1)
    await database.execute("insert into near_duplicate_bands values (5, $1), (5, $2)", gone, next_one)
    for pair in ((next_one, gone), (last, gone), (last, next_one)):
        await database.execute("insert into near_duplicates values ($1, $2, 0.9)", *pair)
    assert (await shell("forget", "owner/one", "--yes")).code == 0
    rows = await database.fetch("select id, is_survivor, cluster_id from processed_files order by id")
    assert [(row["id"], row["is_survivor"]) for row in rows] == [(next_one, True), (last, False)]
    assert rows[0]["cluster_id"] == rows[1]["cluster_id"] is not None
    assert [row["file_id"] for row in await database.fetch("select file_id from near_duplicate_bands")] == [next_one]


# --- what is under way ---


async def test_files_that_are_being_stored_meanwhile_go_too(database: Database) -> None:
    repository = await add_repository(database, "owner/one")
    log = EventLog(database)
    async with anyio.create_task_group() as group, database.transaction() as connection:
        await connection.execute(
            "insert into processed_files (repository_id, commit, file_path, size_bytes, rejected_by, rejection)"
            " values ($1, 'c', 'late.py', 1, 'language', '{}')",
            repository,
        )
        group.start_soon(lambda: forget(log, "owner/one", by="me", reason=""))
        await _until_somebody_waits(database)
    assert await database.fetchval("select count(*) from processed_files") == 0


async def test_a_model_whose_training_begins_meanwhile_is_named(database: Database) -> None:
    repository = await add_repository(database, "owner/one")
    batch = await add_batch(database, [await add_file(database, repository, "a.py")])
    log = EventLog(database)
    async with anyio.create_task_group() as group, database.transaction() as connection:
        await connection.execute(
            "insert into models (id, batch_id, base, state) values ('m', $1, 'b', 'training')", batch
        )
        group.start_soon(lambda: forget(log, "owner/one", by="me", reason=""))
        await _until_somebody_waits(database)
    [event] = [one for one in await _log(database) if isinstance(one, RepoForgotten)]
    assert event.models == ("m",)


async def _until_somebody_waits(database: Database) -> None:
    query = "select count(*) from pg_stat_activity where wait_event_type = 'Lock' and datname = current_database()"
    with anyio.fail_after(HANGS):
        while not await database.fetchval(query):
            await anyio.sleep(0.01)


async def test_a_stage_that_was_under_way_cannot_bring_it_back(
    run_until_idle: RunUntilIdle, database: Database, tmp_path: Path
) -> None:
    repository = await add_repository(database, "owner/one")
    log = EventLog(database)
    await forget(log, "owner/one", by="me", reason="")
    clone = make_repository(tmp_path / "state" / "repos" / "r", {"LICENSE": LICENCE, "a.py": PYTHON})
    late = [
        RepoAccepted(repository_id=repository, url="u", full_name="owner/one", revision="1", score=90),
        RepoCloned(repository_id=repository, commit=clone.head.commit.hexsha, path="r", size_bytes=1, seconds=1),
    ]
    plugins = {name: PIPELINE[name] for name in ("downloader", "filters", "scorers")}
    events = await run_until_idle(plugins, OPEN, late)
    assert await database.fetchval("select count(*) from processed_files") == 0
    assert await database.fetchval("select state from repositories") == "forgotten"
    assert not [one for one in events if isinstance(one, TaskDeadLettered)]
    assert len([one for one in events if isinstance(one, RepoCloned)]) == 1


class Waiting:
    """A file rule that says when it is asked, and answers when it is let go; it runs in a worker process."""

    name = "waiting"
    version = 1

    def __init__(self, folder: Path) -> None:
        self.asked, self.let_go = folder / "asked", folder / "let-go"

    def check(self, file: SourceFile) -> str | None:
        self.asked.touch()
        while not self.let_go.exists():
            time.sleep(0.01)
        return None if file.content else "empty"


async def test_what_is_forgotten_while_its_files_are_judged_is_not_stored(
    run_until_idle: RunUntilIdle, database: Database, tmp_path: Path
) -> None:
    repository = await add_repository(database, "owner/one", licence="MIT")
    clone = make_repository(tmp_path / "state" / "repos" / "r", {"a.py": PYTHON})
    cloned = RepoCloned(repository_id=repository, commit=clone.head.commit.hexsha, path="r", size_bytes=1, seconds=1)
    rule = Waiting(tmp_path)
    other = types.SimpleNamespace()

    @hookimpl
    def codelupe_file_rules() -> list[FileRule]:
        return [rule]

    other.codelupe_file_rules = codelupe_file_rules

    async def judge() -> None:
        await run_until_idle({"filters": codelupe_filters, "other": other}, OPEN, [cloned])

    async with anyio.create_task_group() as group:
        group.start_soon(judge)
        with anyio.fail_after(HANGS):
            while not rule.asked.exists():
                await anyio.sleep(0.01)
        await forget(EventLog(database), "owner/one", by="me", reason="")
        rule.let_go.touch()
    assert await database.fetchval("select count(*) from processed_files") == 0
    assert not [one for one in await _log(database) if isinstance(one, TaskDeadLettered | FilesExtracted)]


# --- the command ---


async def test_it_asks_first_and_says_who_it_was(shell: Shell, database: Database) -> None:
    await add_file(database, await add_repository(database, "owner/one"), "a.py")
    refused = await shell.tell("n\n", "forget", "owner/one")
    assert (refused.code, await database.fetchval("select count(*) from processed_files")) == (0, 1)
    assert "owner/one" in refused.out
    assert "exported before still hold" in refused.out
    assert (await shell("forget", "--list")).out == "Nothing is forgotten.\n"
    agreed = await shell.tell("y\n", "forget", "https://host/owner/one.git")
    assert (agreed.code, await database.fetchval("select count(*) from processed_files")) == (0, 0)
    [row] = (await shell("forget", "--list", "--json")).json()
    assert (row["full_name"], row["by"], row["reason"]) == ("owner/one", getpass.getuser(), "")
    assert "owner/one" in (await shell("forget", "--list")).out


async def test_what_is_not_there_or_gone_already_is_said(shell: Shell, database: Database) -> None:
    (await shell("forget", "owner/none", "--yes")).failed(1, "there is no repository 'owner/none'")
    await add_repository(database, "owner/one")
    assert (await shell("forget", "test:owner/one", "--yes", "--by", "somebody")).code == 0
    (await shell("forget", "owner/one", "--yes")).failed(1, "was forgotten already", "by somebody", "--list")
    (await shell("forget")).failed(2, "--list")
    assert len(await _log(database)) == 1


async def test_repositories_that_share_a_name_go_together(shell: Shell, database: Database) -> None:
    for source, name in (("a", "owner/one"), ("b", "Owner/One"), ("c", "owner/two")):
        await add_repository(database, name, id=f"{source}:1", url=f"https://{source}/{name}")
    assert (await shell("forget", "a:1", "--yes")).code == 0
    rows = await database.fetch("select id from repositories where state = 'forgotten' order by id")
    assert [row["id"] for row in rows] == ["a:1", "b:1"]
