"""`codelupe explain`: why a file is stored or not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import codelupe_filters
import codelupe_scorers
from codelupe import Database
from codelupe_dataset.explanation import NoSuchFile, find_file
from codelupe_events import RepoCloned, RepoDiscovered
from tests.conftest import RunUntilIdle
from tests.git_server import make_repository
from tests.integration.stored_files import SCORES, add_batch, add_file, add_repository
from tests.integration.test_cli import Shell
from tests.unit.codelupe_scorers.samples import SAMPLES

pytestmark = pytest.mark.anyio

RULES = [{"name": name, "version": version, "settings": {}} for name, version in [("generated", 2), ("licence", 1)]]


@pytest.fixture
def shell(tmp_path: Path, database_url: str) -> Shell:
    return Shell(tmp_path, CODELUPE_DATABASE_URL=database_url)


async def add_rules(database: Database) -> int:
    return int(
        await database.fetchval(
            "insert into rule_sets (rules) values ($1) returning id",
            [*RULES, RULES[0] | {"name": "z"}],
        )
    )


async def explain(shell: Shell, reference: str | int) -> Any:
    return (await shell("explain", str(reference), "--json")).json()


async def test_a_stored_file_is_explained_whole(shell: Shell, database: Database) -> None:
    repository = await add_repository(database, stars=5)
    file = await add_file(
        database,
        repository,
        "src/a.py",
        rule_set=await add_rules(database),
        licence_evidence={"from": "file", "path": "LICENSE", "matches": [{"id": "MIT", "confidence": 1.0}]},
        redactions={"aws-key": 2, "e-mail": 1},
        previous_scores={"structure": SCORES["structure"] | {"value": 40.0}},
        previous_quality=40.0,
    )
    batch = await add_batch(database, [file], "model-1")
    it = await explain(shell, file)
    assert (it["file"]["id"], it["file"]["path"], it["file"]["stored"]) == (file, "src/a.py", True)
    assert (it["repository"]["id"], it["repository"]["state"], it["repository"]["stars"]) == (repository, "scored", 5)
    assert [(rule["rule"], rule["version"], rule["verdict"]) for rule in it["rules"]] == [
        ("generated", 2, "passed"),
        ("licence", 1, "passed"),
        ("z", 2, "passed"),
    ]
    assert it["licence"]["licence"] == "MIT"
    assert it["licence"]["evidence"]["matches"] == [{"id": "MIT", "confidence": 1.0}]
    assert it["redactions"] == {"aws-key": 2, "e-mail": 1}
    assert (it["score"]["total"], it["score"]["dimensions"]) == (80, SCORES)
    assert it["previous_score"]["total"] == 40
    assert it["batches"] == [{"batch": batch, "split": "validation", "model": "model-1", "state": "promoted"}]
    assert (it["rejection"], it["cluster"], it["copies"]) == (None, None, [])

    told = await shell("explain", str(file))
    assert told.code == 0
    words = [
        "owner/repo:src/a.py is stored",
        "generated",
        "passed",
        "LICENSE",
        "2 aws-key",
        "no syntax error",
    ]
    assert [word for word in [*words, "model-1", "score before"] if word not in told.out] == []


async def test_a_refused_file_names_the_rule_that_refused_and_those_that_were_not_asked(
    shell: Shell, database: Database
) -> None:
    repository = await add_repository(
        database, state="rejected", reasons=[{"rule": "min-stars", "detail": "3, at least 10"}]
    )
    rejection = {"rule": "licence", "version": 1, "detail": "GPL-3.0-only is not allowed", "policy": "permissive"}
    rules = await add_rules(database)
    file = await add_file(database, repository, "b.py", rejected_by="licence", rejection=rejection, rule_set=rules)
    it = await explain(shell, "owner/repo:b.py")
    assert it["file"]["id"] == file
    assert [(rule["rule"], rule["verdict"]) for rule in it["rules"]] == [
        ("generated", "passed"),
        ("licence", "refused"),
        ("z", "not asked"),
    ]
    assert it["rejection"] == it["rules"][1]["evidence"] == rejection
    assert it["repository"]["reasons"] == [{"rule": "min-stars", "detail": "3, at least 10"}]
    told = (await shell("explain", "b.py")).out
    words = ("is refused by licence", "GPL-3.0-only is not allowed", "policy permissive", "not asked", "min-stars: 3")
    assert [word for word in words if word not in told] == []


async def test_copies_and_near_duplicates_name_one_another(shell: Shell, database: Database) -> None:
    one, other = await add_repository(database, "a/one"), await add_repository(database, "b/other")
    survivor = await add_file(database, one, "s.py", content="x = 1\n", cluster_id=1)
    near = await add_file(database, other, "n.py", cluster_id=1, is_survivor=False)
    await database.execute("insert into near_duplicates values ($1, $2, 0.83)", near, survivor)
    evidence = {"rule": "exact-duplicate", "version": 1, "detail": "the same as s.py", "file_id": survivor}
    hashed = await database.fetchval("select content_hash from processed_files where id = $1", survivor)
    copy = await add_file(
        database, other, "c.py", rejected_by="exact-duplicate", rejection=evidence, content_hash=hashed
    )
    assert [found["id"] for found in (await explain(shell, survivor))["copies"]] == [copy]
    assert (await explain(shell, copy))["rejection"]["file_id"] == survivor
    cluster = (await explain(shell, near))["cluster"]
    assert (cluster["id"], cluster["is_survivor"], cluster["survivor"]["id"]) == (1, False, survivor)
    assert [(file["id"], file["jaccard"]) for file in cluster["files"]] == [(survivor, 0.83)]
    own = (await explain(shell, survivor))["cluster"]
    assert (own["is_survivor"], own["survivor"], [file["id"] for file in own["files"]]) == (True, None, [near])
    assert "near duplicates (cluster 1)" in (await shell("explain", str(near))).out


async def test_a_path_is_found_by_its_end_its_repository_and_in_its_newest_commit(
    shell: Shell, database: Database
) -> None:
    one, other = await add_repository(database, "a/one"), await add_repository(database, "b:/other")
    await add_file(database, one, "src/util.py", content="1", commit="old")
    newest = await add_file(database, one, "src/util.py", content="2", commit="new")
    exact = await add_file(database, other, "util.py", content="3")
    odd = await add_file(database, other, "12:a_b%.py", content="4")
    for reference, file in {
        "a/one:src/util.py": newest,
        "A/One:util.py": newest,
        "src/util.py": newest,
        "util.py": exact,
        "b:/other:util.py": exact,
        "test:b:/other:12:a_b%.py": odd,
        "12:a_b%.py": odd,
    }.items():
        assert await find_file(database, reference) == file, reference
    assert (await explain(shell, "A/One:util.py"))["file"]["id"] == newest


async def test_what_cannot_be_told_apart_or_is_not_there_is_said(shell: Shell, database: Database) -> None:
    one, other = await add_repository(database, "a/one"), await add_repository(database, "b/other")
    ids = [await add_file(database, repository, "src/a.py") for repository in (one, other)]
    ended = await shell("explain", "a.py")
    ended.failed(1, "several files are called", "a/one:src/a.py", "b/other:src/a.py", *map(str, ids), "Give the id")
    with pytest.raises(NoSuchFile, match="several files"):
        await find_file(database, "src/a.py")
    (await shell("explain", "b.py")).failed(1, "no file 'b.py' is known", "codelupe files")
    for reference in ("a/one:b.py", "999", "9" * 40, "x/y:src/a.py", "%", "_.py", "", ":", "a/one:"):
        with pytest.raises(NoSuchFile, match="no file"):
            await find_file(database, reference)


async def test_what_the_real_rules_and_scorers_found_is_explained(
    shell: Shell, run_until_idle: RunUntilIdle, database: Database, tmp_path: Path
) -> None:
    clone = tmp_path / "state" / "repos" / "r"
    clone.parent.mkdir(parents=True)
    generated = b"# Automatically generated by a tool.\n" + SAMPLES["Python"][1].encode()
    files = {"good.py": SAMPLES["Python"][1].encode(), "made.py": generated, "notes.txt": b"words\n"}
    commit = make_repository(clone, files).head.commit.hexsha
    plugins = {"filters": codelupe_filters, "scorers": codelupe_scorers}
    settings = {"filters": {"min_stars": 0, "min_forks": 0, "min_score": 0}}
    discovered = RepoDiscovered(
        repository_id="test:r", source="test", full_name="owner/r", url="u", revision="1", licence="MIT"
    )
    await run_until_idle(plugins, settings, [discovered])
    cloned = RepoCloned(repository_id="test:r", commit=commit, path="r", size_bytes=1, seconds=0.1)
    await run_until_idle(plugins, settings, [cloned])

    good = await explain(shell, "owner/r:good.py")
    assert good["file"]["stored"], good["rejection"]
    assert good["rules"]
    assert {rule["verdict"] for rule in good["rules"]} == {"passed"}
    assert good["licence"]["evidence"]["from"] == "metadata"
    assert good["score"]["total"] >= 70
    assert all(one["version"] >= 1 for one in good["score"]["dimensions"].values())
    made = await explain(shell, "owner/r:made.py")
    assert made["file"]["rejected_by"] == "generated"
    assert made["rejection"]["detail"]
    verdicts = [rule["verdict"] for rule in made["rules"]]
    assert verdicts.count("refused") == 1
    assert verdicts == sorted(verdicts, key=["passed", "refused", "not asked"].index)
