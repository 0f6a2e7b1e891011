"""What a batch learns from again, on a real Postgres."""

from __future__ import annotations

from collections import Counter

import pytest

from codelupe import Database, load_queries
from codelupe.log import EventLog
from codelupe_dataset.forgetting import forget
from tests.integration.stored_files import add_batch, add_file, add_repository

pytestmark = pytest.mark.anyio

SQL = load_queries("codelupe_sql", "trainer")


async def add_files(database: Database, name: str, count: int, language: str = "Python") -> list[int]:
    repository = await add_repository(database, name)
    return [await add_file(database, repository, f"{number}.x", language=language) for number in range(count)]


async def draw(database: Database, batch: int, share: float = 0.2, most: int = 100_000) -> list[int]:
    drawn = await database.fetchval(SQL.draw_replays, batch, share, 42, most)
    rows = await database.fetch("select file_id from batch_replays where batch_id = $1 order by file_id", batch)
    assert drawn == len(rows)
    return [row["file_id"] for row in rows]


async def test_a_share_of_what_is_trained_on_comes_from_earlier_batches(database: Database) -> None:
    earlier = await add_files(database, "a/old", 101)
    await add_batch(database, earlier, "model-1")
    batch = await add_batch(database, await add_files(database, "a/new", 81))
    replayed = await draw(database, batch)
    assert len(replayed) == 20
    assert set(replayed) < set(earlier[1:]), "the first one is only watched"
    assert await draw(database, await add_batch(database, await add_files(database, "a/third", 81)), share=0) == []


async def test_replays_are_drawn_in_turn_from_repositories_and_languages(database: Database) -> None:
    large, small = await add_files(database, "a/large", 200), await add_files(database, "a/small", 10)
    rust = await add_files(database, "a/rust", 10, "Rust")
    await add_batch(database, [*large, *small, *rust], "model-1")
    batch = await add_batch(database, await add_files(database, "a/new", 97))
    replayed = await draw(database, batch)
    assert len(replayed) == 24
    assert Counter("large" if one in large else "small" if one in small else "rust" for one in replayed) == {
        "large": 8,
        "small": 8,
        "rust": 8,
    }


async def test_files_of_a_rejected_batch_come_back_first(database: Database) -> None:
    promoted = await add_files(database, "a/one", 60)
    repository = await add_repository(database, "a/two")
    await add_batch(database, promoted, "model-1")
    rejected = [await add_file(database, repository, f"{number}.x") for number in range(11)]
    also_promoted = [await add_file(database, repository, f"also-{number}.x") for number in range(60)]
    await add_batch(database, rejected, "model-2", "rejected")
    await add_batch(database, also_promoted, "model-3")
    batch = await add_batch(database, await add_files(database, "a/new", 81))
    assert set(rejected[1:]) < set(await draw(database, batch))


async def test_all_files_of_a_failed_batch_come_back_once(database: Database) -> None:
    failed = await add_files(database, "a/failed", 31)
    await add_batch(database, failed, "model-1", "failed")
    second = await add_batch(database, await add_files(database, "a/second", 81), "model-2", "failed")
    assert await draw(database, second) == failed[1:]
    third = await add_batch(database, await add_files(database, "a/third", 11), "model-3", "training")
    assert len(await draw(database, third)) == 30 + 80
    fourth = await add_batch(database, await add_files(database, "a/fourth", 81))
    replayed = await draw(database, fourth)
    assert len(replayed) == 20, "what the third has learned from by now is only replayed"
    returned = await database.fetchval("select count(*) from batch_replays where batch_id = $1 and is_returned", fourth)
    assert returned == 0


async def test_neither_forgotten_files_nor_those_of_a_repository_that_is_out_are_replayed(database: Database) -> None:
    forgotten, out, kept = [await add_files(database, f"a/{name}", 11) for name in ("forgotten", "out", "kept")]
    await add_batch(database, [*forgotten, *out, *kept], "model-1")
    await database.execute(
        "update processed_files set content = null, rejected_by = 'forgotten' where id = any($1)", forgotten
    )
    await database.execute("update repositories set state = 'gone' where full_name = 'a/out'")
    batch = await add_batch(database, await add_files(database, "a/new", 201))
    assert await draw(database, batch) == kept


async def test_forgetting_names_models_that_learned_again_and_those_that_went_on_from_them(database: Database) -> None:
    theirs = await add_files(database, "a/theirs", 11)
    await add_batch(database, theirs, "model-1", "rejected")
    second = await add_batch(database, await add_files(database, "a/b", 41), "model-2")
    assert set(await draw(database, second)) <= set(theirs)
    await add_batch(database, await add_files(database, "a/c", 3), "model-3")
    await add_batch(database, await add_files(database, "a/d", 3), "model-4")
    await add_batch(database, await add_files(database, "a/e", 3), "model-5")
    await database.execute("update models set parent = 'model-2' where id = 'model-3'")
    await database.execute("update models set parent = 'model-3' where id = 'model-4'")
    untrained = await add_batch(database, await add_files(database, "a/f", 41))
    assert set(await draw(database, untrained)) & set(theirs)

    [event] = (await forget(EventLog(database), "a/theirs", by="me", reason="asked")).repositories
    assert event.models == ("model-1", "model-2", "model-3", "model-4")
    left = await database.fetch("select file_id from batch_replays where batch_id = $1", untrained)
    assert not {row["file_id"] for row in left} & set(theirs)


async def test_there_are_never_more_replays_than_a_batch_may_have_files(database: Database) -> None:
    await add_batch(database, await add_files(database, "a/failed", 31), "model-1", "failed")
    assert len(await draw(database, await add_batch(database, await add_files(database, "a/b", 3)), most=7)) == 7
