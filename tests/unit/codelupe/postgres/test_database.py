"""One kind of error for a database that is away, another for an address that is none, and passwords in neither."""

from __future__ import annotations

import asyncpg
import pytest

from codelupe import Database
from codelupe.errors import ConfigurationError, DatabaseUnavailable
from codelupe.postgres.database import redact_url

PASSWORD = "hidden-away"


@pytest.mark.parametrize(
    ("url", "redacted"),
    [
        ("postgresql://user:hidden-away@host:5432/db", "postgresql://user:***@host:5432/db"),
        ("postgresql://user:hidden@-away@host/db", "postgresql://user:***@host/db"),
        ("postgresql://user:hidden/-away@host/db", "postgresql://user:***@host/db"),
        ("postgresql://:hidden-away@host/db", "postgresql://:***@host/db"),
        ("postgresql:///db?user=u&password=hidden-away&x=1", "postgresql:///db?user=u&password=***&x=1"),
        ("postgresql://user@host:5432/db", "postgresql://user@host:5432/db"),
        ("postgresql:///db?host=/run/postgresql", "postgresql:///db?host=/run/postgresql"),
        ("", ""),
    ],
)
def test_passwords_are_hidden(url: str, redacted: str) -> None:
    assert redact_url(url) == redacted
    assert Database(url).where == redacted


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
