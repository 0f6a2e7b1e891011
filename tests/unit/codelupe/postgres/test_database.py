"""One kind of error for a database that is away, another for an address that is none, and passwords in neither."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, suppress
from pathlib import Path
from random import Random

import anyio
import asyncpg
import pytest

from codelupe import Database
from codelupe.errors import ConfigurationError, DatabaseUnavailable

PASSWORD = "hidden-away"


@pytest.mark.parametrize(
    ("url", "where"),
    [
        ("postgresql://user:hidden-away@host:5432/db", "host:5432/db"),
        ("postgresql://:hidden-away@host/db", "host/db"),
        ("postgresql:///db?user=u&password=hidden-away&x=1", "the local server db"),
        ("postgresql://user@host:5432/db?sslmode=require", "host:5432/db"),
        ("postgresql://a:1,b:2/db", "a:1,b:2/db"),
        ("postgres://[::1]:5432/db", "[::1]:5432/db"),
        ("postgresql:///db?host=/run/postgresql", "/run/postgresql db"),
        ("postgresql:///db?host=%2Frun%2Fpostgresql&port=5432&user=u", "/run/postgresql db"),
        ("postgresql:///?host=host&port=5433&dbname=db", "host:5433/db"),
    ],
)
def test_an_address_is_shown_as_host_and_database(url: str, where: str) -> None:
    assert Database(url).where == where


@pytest.mark.parametrize(
    "url",
    [
        "",
        "nonsense",
        "postgresql://u:se;cr@t/p w@host/db",
        "postgresql://user:hidden@-away@host/db",
        "postgresql://user:hidden/-away@host/db",
        "postgresql://user:hidden?away@host/db",
        "postgresql://user:hidden#away@host/db",
        "postgresql://user:123/hidden@host/db",
        "postgresql://user:123?hidden@host/db",
        "postgresql://user:hidden@away/db?host=x@y",
        "postgresql://user:hid den@host/db",
        "postgresql://user:hidden\naway@host/db",
    ],
)
def test_an_address_that_can_be_read_in_two_ways_is_not_shown(url: str) -> None:
    assert Database(url).where == "the address in database_url"


@pytest.mark.anyio
@pytest.mark.parametrize(
    "url",
    [
        "nonsense",
        "mysql://user:hidden-away@host/db",
        "postgresql://user:hidden/-away@host/db",
        "postgresql://user:hidden-away@host:port/db",
        "postgresql://user:hidden-away@127.0.0.1:99999/db",
        "postgresql://user:hidden-away@127.0.0.1:1/db?sslmode=perhaps",
        "postgresql://[::1/db",
        "postgresql://" + "x" * 300 + "/db",
    ],
)
async def test_what_is_no_address_is_a_matter_of_settings(url: str) -> None:
    with pytest.raises(ConfigurationError, match="database_url") as caught:
        async with Database(url):
            pass
    assert "hidden" not in str(caught.value)
    assert "percent-encoded" in (caught.value.hint or "")


@pytest.mark.anyio
@pytest.mark.parametrize(
    "url",
    [
        "postgresql://user:hidden-away@127.0.0.1:1/db",
        "postgresql://user:hidden-away@host.invalid/db",
        "postgresql:///db?host=/nowhere&password=hidden-away",
    ],
)
async def test_a_server_that_is_not_there(url: str) -> None:
    with pytest.raises(DatabaseUnavailable, match="is not available") as caught:
        async with Database(url):
            pass
    assert "hidden" not in str(caught.value)
    assert "CODELUPE_DATABASE_URL" in (caught.value.hint or "")


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("old", "new", "cause"),
    [
        ("/codelupe?", "/absent?", 'database "absent" does not exist'),
        ("user=codelupe", "user=stranger", "stranger"),
    ],
)
async def test_a_database_or_user_that_does_not_exist(postgres_url: str, old: str, new: str, cause: str) -> None:
    with pytest.raises(DatabaseUnavailable, match=cause):
        async with Database(postgres_url.replace(old, new)):
            pass


@pytest.mark.anyio
async def test_a_connection_that_breaks_is_absence_and_the_next_one_works(database: Database) -> None:
    with pytest.raises(DatabaseUnavailable):
        await database.execute("select pg_terminate_backend(pg_backend_pid())")
    assert await database.fetchval("select 1") == 1


@pytest.mark.anyio
async def test_one_connection_is_checked_out_by_one_after_another(postgres_url: str) -> None:
    served: list[tuple[int, str]] = []

    async def borrow(number: int) -> None:
        async with database.statement() as connection:
            pid = await connection.fetchval("select pg_backend_pid()")
            served.append((pid, f"{number} begins"))
            await connection.fetchval("select pg_sleep(0.01)")
            served.append((pid, f"{number} ends"))

    async with Database(postgres_url, connections=1) as database, anyio.create_task_group() as group:
        for number in range(5):
            group.start_soon(borrow, number)
    assert len({pid for pid, _ in served}) == 1
    assert [what for _, what in served] == [f"{number} {what}" for number in range(5) for what in ("begins", "ends")]


@pytest.mark.anyio
async def test_who_is_cancelled_while_he_waits_takes_nobody_s_turn(postgres_url: str) -> None:
    async with Database(postgres_url, connections=1) as database:
        async with database.statement(), anyio.create_task_group() as group:
            group.start_soon(database.fetchval, "select 1")
            await anyio.wait_all_tasks_blocked()
            group.cancel_scope.cancel()
        assert await database.fetchval("select 2") == 2


@pytest.mark.anyio
async def test_a_session_is_like_new_after_its_owner_whatever_became_of_him(postgres_url: str) -> None:
    async with Database(postgres_url, connections=1) as database:
        async with database.connection() as connection:
            await connection.execute("set work_mem = '77MB'")
        assert await database.fetchval("show work_mem") != "77MB"
        with pytest.raises(ZeroDivisionError):
            async with database.statement() as connection:
                await connection.execute("set work_mem = '77MB'")
                raise ZeroDivisionError
        assert await database.fetchval("show work_mem") != "77MB"
        async with database.statement() as connection:
            await connection.execute("begin; create table left_open (id int)")
        assert await database.fetchval("select to_regclass('left_open')") is None


def _kill_backend(pid: int) -> None:
    """Without letting the event loop hear of it."""
    os.kill(pid, signal.SIGTERM)
    while Path(f"/proc/{pid}").exists():
        time.sleep(0.01)


@pytest.mark.anyio
@pytest.mark.parametrize("how", ["statement", "connection", "transaction"])
async def test_who_is_cancelled_stays_so_whatever_becomes_of_the_connection(postgres_url: str, how: str) -> None:
    async with Database(postgres_url, connections=1) as database:
        with anyio.CancelScope() as scope:
            async with getattr(database, how)() as connection:
                _kill_backend(await connection.fetchval("select pg_backend_pid()"))
                scope.cancel()
                await anyio.sleep_forever()
        assert scope.cancelled_caught
        assert await database.fetchval("select 1") == 1


@pytest.mark.anyio
async def test_a_copy_over_a_broken_connection_leaves_no_future_behind(database: Database) -> None:
    """The fixture ``anyio_backend`` fails a test at whose end asyncio has reported one."""
    await database.execute("create table copied (n int)")

    async def rows() -> AsyncIterator[bytes]:
        yield b"1\n"

    with pytest.raises(DatabaseUnavailable):
        async with database.transaction() as connection:
            _kill_backend(await connection.fetchval("select pg_backend_pid()"))
            for _ in ("the loop hears of the cause", "the end of the connection waits to be heard of"):
                await anyio.sleep(0)
            await connection.copy_to_table("copied", source=rows(), format="text")


class _Storm:
    """Users of one database, each of whom hears of nothing but absence and cancellation while connections are cut."""

    def __init__(self, database: Database, random: Random) -> None:
        self._database = database
        self._random = random
        self._uses = (self._write, self._copy, self._wait, self._set)

    async def use(self) -> None:
        while True:
            patience = self._random.random() * 0.1 if self._random.random() < 0.3 else 5
            with suppress(DatabaseUnavailable), anyio.move_on_after(patience):
                await self._random.choice(self._uses)()

    async def cut(self) -> None:
        await anyio.sleep(self._random.random() * 0.05)
        with suppress(DatabaseUnavailable):
            await self._database.execute(
                "select pg_terminate_backend(pid) from pg_stat_activity"
                " where datname = current_database() and backend_type = 'client backend' and random() < 0.4"
            )

    async def _write(self) -> None:
        async with self._database.transaction() as connection:
            await connection.fetchval("select count(*) from stormy")
            await connection.execute("insert into stormy values (1)")

    async def _copy(self) -> None:
        async with self._database.transaction() as connection:
            await connection.copy_records_to_table("stormy", records=[(n,) for n in range(300)])
            await anyio.sleep(self._random.random() * 0.02)

    async def _wait(self) -> None:
        await self._database.fetchval("select pg_sleep($1)", self._random.random() * 0.05)

    async def _set(self) -> None:
        async with self._database.connection() as connection:
            await connection.execute("set work_mem = '77MB'")


@pytest.mark.anyio
async def test_cuts_and_cancellations_end_in_nothing_else_and_use_up_no_connection(postgres_url: str) -> None:
    connections, users, cuts = 6, 8, 60
    async with Database(postgres_url, connections=connections) as database:
        await database.execute("create table stormy (n int)")
        storm = _Storm(database, Random(7))
        async with anyio.create_task_group() as group:
            for _ in range(users):
                group.start_soon(storm.use)
            for _ in range(cuts):
                await storm.cut()
            group.cancel_scope.cancel()
        async with AsyncExitStack() as all_of_them:
            for _ in range(connections):
                connection = await all_of_them.enter_async_context(database.statement())
                assert await connection.fetchval("show work_mem") != "77MB"


@pytest.mark.anyio
async def test_an_idle_connection_that_broke_is_replaced(postgres_url: str) -> None:
    async with Database(postgres_url, connections=2) as database:
        async with database.statement() as first, database.statement() as second:
            broken = await second.fetchval("select pg_backend_pid()")
            first_pid = await first.fetchval("select pg_backend_pid()")
        async with database.statement() as at_hand:
            assert await at_hand.fetchval("select pg_backend_pid()") == first_pid, "the last one given back"
            assert await at_hand.fetchval("select pg_terminate_backend($1, 5000)", broken)
            found = None
            while found is None:  # a call that is faster than the news of its end hears that the database is away, once
                with suppress(DatabaseUnavailable):
                    found = await database.fetchval("select pg_backend_pid()")
            assert found not in {broken, first_pid}


@pytest.mark.anyio
async def test_a_wrong_statement_is_no_absence(database: Database) -> None:
    with pytest.raises(asyncpg.UndefinedTableError):
        await database.execute("select * from nowhere")


@pytest.mark.anyio
async def test_a_transaction_is_kept_whole_or_not_at_all(database: Database) -> None:
    await database.execute("create table kept (n int)")
    with pytest.raises(ValueError, match="mine"):
        async with database.transaction() as connection:
            await connection.execute("insert into kept values (1)")
            raise ValueError("mine")
    async with database.transaction() as connection:
        await connection.execute("insert into kept values (2)")
    assert [row["n"] for row in await database.fetch("select n from kept")] == [2]


@pytest.mark.anyio
async def test_a_database_that_was_not_entered_says_so() -> None:
    with pytest.raises(DatabaseUnavailable, match="not connected"):
        await Database("postgresql:///unused").fetchval("select 1")
