"""`codelupe files`: which files there are."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from codelupe import Database
from codelupe_dataset.selection import Selection, list_files
from tests.integration.stored_files import add_file, add_repository
from tests.integration.test_cli import Shell

pytestmark = pytest.mark.anyio


@pytest.fixture
def shell(tmp_path: Path, database_url: str) -> Shell:
    return Shell(tmp_path, CODELUPE_DATABASE_URL=database_url)


async def lines(shell: Shell, *arguments: str) -> list[dict[str, Any]]:
    ended = await shell("files", "--json", *arguments)
    assert (ended.code, ended.err) == (0, "")
    return [json.loads(line) for line in ended.out.splitlines()]


async def test_files_are_listed_by_what_is_asked_for(shell: Shell, database: Database) -> None:
    one, other = await add_repository(database, "owner/one"), await add_repository(database, "owner/other")
    await add_file(database, one, "a.rs", language="Rust", quality_score=85.5)
    await add_file(database, one, "b.rs", language="Rust", quality_score=70.0, licence=None)
    await add_file(database, other, "c.py", quality_score=95.0)
    await add_file(database, other, "d.py", rejected_by="generated")

    async def paths(limit: int | None = None, **asked: Any) -> list[str]:
        return [file["path"] async for file in list_files(database, Selection(**asked), limit)]

    assert await paths() == ["a.rs", "b.rs", "c.py", "d.py"]
    assert await paths(language="rust", min_score=80) == ["a.rs"]
    assert await paths(max_score=80) == ["b.rs"]
    assert await paths(repository="Owner/OTHER") == ["c.py", "d.py"]
    assert await paths(repository=one) == ["a.rs", "b.rs"]
    assert await paths(licence="mit", language="Rust") == ["a.rs"]
    assert await paths(licence="unknown") == ["b.rs"]
    assert await paths(rejected_by="generated") == ["d.py"]
    assert await paths(3) == ["a.rs", "b.rs", "c.py"]
    assert await paths(language="'; drop table processed_files; --") == []
    options = ("--licence", "mit", "--repository", "owner/one", "--max-score", "90", "--limit", "5")
    assert [file["path"] for file in await lines(shell, *options)] == ["a.rs"]
    assert [file["path"] for file in await lines(shell, "--rejected-by", "generated")] == ["d.py"]
    [file] = await lines(shell, "--language", "rust", "--min-score", "80")
    expected = {"repository": "owner/one", "commit": "c" * 40, "licence": "MIT", "score": 85.5, "rejected_by": None}
    assert expected.items() <= file.items()


async def test_a_table_stops_where_it_would_no_longer_be_read(shell: Shell, database: Database) -> None:
    repository = await add_repository(database)
    for number in range(3):
        await add_file(database, repository, f"{number}.py")
    ended = await shell("files", "--limit", "2")
    assert "1.py" in ended.out
    assert "2.py" not in ended.out
    assert "--limit 4" in ended.err
    whole = await shell("files")
    assert "2.py" in whole.out
    assert whole.err == ""
    assert (await shell("files", "--language", "COBOL")).out == "No such files.\n"


async def test_more_files_than_a_page_come_once_each(database: Database) -> None:
    repository = await add_repository(database)
    await database.execute(
        "insert into processed_files (repository_id, commit, file_path, size_bytes, rejected_by, rejection)"
        " select $1, 'c', number::text, 1, 'language', '{}' from generate_series(1, 1100) as number",
        repository,
    )
    found = [file["path"] async for file in list_files(database, Selection())]
    assert sorted(map(int, found)) == list(range(1, 1101))
    assert len([file async for file in list_files(database, Selection(), 1000)]) == 1000
