"""Named queries out of SQL files, and that each one of ours is SQL that the migrated database understands."""

from __future__ import annotations

import re
from importlib.resources import files
from pathlib import Path

import pytest

from codelupe import Database, Queries, load_queries

FILES = sorted(
    entry.name.removesuffix(".sql")
    for entry in (files("codelupe_sql") / "queries").iterdir()
    if entry.name.endswith(".sql")
)


def test_queries_are_attributes() -> None:
    text = "-- About the file.\n\n-- name: find_it\n-- Finds it.\nselect 1\n\n-- name: lose_it\nselect 2;\n"
    queries = Queries("x.sql", text)
    assert list(queries) == ["find_it", "lose_it"]
    assert queries.find_it == "-- Finds it.\nselect 1"
    assert queries.lose_it == "select 2;"


def test_a_name_within_a_query_is_no_header() -> None:
    queries = Queries("x.sql", "-- name: one\nselect '\n  -- name: two\n'")
    assert list(queries) == ["one"]


def test_an_unknown_query_is_named_with_those_that_are_there() -> None:
    with pytest.raises(AttributeError, match=r"x\.sql has no query finde_it; it has find_it, lose_it"):
        _ = Queries("x.sql", "-- name: find_it\nselect 1\n-- name: lose_it\nselect 2").finde_it


def test_a_file_is_read_from_a_package() -> None:
    assert "insert into schema_migrations" in load_queries("codelupe_sql", "migrations").record


def test_a_missing_file_is_an_error() -> None:
    with pytest.raises(FileNotFoundError):
        load_queries("codelupe_sql", "nonsense")


@pytest.mark.parametrize("name", FILES)
def test_no_name_is_used_twice_in_a_file(name: str) -> None:
    text = (files("codelupe_sql") / "queries" / f"{name}.sql").read_text(encoding="utf-8")
    names = re.findall(r"^-- name: (\w+)$", text, re.MULTILINE)
    assert names == list(load_queries("codelupe_sql", name))
    assert len(names) == text.count("-- name:"), "every header has the form that is read"


@pytest.mark.anyio
@pytest.mark.parametrize("name", FILES)
async def test_the_database_understands_every_query(database: Database, name: str) -> None:
    queries = load_queries("codelupe_sql", name)
    async with database.transaction() as connection:
        await connection.execute(load_queries("codelupe_sql", "migrations").create_table)
        for query in queries:
            sql = getattr(queries, query)
            prepared = await connection.prepare(sql)
            assert prepared is not None, query
            if re.search(r"^create ", sql, re.MULTILINE):
                await connection.execute(sql)


@pytest.mark.parametrize("root", ["codelupe", "events", "plugins", "sql"])
def test_every_query_of_ours_is_used_by_its_name(root: str) -> None:
    """A query that is asked for exists: attribute access fails only when it is reached."""
    folder = Path(__file__).parents[3] / root
    for path in sorted(folder.rglob("*.py")):
        text = path.read_text(encoding="utf-8")
        for variable, file in re.findall(r"^(\w+) = load_queries\(\"codelupe_sql\", \"(\w+)\"\)", text, re.MULTILINE):
            queries = load_queries("codelupe_sql", file)
            for query in re.findall(rf"\b{variable}\.(\w+)", text):
                assert query in list(queries), f"{path} uses {file}.sql's {query}"
