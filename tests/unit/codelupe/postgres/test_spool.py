from __future__ import annotations

from pathlib import Path

import pytest

from codelupe import Database, Spool, encode_row

pytestmark = pytest.mark.anyio


async def test_rows_come_out_as_they_went_in(database: Database, tmp_path: Path) -> None:
    rows = [
        (1, "tab\tline\nreturn\rback\\slash \\N \\. é", 0.1, b"bytes"),
        (2, None, None, None),
        (3, "", 1e-300, b""),
        *((number, "x" * 1000, 0.5, b"y") for number in range(4, 4000)),
    ]
    async with database.connection() as connection:
        await connection.execute("create temporary table it (number int, text text, ratio float8, data text)")
        with Spool(tmp_path / "new") as spool:
            await spool.add(map(encode_row, rows[:2]))
            await spool.add(map(encode_row, rows[2:]))
            assert list((tmp_path / "new").iterdir()) == []
            await spool.copy_into(connection, "it")
            await spool.copy_into(connection, "it", ["number", "text", "ratio", "data"])
        found = [tuple(row) for row in await connection.fetch("select * from it order by number")]
    expected = [(*row[:3], None if row[3] is None else row[3].decode()) for row in rows]
    assert found == [row for row in expected for _ in range(2)]
