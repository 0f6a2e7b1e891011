"""Which repositories are held out, and the frozen sets of windows that models are compared on."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import asyncpg
import pytest
import xxhash

import codelupe_trainer
from codelupe import Database, load_queries
from codelupe.log import EventLog
from codelupe_dataset.forgetting import forget
from codelupe_events import (
    BatchReady,
    EvaluationSetFrozen,
    Event,
    ModelPromoted,
    ModelRejected,
    TrainingCompleted,
)
from codelupe_trainer.exports import read_files
from codelupe_trainer.gate import judging
from codelupe_trainer.samples.files import CodeFile
from codelupe_trainer.settings import TrainerSettings
from tests.conftest import RunUntilIdle
from tests.integration.stored_files import add_batch, add_evaluation_set, add_file, add_repository
from tests.training import measure_without_model, write_record

pytestmark = pytest.mark.anyio

TRAINER = {"trainer": codelupe_trainer}
FILTERS = load_queries("codelupe_sql", "filters")
SETS = load_queries("codelupe_sql", "evaluation")
ALL = 0.9999
"""A share at which the hash holds out every group of these tests."""
FEW = {"min_groups": 1, "min_windows": 1}


def settings(gate: dict[str, Any] = FEW, **values: Any) -> dict[str, Any]:
    """No package holds this base, so that training fails at once, for good."""
    known = {"base": "package:no_such_model", "min_files": 1000, "min_characters": 1, "held_out_share": ALL}
    return {"trainer": {**known, **values, "gate": gate}}


def code(topic: str, lines: int = 12) -> str:
    """Code that has no ten words in a row in common with that of another topic."""
    return "".join(
        f"def {topic}_{number}(first_{topic}, second_{topic}):\n"
        f"    {topic}_sum = first_{topic} + second_{topic} * {number}\n    return {topic}_sum\n\n"
        for number in range(lines)
    )


async def add_code(database: Database, repository: str, path: str, content: str, **values: Any) -> int:
    return await add_file(
        database,
        repository,
        path,
        content=content,
        content_hash=xxhash.xxh3_128_digest(content.encode()),
        size_bytes=len(content.encode()),
        characters=len(content),
        **values,
    )


async def add_refused(
    database: Database, repository: str, path: str, content: str, rule: str = "exact-duplicate"
) -> None:
    await add_file(database, repository, path, rejected_by=rule, content_hash=xxhash.xxh3_128_digest(content.encode()))


async def add_repositories(database: Database, count: int, files: int = 2, prefix: str = "owner") -> list[str]:
    """Of as many owners, with stored files each of another topic."""
    repositories = []
    for number in range(count):
        name = f"{prefix}{number}/r"
        repositories.append(await add_repository(database, name))
        for file in range(files):
            topic = hashlib.sha256(f"{name}{file}".encode()).hexdigest()[:8]
            await add_code(database, repositories[-1], f"{file}.py", code(f"w{topic}"))
    return repositories


async def settle(database: Database, share: float = ALL) -> dict[str, tuple[str, bool]]:
    """The group of each repository, and whether it is held out."""
    await database.execute("select settle_groups($1)", share)
    rows = await database.fetch("select * from repository_groups")
    return {row["repository_id"]: (row["group_id"], row["is_held_out"]) for row in rows}


def groups_of(settled: dict[str, tuple[str, bool]]) -> set[frozenset[str]]:
    groups: dict[str, set[str]] = {}
    for repository, (group, _) in settled.items():
        groups.setdefault(group, set()).add(repository.removeprefix("test:"))
    return {frozenset(group) for group in groups.values()}


def sets(*groups: str) -> set[frozenset[str]]:
    return {frozenset(group.split()) for group in groups}


async def windows_of(database: Database, version: int = 1) -> list[asyncpg.Record]:
    return await database.fetch("select * from evaluation_windows where version = $1 order by number", version)


def of_type(events: Sequence[Event], *types: type[Event]) -> list[Any]:
    return [event for event in events if isinstance(event, types)]


# --- groups ---


async def test_repositories_of_an_owner_are_a_group_whatever_the_case(database: Database) -> None:
    for name in ("a/x", "A/y", "b/x"):
        await add_repository(database, name)
    await add_repository(database, "elsewhere", full_name="a/z", url="https://other.host/a/z.git")
    assert groups_of(await settle(database)) == sets("a/x A/y", "b/x", "elsewhere")


@pytest.mark.parametrize("url", ["file:///srv/a/{}", "https://host/download/{}.tar.gz", "/srv/a/{}"])
async def test_folders_and_packages_have_no_owner(database: Database, url: str) -> None:
    for name in ("x", "y"):
        await add_repository(database, name, full_name=f"a/{name}", url=url.format(name))
    assert groups_of(await settle(database)) == sets("x", "y")


async def test_a_fork_belongs_to_what_has_its_name(database: Database) -> None:
    await add_repository(database, "a/x")
    await add_repository(database, "b/X", is_fork=True)
    await add_repository(database, "c/y")
    await add_repository(database, "d/y")
    assert groups_of(await settle(database)) == sets("a/x b/X", "c/y", "d/y")


async def test_copies_and_near_duplicates_join_also_over_others(database: Database) -> None:
    a, b, c, d, e = [await add_repository(database, f"{name}/r") for name in "abcde"]
    original = await add_code(database, a, "1.py", code("one"))
    await add_refused(database, b, "1.py", code("one"))
    near = [await add_code(database, of, "2.py", code(topic)) for of, topic in ((b, "two"), (c, "three"))]
    await database.execute("update processed_files set cluster_id = $1 where id = any($2)", original, near)
    for repository in (d, e):
        await add_refused(database, repository, "3.py", code("four"), "generated")
    assert groups_of(await settle(database)) == sets("a/r b/r c/r", "d/r", "e/r")


async def test_a_file_that_many_have_says_nothing_of_any(database: Database) -> None:
    repositories = await add_repositories(database, 11, files=0)
    await add_code(database, repositories[0], "1.py", code("one"))
    for repository in repositories[1:10]:
        await add_refused(database, repository, "1.py", code("one"))
    assert len(groups_of(await settle(database))) == 2
    await add_refused(database, repositories[10], "1.py", code("one"))
    assert len(groups_of(await settle(database))) == 11


async def test_all_of_a_group_are_held_out_or_none_and_settling_again_changes_nothing(database: Database) -> None:
    for owner in range(30):
        for name in ("x", "y"):
            await add_repository(database, f"o{owner}/{name}")
    settled = await settle(database, 0.5)
    sides = {group: {held for own, held in settled.values() if own == group} for group, _ in settled.values()}
    assert {len(side) for side in sides.values()} == {1}
    assert 5 < sum(side == {True} for side in sides.values()) < 25
    assert await settle(database, 0.5) == settled
    assert not any(held for _, held in (await settle(database, 0)).values())


async def test_what_was_learned_from_holds_back_its_whole_group(database: Database) -> None:
    learned, kin, other = [await add_repository(database, name) for name in ("a/x", "a/y", "b/x")]
    await add_batch(database, [await add_file(database, learned, "1.py")])
    settled = await settle(database)
    assert [settled[one][1] for one in (learned, kin, other)] == [False, False, True]


async def test_a_very_large_group_is_not_held_out(database: Database) -> None:
    for number in range(51):
        await add_repository(database, f"large/{number}")
        if number < 50:
            await add_repository(database, f"not-too-large/{number}")
    settled = await settle(database)
    assert not settled["test:large/0"][1]
    assert settled["test:not-too-large/0"][1]


async def test_what_joins_a_frozen_group_is_held_out_with_it(database: Database) -> None:
    """The group of ``b/r`` has another hash, and no share is held out any more."""
    frozen = await add_repository(database, "b/r")
    await add_evaluation_set(database, [await add_file(database, frozen, "1.py")])
    new = await add_repository(database, "a/r")
    file = await add_code(database, new, "2.py", code("one"))
    await add_refused(database, frozen, "2.py", code("one"))
    settled = await settle(database, 0)
    assert settled == {frozen: (new, True), new: (new, True)}

    await add_batch(database, [file])
    settled = await settle(database, 0)
    assert settled == {frozen: (new, False), new: (new, False)}
    assert await database.fetch("select * from measurable_windows(1)") == []
    assert len(await windows_of(database)) == 1


# --- sets ---


async def test_a_set_is_frozen_with_windows_of_both_parts(run_until_idle: RunUntilIdle, database: Database) -> None:
    repositories = await add_repositories(database, 9)
    young = datetime(2024, 3, 1, tzinfo=UTC)
    await database.execute("update repositories set created_at = $2 where id = $1", repositories[0], young)
    old = datetime(2024, 1, 31, 23, 59, tzinfo=UTC)
    await database.execute("update repositories set created_at = $2 where id = $1", repositories[1], old)
    [event] = of_type(await run_until_idle(TRAINER, settings({**FEW, "window_bytes": 512})), EvaluationSetFrozen)
    assert (event.evaluation_set, event.groups, event.windows) == (1, 9, 18)

    row = await database.fetchrow("select * from evaluation_sets")
    assert row is not None
    assert (row["version"], row["groups"], row["windows"], row["hash"]) == (1, 9, 18, event.hash)
    assert row["settings"]["window_bytes"] == 512
    windows = await windows_of(database)
    assert {row["repository_id"] for row in windows} == set(repositories)
    parts = {row["group_id"]: {one["part"] for one in windows if one["group_id"] == row["group_id"]} for row in windows}
    assert sorted(map(sorted, parts.values())) == [["decides"]] * 5 + [["reports"]] * 4
    assert {row["repository_id"]: row["is_young"] for row in windows} == {
        repository: {0: True, 1: False}.get(number) for number, repository in enumerate(repositories)
    }
    for window in windows:
        content = await database.fetchval("select content from processed_files where id = $1", window["file_id"])
        text = content.encode()[window["first_byte"] : window["end_byte"]]
        assert 256 < len(text) <= 512
        assert text.endswith(b"\n")
        assert xxhash.xxh3_128_digest(text) == window["text_hash"]


async def test_a_set_never_changes(database: Database) -> None:
    await add_evaluation_set(database, [await add_file(database, await add_repository(database), "1.py")])
    for table in ("evaluation_sets", "evaluation_windows"):
        for statement in (f"update {table} set version = 2", f"delete from {table}"):
            with pytest.raises(asyncpg.RaiseError, match="never changed"):
                await database.execute(statement)


async def test_too_few_groups_make_no_set(run_until_idle: RunUntilIdle, database: Database) -> None:
    await add_repositories(database, 6)
    assert await run_until_idle(TRAINER, settings({"min_groups": 4, "min_windows": 1})) == []
    assert await run_until_idle(TRAINER, settings({"min_groups": 3, "min_windows": 7})) == []
    [event] = await run_until_idle(TRAINER, settings({"min_groups": 3, "min_windows": 6}))
    assert isinstance(event, EvaluationSetFrozen)


async def test_the_next_version_comes_when_a_fifth_more_groups_are_there_and_keeps_the_windows(
    run_until_idle: RunUntilIdle, database: Database
) -> None:
    await add_repositories(database, 10)
    before = await run_until_idle(TRAINER, settings())
    first = {row["file_id"]: row for row in await windows_of(database)}
    await add_repositories(database, 1, prefix="new")
    learned = await add_code(database, await add_repository(database, "learned/r"), "1.py", code("learned"))
    await add_batch(database, [learned], "waits", "trained")
    assert await run_until_idle(TRAINER, settings()) == before
    await add_repositories(database, 2, prefix="new1")
    [_, event] = of_type(await run_until_idle(TRAINER, settings()), EvaluationSetFrozen)
    assert (event.evaluation_set, event.groups) == (2, 13)
    second = {row["file_id"]: row for row in await windows_of(database, 2)}
    kept = ("first_byte", "end_byte", "text_hash", "part", "group_id")
    assert first.keys() < second.keys()
    assert {id_: [second[id_][name] for name in kept] for id_ in first} == {
        id_: [row[name] for name in kept] for id_, row in first.items()
    }
    deciding = {row["group_id"] for row in second.values() if row["part"] == "decides"}
    assert len(deciding) == 7


async def test_a_set_takes_its_windows_in_turn_from_each_group(
    run_until_idle: RunUntilIdle, database: Database
) -> None:
    await add_repositories(database, 1, files=30, prefix="large")
    await add_repositories(database, 4, files=2)
    await run_until_idle(TRAINER, settings({**FEW, "max_files": 10}))
    windows = await windows_of(database)
    by_group = [sum(row["group_id"] == group for row in windows) for group in {row["group_id"] for row in windows}]
    assert by_group == [2] * 5


async def test_windows_of_a_forgotten_repository_keep_no_text(run_until_idle: RunUntilIdle, database: Database) -> None:
    repositories = await add_repositories(database, 4)
    await run_until_idle(TRAINER, settings())
    before = await windows_of(database)
    await forget(EventLog(database), "owner0/r", by="me", reason="asked")
    assert await windows_of(database) == before
    measurable = await database.fetch("select distinct repository_id from measurable_windows(1)")
    assert {row["repository_id"] for row in measurable} == set(repositories[1:])
    texts = await database.fetch("select content from processed_files where repository_id = $1", repositories[0])
    assert [row for row in texts if row["content"]] == []


async def test_a_file_of_a_set_stays_when_its_repository_moves_on(
    run_until_idle: RunUntilIdle, database: Database
) -> None:
    [repository] = await add_repositories(database, 1)
    await run_until_idle(TRAINER, settings({**FEW, "max_files": 1}))
    [window] = await windows_of(database)
    await database.execute(FILTERS.retire_vanished, repository, "d" * 40)
    rows = await database.fetch("select id, content is not null as stays from processed_files")
    assert {row["id"] for row in rows if row["stays"]} == {window["file_id"]}
    assert len(await database.fetch("select * from measurable_windows(1)")) == 1


# --- what shares lines ---


async def split_repositories(database: Database) -> tuple[str, str]:
    """A repository that half the share holds out, and one that it does not."""
    names = [f"o{number}/r" for number in range(20)]
    held = {name for name in names if await database.fetchval("select is_held_out($1, 0.5)", f"test:{name}")}
    return await add_repository(database, min(held)), await add_repository(database, min(set(names) - held))


async def test_a_file_with_lines_of_a_window_is_kept_out_of_batches(
    run_until_idle: RunUntilIdle, database: Database
) -> None:
    """It was extracted before the set was frozen."""
    held, other = await split_repositories(database)
    await add_code(database, held, "held.py", code("held"))
    planted = code("clean", 3) + code("held", 2) + code("tidy", 3)
    files = {name: await add_code(database, other, name, text) for name, text in
             {"planted.py": planted, "a.py": code("a"), "b.py": code("b")}.items()}  # fmt: skip
    events = await run_until_idle(TRAINER, settings(held_out_share=0.5, min_files=2))
    assert len(of_type(events, EvaluationSetFrozen)) == 1
    [batch] = of_type(events, BatchReady)
    assert batch.files == 2
    members = {row["file_id"] for row in await database.fetch("select file_id from batch_files")}
    assert members == {files["a.py"], files["b.py"]}
    checks = {row["file_id"]: row["window_number"] for row in await database.fetch("select * from evaluation_checks")}
    assert checks == {files["planted.py"]: 0, files["a.py"]: None, files["b.py"]: None}
    assert await database.fetchval("select content is not null from processed_files where id = $1", files["planted.py"])


async def test_a_window_with_lines_of_what_was_learned_is_not_taken(
    run_until_idle: RunUntilIdle, database: Database
) -> None:
    held, other = await split_repositories(database)
    await add_batch(database, [await add_code(database, other, "a.py", code("clean", 3) + code("held", 2))])
    await add_code(database, held, "held.py", code("held"))
    assert not await run_until_idle(TRAINER, settings(held_out_share=0.5))
    fine = await add_code(database, held, "fine.py", code("fine"))
    await add_repository(database, "another/r")  # the groups have changed, so it is tried again
    await add_code(database, "test:another/r", "x.py", code("another"))
    [event] = await run_until_idle(TRAINER, settings(held_out_share=ALL))
    assert isinstance(event, EvaluationSetFrozen)
    assert fine in {row["file_id"] for row in await windows_of(database)}
    assert {row["repository_id"] for row in await windows_of(database)} == {held, "test:another/r"}
    assert event.windows == 2


# --- judging ---


@pytest.fixture
async def trained(database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> TrainingCompleted:
    """A model on a batch of its own, whose comparison is stood in for."""
    monkeypatch.setattr(judging, "run_child", measure_without_model)
    write_record(tmp_path / "state" / "models" / "m1")
    repository = await add_repository(database, "learned/r")
    batch = await add_batch(database, [await add_code(database, repository, "1.py", code("learned"))], "m1", "trained")
    await database.execute("update models set path = id, base = $1", TrainerSettings().base)
    return TrainingCompleted(
        batch_id=batch,
        model_id="m1",
        path="m1",
        steps=1,
        samples=1,
        train_loss=1.0,
        validation_loss=1.0,
        stopped_early=False,
        seconds=1.0,
    )


async def test_a_model_waits_until_there_is_enough_to_measure_on(
    run_until_idle: RunUntilIdle, database: Database, trained: TrainingCompleted
) -> None:
    enough = settings({"min_groups": 2, "min_windows": 4})
    events = await run_until_idle(TRAINER, enough, [trained])
    assert not of_type(events, ModelPromoted, ModelRejected)
    row = await database.fetchrow("select state, reasons from models")
    assert row is not None
    assert row["state"] == "trained"
    assert row["reasons"] == [
        {
            "rule": "held-out",
            "detail": "waits for held-out repositories: 0 groups with 0 windows decide, "
            "and at least 2 with 4 are needed",
        }
    ]
    await add_repositories(database, 4)
    events = await run_until_idle(TRAINER, enough)
    [promoted] = of_type(events, ModelPromoted, ModelRejected)
    assert (promoted.model_id, promoted.evaluation_set) == ("m1", 1)
    row = await database.fetchrow("select state, reasons, evaluation_set from models")
    assert row is not None
    assert tuple(row) == ("promoted", [], 1)


async def test_both_parts_are_measured_and_one_of_them_decides(
    run_until_idle: RunUntilIdle, database: Database, trained: TrainingCompleted, tmp_path: Path
) -> None:
    await add_repositories(database, 4)
    [judged] = of_type(await run_until_idle(TRAINER, settings(), [trained]), ModelPromoted, ModelRejected)
    windows = await windows_of(database)
    folder = tmp_path / "state" / "work" / "gate-set-1"
    measured = {one.content_hash: one for one in read_files(folder / "files.jsonl")}
    assert {one: file.split for one, file in measured.items()} == {
        row["text_hash"].hex(): row["part"] for row in windows
    }
    assert all(xxhash.xxh3_128_hexdigest(file.content.encode()) == one for one, file in measured.items())
    deciding = sum(row["part"] == "decides" for row in windows)
    found = {(row.measure, row.over): row.windows for row in judged.table}
    assert found["plain", "all"] == found["chat", "all"] == deciding < len(windows)
    assert found["plain", "reports"] == len(windows) - deciding


async def test_what_was_kept_out_of_earlier_batches_is_measured_too(database: Database) -> None:
    """Their validation parts, the first batches' first, but for what is gone; of a text so much as of a window."""
    kept_out = []
    batches = []
    for number in range(4):
        repository = await add_repository(database, f"learned{number}/r")
        content = code(f"kept{number}")
        kept_out.append(xxhash.xxh3_128_hexdigest(content.encode()))
        files = [
            await add_code(database, repository, "kept.py", content),
            await add_code(database, repository, "learned.py", code(f"learned{number}")),
        ]
        batches.append(await add_batch(database, files, f"m{number}"))
    await database.execute("update repositories set state = 'gone' where full_name = 'learned1/r'")
    version = await add_evaluation_set(database, [])

    async def found(most_files: int) -> set[str]:
        rows = await database.fetch(SETS.held_out, version, batches[-1], most_files, 100)
        assert {row["part"] for row in rows} <= {"validation"}
        texts = await database.fetch(SETS.held_out_as_json, version, batches[-1], most_files, 100)
        files = [CodeFile.model_validate_json(row[0]) for row in texts]
        assert all(len(file.content) == 100 for file in files)
        assert {file.content_hash for file in files} == {row["hash"] for row in rows}
        return {row["hash"] for row in rows}

    assert await found(100) == {kept_out[0], kept_out[2]}
    assert await found(1) == {kept_out[0]}
    assert await found(0) == set()
