"""`codelupe export`: the curated data set on disk, whole whatever happens on the way."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import DatasetCard
from pyarrow import parquet

from codelupe import Database
from tests.integration.stored_files import SCORES, add_file, add_repository
from tests.integration.test_cli import COMMAND, Shell
from tests.processes import HANGS

pytestmark = pytest.mark.anyio

Read = Callable[[Path], list[dict[str, Any]]]


@pytest.fixture
def shell(tmp_path: Path, database_url: str) -> Shell:
    return Shell(tmp_path, CODELUPE_DATABASE_URL=database_url)


def read_jsonl(folder: Path) -> list[dict[str, Any]]:
    return [
        json.loads(line) for shard in sorted(folder.glob("part-*.jsonl")) for line in shard.read_bytes().splitlines()
    ]


def read_parquet(folder: Path) -> list[dict[str, Any]]:
    return [row for shard in sorted(folder.glob("part-*.parquet")) for row in parquet.read_table(shard).to_pylist()]


def manifest(folder: Path) -> Any:
    return json.loads((folder / "export.json").read_text())


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()} - {".lock"}


async def add_many(database: Database, count: int) -> None:
    """Files of one repository, of a few hundred characters each."""
    repository = await add_repository(database, "owner/many")
    await database.execute(
        "insert into processed_files (repository_id, commit, file_path, language, licence, content, content_hash,"
        " size_bytes, characters, quality_score, scores)"
        " select $1, 'c', number || '.py', 'Python', 'MIT', repeat(number || ' ', 100),"
        " decode(md5(number::text), 'hex'), 1, 1, 75 + number % 20, '{}'"
        " from generate_series(1, $2::integer) as number",
        repository,
        count,
    )


@pytest.mark.parametrize(("kind", "read"), [("jsonl", read_jsonl), ("parquet", read_parquet)])
async def test_curated_files_go_out_with_all_that_is_known_of_them(
    shell: Shell, database: Database, kind: str, read: Read
) -> None:
    one, other = await add_repository(database, "owner/one"), await add_repository(database, "owner/other")
    odd = "# \u2028 \x01 'quotes' \"and\" \U0001f600\r\n"
    first = await add_file(database, one, "a.py", content=odd, cluster_id=7, labels=["test"])
    second = await add_file(database, other, "b.rs", language="Rust", licence=None, quality_score=70.0, scores=None)
    await add_file(database, one, "low.py", quality_score=69.9)
    await add_file(database, one, "near.py", cluster_id=7, is_survivor=False)
    await add_file(database, one, "refused.py", rejected_by="generated")
    out = shell.folder / "deep" / "out"
    ended = await shell("export", "--format", kind, "--min-score", "70", str(out))
    assert (ended.code, "holds 2 files (shards: 1)" in ended.out) == (0, True), ended.err
    rows = read(out)
    assert [row["id"] for row in rows] == [first, second]
    assert rows[0] == {
        "id": first,
        "repository_id": one,
        "repository": "owner/one",
        "url": "https://host/owner/one",
        "commit": "c" * 40,
        "path": "a.py",
        "language": "Python",
        "licence": "MIT",
        "labels": ["test"],
        "characters": len(odd),
        "score": 80.0,
        "scores": [{"dimension": name, **SCORES[name]} for name in ("repetition", "structure")],
        "cluster": 7,
        "content_hash": await database.fetchval(
            "select encode(content_hash, 'hex') from processed_files where id = $1", first
        ),
        "content": odd,
    }
    assert (rows[1]["licence"], rows[1]["scores"], rows[1]["cluster"], rows[1]["score"]) == (None, [], None, 70)
    assert names(out) == {"export.json", "README.md", f"part-00000.{kind}"}
    assert manifest(out)["complete"] is True


async def test_the_card_counts_what_is_there(shell: Shell, database: Database) -> None:
    repository = await add_repository(database)
    rules = [{"name": "generated", "version": 3, "settings": {}}]
    rule_set = await database.fetchval("insert into rule_sets (rules) values ($1) returning id", rules)
    for number, (language, score) in enumerate([("Python", 71.0), ("Python", 99.0), ("Rust", 100.0)]):
        await add_file(database, repository, f"{number}", language=language, quality_score=score, rule_set=rule_set)
    await shell("export", "--format", "jsonl", "--licence", "mit", str(shell.folder / "out"))
    card = (shell.folder / "out" / "README.md").read_text()
    assert DatasetCard(card).data.to_dict()["configs"][0]["data_files"] == "part-*.jsonl"  # type: ignore[no-untyped-call]
    assert "3 source files" in card
    for row in ("| Python | 2 |", "| Rust | 1 |", "| MIT | 3 |", "| generated | 3 |", "| structure | 1 | 3 |"):
        assert row in card, row
    assert "| licence | mit |" in card
    assert "| min_score | 70 |" in card
    assert [line.split()[-1] for line in card.splitlines() if " to " in line and "#" in line] == ["1", "2"]
    assert "codelupe forget" in card


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "read"), [("jsonl", read_jsonl), ("parquet", read_parquet)])
async def test_a_killed_export_goes_on_from_its_last_whole_shard_and_ends_the_same(
    shell: Shell, database: Database, kind: str, read: Read
) -> None:
    await add_many(database, 1000)
    arguments = ("export", "--format", kind, "--shard-files", "5")
    undisturbed, out = shell.folder / "undisturbed", shell.folder / "out"
    assert (await shell(*arguments, str(undisturbed))).code == 0
    with shell.start(*arguments, str(out)) as process:
        _wait_for(out / f"part-00010.{kind}", process)
        process.send_signal(signal.SIGKILL)
    killed = manifest(out)
    assert killed["complete"] is False, "killed on its way"
    assert not (out / "README.md").exists()
    whole = [shard["name"] for shard in killed["shards"]]
    assert 10 <= len(whole) < 200
    times = {name: (out / name).stat().st_mtime_ns for name in whole}

    ended = await shell(*arguments, str(out))
    assert ended.code == 0, ended.err
    assert f"{5 * len(whole):,} of 1,000 files" in ended.err.splitlines()[0]
    assert {name: (out / name).stat().st_mtime_ns for name in whole} == times, "they were not written again"
    assert names(out) == names(undisturbed)
    for name in names(out) - {"export.json", "README.md"}:
        assert (out / name).read_bytes() == (undisturbed / name).read_bytes(), name
    assert len({row["id"] for row in read(out)}) == 1000
    assert manifest(out) | {"begun_at": 0} == manifest(undisturbed) | {"begun_at": 0}
    again = await shell(*arguments, str(out), "--json")
    assert again.json()["complete"] is True


@pytest.mark.parametrize("ctrl_c", [signal.default_int_handler, signal.SIG_IGN], ids=["from a terminal", "in a script"])
async def test_an_interrupted_export_leaves_whole_shards_only_and_goes_on(
    shell: Shell, database: Database, ctrl_c: Any
) -> None:
    """A script's background commands ignore SIGINT; SIGTERM ends them all the same."""
    await add_many(database, 1000)
    out = shell.folder / "out"
    ours = signal.signal(signal.SIGINT, ctrl_c)
    with shell.start("export", "--format", "jsonl", "--shard-files", "5", str(out)) as process:
        signal.signal(signal.SIGINT, ours)
        _wait_for(out / "part-00003.jsonl", process)
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=HANGS) == 130
    shards = {shard["name"] for shard in manifest(out)["shards"]}
    assert manifest(out)["complete"] is False
    assert names(out) - {"export.json"} - shards <= {f"part-{len(shards):05}.jsonl"}, "at most one not yet written down"
    assert (await shell("export", "--format", "jsonl", "--shard-files", "5", str(out))).code == 0
    assert sorted(int(row["path"].removesuffix(".py")) for row in read_jsonl(out)) == list(range(1, 1001))


def _wait_for(path: Path, process: subprocess.Popen[bytes]) -> None:
    while not path.exists():
        assert process.poll() is None, "it ended too early"
        time.sleep(0.001)


async def test_an_export_of_something_else_is_left_alone(shell: Shell, database: Database) -> None:
    await add_many(database, 20)
    out = str(shell.folder / "out")
    assert (await shell("export", "--format", "jsonl", out)).code == 0
    (await shell("export", "--format", "jsonl", "--min-score", "80", out)).failed(1, "something else", "another folder")
    (await shell("export", out)).failed(1, "something else", '"jsonl"', '"parquet"')
    await database.execute("update processed_files set quality_score = 99 where file_path = '1.py'")
    (await shell("export", "--format", "jsonl", out)).failed(1, "have changed", "20 then, 20 now", "another folder")
    (shell.folder / "full").mkdir()
    (shell.folder / "full" / "letter.txt").touch()
    (await shell("export", str(shell.folder / "full"))).failed(1, "is not empty", "new folder")
    (shell.folder / "broken").mkdir()
    (shell.folder / "broken" / "export.json").write_text("{")
    (await shell("export", str(shell.folder / "broken"))).failed(1, "export.json cannot be read")
    (shell.folder / "file").touch()
    (await shell("export", str(shell.folder / "file"))).failed(1, "cannot be written", "File exists")


async def test_a_shard_that_was_touched_is_noticed(shell: Shell, database: Database) -> None:
    await add_many(database, 20)
    out = shell.folder / "out"
    assert (await shell("export", "--format", "jsonl", str(out))).code == 0
    with (out / "part-00000.jsonl").open("a") as shard:
        shard.write("{}\n")
    (await shell("export", "--format", "jsonl", str(out))).failed(1, "part-00000.jsonl is not as it was written")


async def test_two_exports_do_not_write_to_one_folder(shell: Shell, database: Database) -> None:
    await add_many(database, 20)
    out = shell.folder / "out"
    async with database.transaction() as connection:
        await connection.execute("lock table processed_files in access exclusive mode")
        with shell.start("export", "--format", "jsonl", str(out)) as process:
            _wait_for(out / ".lock", process)
            (await shell("export", "--format", "jsonl", str(out))).failed(1, "another export is writing")
            process.kill()


async def test_nothing_to_export_makes_an_empty_data_set(shell: Shell) -> None:
    ended = await shell("export", "--format", "jsonl", "--json", "out")
    assert (ended.json()["shards"], ended.json()["complete"]) == ([], True)
    assert names(shell.folder / "out") == {"export.json", "README.md"}


async def test_parquet_without_its_library_names_the_extra(shell: Shell) -> None:
    (shell.folder / "pyarrow.py").write_text("raise ImportError('hidden')\n")
    ended = await shell("export", "out", PYTHONPATH=str(shell.folder))
    ended.failed(1, "Parquet needs pyarrow", "codelupe[archive]", "--format jsonl")
    assert (await shell("export", "--format", "jsonl", "out", PYTHONPATH=str(shell.folder))).code == 0


async def test_a_bar_is_shown_on_a_terminal(shell: Shell, database: Database) -> None:
    await add_many(database, 20)
    master, terminal = pty.openpty()
    command = [*COMMAND, "export", "--format", "jsonl", "out"]
    with subprocess.Popen(
        command, cwd=shell.folder, env=shell.environment | {"TERM": "xterm"}, stdout=subprocess.PIPE, stderr=terminal
    ) as process:
        os.close(terminal)
        assert process.wait(timeout=HANGS) == 0
    shown = os.read(master, 1 << 20).decode()
    os.close(master)
    assert "20/20" in shown
    assert "━" in shown
