"""Migrations on a real Postgres: once each, whole or not at all, also while another process migrates."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import anyio
import anyio.to_thread
import pytest

from codelupe import Database, load_queries
from codelupe.errors import DatabaseUnavailable, MigrationError
from codelupe.postgres.migrate import Migration, migrate, own_migrations, pending_migrations, read_migrations
from tests.integration.servers import empty_database
from tests.processes import HANGS

pytestmark = pytest.mark.anyio


@pytest.fixture
async def empty_url(postgres_url: str) -> AsyncIterator[str]:
    async with empty_database(postgres_url) as url:
        yield url


@pytest.fixture
async def empty(empty_url: str) -> AsyncIterator[Database]:
    async with Database(empty_url) as database:
        yield database


def step(number: int, sql: str, owner: str = "codelupe") -> Migration:
    return Migration(owner=owner, number=number, name=f"step_{number}", sql=sql)


SQL = load_queries("codelupe_sql", "migrations")
FIRST = step(1, "create table first (n int); insert into first values (1);")
SECOND = step(2, "create table second (n int);")
FAILING = step(2, "create table half (n int); insert into first values (2); select 1 / 0;")


async def tables(database: Database, schema: str = "public") -> list[str]:
    rows = await database.fetch(
        "select relname from pg_class where relkind = 'r' and relnamespace = to_regnamespace($1)", schema
    )
    return sorted(row["relname"] for row in rows)


# --- what is applied ---


async def test_migrations_are_applied_in_order_and_once(empty: Database) -> None:
    assert await pending_migrations(empty, [FIRST, SECOND]) == [FIRST, SECOND]
    assert await migrate(empty, [FIRST, SECOND]) == [FIRST, SECOND]
    assert await migrate(empty, [FIRST, SECOND]) == []
    assert await pending_migrations(empty, [FIRST, SECOND]) == []
    assert await empty.fetchval("select count(*) from first") == 1


async def test_a_later_one_is_applied_later(empty: Database) -> None:
    await migrate(empty, [FIRST])
    assert await pending_migrations(empty, [FIRST, SECOND]) == [SECOND]
    assert await migrate(empty, [FIRST, SECOND]) == [SECOND]


async def test_each_owner_has_its_own_numbers(empty: Database) -> None:
    theirs = step(1, "create table theirs (n int);", owner="painter")
    await migrate(empty, [FIRST, theirs])
    assert await tables(empty) == ["first", "schema_migrations"]
    assert await tables(empty, "plugin_painter") == ["theirs"]


async def test_looking_changes_nothing(empty: Database) -> None:
    await pending_migrations(empty, own_migrations())
    assert await tables(empty) == []


async def test_codelupe_s_own_make_a_whole_schema(empty: Database) -> None:
    await migrate(empty, own_migrations())
    assert {"events_0", "tasks", "repositories", "processed_files", "batches", "models"} <= set(await tables(empty))


# --- what is refused ---


async def test_a_migration_that_was_changed_afterwards_is_named_and_nothing_is_applied(empty: Database) -> None:
    await migrate(empty, [FIRST])
    changed = step(1, FIRST.sql + " -- a comment")
    for attempt in (migrate, pending_migrations):
        with pytest.raises(MigrationError, match="0001_step_1 of codelupe was changed") as caught:
            await attempt(empty, [changed, SECOND])
        assert "new migration" in (caught.value.hint or "")
    assert "second" not in await tables(empty)


async def test_a_database_of_newer_code_is_left_alone(empty: Database) -> None:
    await migrate(empty, [FIRST, SECOND])
    for attempt in (migrate, pending_migrations):
        with pytest.raises(MigrationError, match="0002_step_2, which this version of CodeLupe lacks") as caught:
            await attempt(empty, [FIRST, step(3, "create table third ();")])
        assert "newer CodeLupe" in (caught.value.hint or "")
    assert "third" not in await tables(empty)


async def test_a_plugin_that_is_gone_leaves_its_migrations_behind(empty: Database) -> None:
    await migrate(empty, [FIRST, step(1, "create table theirs ();", owner="painter")])
    assert await migrate(empty, [FIRST, SECOND]) == [SECOND]


async def test_a_failing_migration_is_rolled_back_and_the_ones_before_it_stand(empty: Database) -> None:
    with pytest.raises(MigrationError, match="0002_step_2 of codelupe failed: division by zero"):
        await migrate(empty, [FIRST, FAILING, step(3, "create table third ();")])
    assert await tables(empty) == ["first", "schema_migrations"]
    assert await empty.fetchval("select count(*) from first") == 1
    assert await migrate(empty, [FIRST, SECOND]) == [SECOND], "corrected, it goes on"


async def test_a_migration_that_is_no_sql_is_named(empty: Database) -> None:
    with pytest.raises(MigrationError, match=r"0001_step_1 of painter failed in line 1: .*syntax error"):
        await migrate(empty, [step(1, "make it so;", owner="painter")])


async def test_a_database_that_goes_away_meanwhile_is_absence_and_loses_nothing(empty: Database) -> None:
    cut = step(2, "create table half (n int); select pg_terminate_backend(pg_backend_pid());")
    with pytest.raises(DatabaseUnavailable):
        await migrate(empty, [FIRST, cut])
    assert await tables(empty) == ["first", "schema_migrations"]
    with anyio.fail_after(HANGS):
        assert await migrate(empty, [FIRST, SECOND]) == [SECOND], "the lock fell with the connection"


# --- several at once ---


async def test_tasks_that_migrate_at_once_apply_each_one_once(empty: Database) -> None:
    """All of them are under way before any of them may begin."""
    applied: list[Migration] = []

    async def one() -> None:
        applied.extend(await migrate(empty, [FIRST, SECOND]))

    with anyio.fail_after(HANGS):
        async with anyio.create_task_group() as group, empty.connection() as other:
            await other.execute(SQL.lock_until_the_session_ends)
            for _ in range(6):
                group.start_soon(one)
            while await other.fetchval("select count(*) from pg_locks where not granted") < 6:
                await anyio.sleep(0.01)
            assert applied == []
    assert applied == [FIRST, SECOND]


async def test_processes_that_migrate_at_once_apply_each_one_once(empty: Database, empty_url: str) -> None:
    code = f"""
import anyio
from codelupe.postgres import Database
from codelupe.postgres.migrate import migrate, own_migrations

async def main():
    async with Database({empty_url!r}) as database:
        input()
        print(len(await migrate(database, own_migrations())))

anyio.run(main)
"""
    processes = [
        subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for _ in range(3)
    ]

    def race() -> list[int]:
        for process in processes:
            assert process.stdin is not None
            process.stdin.write("go\n")
            process.stdin.flush()
        return sorted(int(process.communicate(timeout=HANGS)[0]) for process in processes)

    assert await anyio.to_thread.run_sync(race) == [0, 0, len(own_migrations())]
    assert await pending_migrations(empty, own_migrations()) == []


# --- files ---


async def test_files_are_read_by_number_and_others_are_left_alone(tmp_path: Path) -> None:
    for name in ("0010_later.sql", "0002_first.sql", "README.md", "2_short.sql", "0003_no-sql.txt", "0004_x.sql.bak"):
        (tmp_path / name).write_text(f"-- {name}", encoding="utf-8")
    found = read_migrations("painter", tmp_path)
    assert [(one.owner, one.number, one.name, one.sql) for one in found] == [
        ("painter", 2, "first", "-- 0002_first.sql"),
        ("painter", 10, "later", "-- 0010_later.sql"),
    ]


async def test_two_files_with_one_number_are_refused(tmp_path: Path) -> None:
    (tmp_path / "0001_a.sql").touch()
    (tmp_path / "0001_b.sql").touch()
    with pytest.raises(MigrationError, match="painter has two migrations with the number 0001"):
        read_migrations("painter", tmp_path)


async def test_a_checksum_depends_on_every_character() -> None:
    assert step(1, "select 1").checksum != step(1, "select 1 ").checksum
    assert step(1, "select 1").checksum == step(2, "select 1").checksum
