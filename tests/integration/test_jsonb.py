"""``jsonb`` as Python values, by parameters, arrays and COPY, on every connection of the pool."""

from __future__ import annotations

from typing import Any

import anyio
import asyncpg
import msgspec
import pytest

from codelupe import Database
from codelupe_events import Reason

pytestmark = pytest.mark.anyio

VALUES = [{"a": [1, 2.5, None, True], "ł": {"": "\U0001f50d"}}, [], [[]], "", '{"not": "parsed"}', 0, -1.5, False]


@pytest.mark.parametrize("value", VALUES, ids=repr)
async def test_a_value_comes_back_as_it_went_in(database: Database, value: Any) -> None:
    found = await database.fetchval("select $1::jsonb", value)
    assert (found, type(found)) == (value, type(value))


async def test_structs_and_tuples_go_in_too(database: Database) -> None:
    reasons = (Reason(rule="min-stars", detail="3"),)
    assert await database.fetchval("select $1::jsonb", reasons) == [{"rule": "min-stars", "detail": "3"}]


async def test_bytes_are_json_already_and_text_stays_undecoded(database: Database) -> None:
    assert await database.fetchval("select $1::jsonb", b'{"a": 1}') == {"a": 1}
    assert await database.fetchval("select $1::jsonb::text", b'{"a":1}') == '{"a": 1}'


async def test_none_is_null_and_json_null_is_none(database: Database) -> None:
    assert await database.fetchval("select $1::jsonb is null", None)
    assert not await database.fetchval("select $1::jsonb is null", b"null")
    assert await database.fetchval("select $1::jsonb", b"null") is None


async def test_arrays_and_copies_take_the_same_values(database: Database) -> None:
    rows: list[Any] = [{"a": 1}, b'{"b":2}', None]
    assert await database.fetchval("select $1::jsonb[]", rows) == [{"a": 1}, {"b": 2}, None]
    async with database.transaction() as connection:
        await connection.execute("create temporary table copied (value jsonb) on commit drop")
        await connection.copy_records_to_table("copied", records=[(row,) for row in rows])
        found = await connection.fetch("select value from copied")
    assert [row["value"] for row in found] == [{"a": 1}, {"b": 2}, None]


async def test_what_json_cannot_hold_is_refused_before_it_is_sent(database: Database) -> None:
    with pytest.raises(asyncpg.DataError, match="object"):
        await database.fetchval("select $1::jsonb", object())


async def test_every_connection_does_so_also_after_its_session_was_reset(database_url: str) -> None:
    everyone_is_there = anyio.Event()
    waiting = 0

    async def ask() -> None:
        nonlocal waiting
        async with database.connection() as connection:
            waiting += 1
            if waiting == 3:
                everyone_is_there.set()
            await everyone_is_there.wait()
            assert await connection.fetchval("select $1::jsonb", msgspec.json.encode([1])) == [1]

    async with Database(database_url, connections=3) as database:
        for _ in range(2):
            everyone_is_there, waiting = anyio.Event(), 0
            async with anyio.create_task_group() as group:
                for _ in range(3):
                    group.start_soon(ask)
