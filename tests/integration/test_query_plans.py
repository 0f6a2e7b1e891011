"""Every statement that a running log lives on finds what it needs by the index meant for it, however long the log is.

The plans are the server's own account (auto_explain) of what it did, inside functions, too, over a million events.
Each statement is planned both ways that Postgres may choose: for its arguments, and once for all arguments. What it
may touch is counted in pages of 8 KiB.
"""

from __future__ import annotations

import asyncio
import hashlib
import re
import uuid
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import asyncpg
import msgspec
import pytest

from codelupe import Database, load_queries
from tests.integration.servers import fresh_database

pytestmark = [pytest.mark.anyio, pytest.mark.slow, pytest.mark.xdist_group("query-plans")]

SQL = load_queries("tests.integration", "query_plans")
LOG = load_queries("codelupe_sql", "log")
DEAD_LETTERS = load_queries("codelupe_sql", "dead_letters")
METRICS = load_queries("codelupe_sql", "metrics")
EVENTS = 1_000_000
MANY = 1_000
"""Streams of the new log, and events of a page."""
ROUNDS = 5
ROWS_PER_EVENT = 60
"""Some lookups of a few rows each; from every task to every other it would be hundreds."""
EXPLAINING = {
    "session_preload_libraries": "auto_explain",
    "auto_explain.log_min_duration": "0",
    "auto_explain.log_nested_statements": "on",
    "auto_explain.log_analyze": "on",
    "auto_explain.log_buffers": "on",
    "auto_explain.log_timing": "off",
    "auto_explain.log_format": "json",
    "auto_explain.log_level": "notice",
    "client_min_messages": "notice",
}
WORKER = uuid.UUID(int=7)
TYPES = ["RepoDiscovered", "RepoAccepted", "RepoCloned", "FilesExtracted"]
KINDS = TYPES, [1] * len(TYPES)
LARGE = re.compile(r"events_\d+|tasks|event_keys|stream_heads")
BY_POSITION, IN_RANGES, BY_KEY, HEADS = (
    "events_pkey", "events_id_recorded_at_stream_idx", "event_keys_pkey", "stream_heads_pkey"
)  # fmt: skip
BY_STREAM = f"events_by_stream {IN_RANGES}"
HANDED_OUT = f"{BY_POSITION} tasks_active tasks_pkey tasks_queued tasks_ready"
NEXT_OF_STREAM = "tasks_pkey tasks_queued tasks_dead"
BATCHES = f"{BY_POSITION} tasks_pkey"

Node = dict[str, Any]


@dataclass(frozen=True)
class Known:
    """What statements are asked about."""

    task: tuple[str, str, int, uuid.UUID]
    dead_lettered: int
    old: asyncpg.Record
    recent: asyncpg.Record


@dataclass(frozen=True)
class Case:
    """A statement, the indexes that it may use, how many pages it may touch, what it may read from end to end."""

    sql: str
    arguments: Callable[[Known], Sequence[object]]
    indexes: str
    pages: int
    scans: str = ""
    pages_before_17: int = 0
    """Where older servers need more: they go down the index once for each of the values of an array."""


def entries(count: int, first_key: int | None = None) -> tuple[list[Any], ...]:
    """The columns of events with new keys, or with those that number ``first_key`` and the ones after it have."""
    keys = [uuid.uuid4() for _ in range(count)] if first_key is None else known_keys(first_key, count)
    texts = ["{}"] * count
    streams = [f"repo/test:{number}" for number in range(count)]
    return streams, ["RepoCloned"] * count, [1] * count, [uuid.uuid4() for _ in range(count)], texts, texts, keys


def known_keys(first: int, count: int) -> list[uuid.UUID]:
    return [uuid.UUID(hashlib.md5(str(number).encode()).hexdigest()) for number in range(first, first + count)]


def feed(name: str, at_most: int) -> Sequence[object]:
    return [name], [0], [4], at_most, WORKER, [name] * len(TYPES), TYPES, [1] * len(TYPES)


STREAMS = [f"repo/test:{number}" for number in range(1900, 2000)]

CASES = {
    # appending
    "one": Case(LOG.append_one, lambda _: ("repo/test:1", "RepoCloned", 1, uuid.uuid4(), "{}", "{}"), "", 25),
    "one with a key": Case(LOG.append_few, lambda _: entries(1), "", 40),
    "one with a known key": Case(LOG.append_few, lambda _: entries(1, 77), BY_KEY, 30),
    "a few": Case(LOG.append_few, lambda _: entries(16), "", 480),
    "a few with known keys": Case(LOG.append_few, lambda _: entries(16, 500), BY_KEY, 320),
    "many": Case(LOG.reserve_positions, lambda _: (entries(100)[-1],), "", 2_000),
    "many with known keys": Case(LOG.reserve_positions, lambda _: (known_keys(900, 100),), BY_KEY, 2_000),
    "expected versions": Case(LOG.advance_streams, lambda _: (STREAMS[:9], [20] * 9, [1] * 9), HEADS, 320),
    "versions": Case(LOG.stream_versions, lambda _: (STREAMS[:9],), HEADS, 60),
    # reading
    "high-water mark": Case(LOG.high_water_mark, lambda _: (), "", 10),
    "head position": Case(LOG.head_position, lambda _: (), "", 10),
    "all from the middle": Case(LOG.read_all, lambda _: (500_000, EVENTS, 1000), BY_POSITION, 80),
    "all from the beginning": Case(LOG.read_all, lambda _: (0, EVENTS, 1000), BY_POSITION, 80),
    "a stream": Case(LOG.read_stream, lambda _: ("repo/test:17", 0, 1000), BY_STREAM, 650),
    "a stream's end": Case(LOG.read_stream, lambda _: ("repo/test:17", 900_000, 1000), BY_STREAM, 650),
    "a long stream's end": Case(LOG.read_stream, lambda _: ("crawl", 149_000, 1000), BY_STREAM, 650),
    "the newest": Case(LOG.read_latest, lambda _: (0, None, 20), BY_POSITION, 30),
    "the newest of a type": Case(LOG.read_latest, lambda _: (0, "RepoCloned", 20), BY_POSITION, 30),
    "an old id": Case(LOG.event_by_id, lambda known: (known.old["id"],), IN_RANGES, 700),
    "a recent id": Case(LOG.event_by_id, lambda known: (known.recent["id"],), IN_RANGES, 700),
    "no such id": Case(LOG.event_by_id, lambda _: (uuid.uuid4(),), IN_RANGES, 700),
    "a position": Case(LOG.event_at, lambda _: (500_000,), BY_POSITION, 10),
    # handing out
    "feed": Case(LOG.feed, lambda _: feed("test.batch", 100), HANDED_OUT, 2_800),
    "feed of a rare type": Case(LOG.feed, lambda _: feed("test.rare", 100), HANDED_OUT, 500),
    "batch": Case(LOG.open_batch, lambda _: ("test.batch", 1000, 16), BATCHES, 100),
    "batch beside tasks": Case(LOG.open_batch, lambda _: ("test.strict", 1000, 16), BATCHES, 100),
    "batch of a rare type": Case(LOG.open_batch, lambda _: ("test.rare", 100, 16), BATCHES, 400),
    "a long batch": Case(LOG.read_batch, lambda _: (500_000, 550_000, TYPES, 1000), BY_POSITION, 80),
    "a batch's events": Case(
        LOG.events_at, lambda _: ([*range(500_000, 500_100)],), BY_POSITION, 400, pages_before_17=1000
    ),
    "streams with tasks": Case(LOG.streams_with_tasks, lambda _: ("test.strict", STREAMS, True), "tasks_pkey", 700),
    "streams at work": Case(LOG.streams_with_tasks, lambda _: ("test.lenient", STREAMS, False), "tasks_pkey", 700),
    "new tasks": Case(
        LOG.make_tasks,
        lambda _: (
            "test.batch",
            STREAMS,
            [*range(990_001, 990_101)],
            ["RepoCloned"] * 100,
            [1] * 100,
            1000,
            None,
        ),
        "tasks_active tasks_dead tasks_pkey tasks_queued tasks_ready",
        6_000,
        pages_before_17=8_000,
    ),
    "cursor": Case(LOG.move_cursor, lambda _: ("test.strict", None, 990_010, 1), "", 10),
    "claim": Case(LOG.claim, lambda _: ("test.backlog", WORKER, 4, *KINDS), HANDED_OUT, 250),
    "claim of nothing": Case(LOG.claim, lambda _: ("test.batch", WORKER, 4, *KINDS), HANDED_OUT, 20),
    "claim past 1,000 that wait": Case(LOG.claim, lambda _: ("test.strict", WORKER, 4, *KINDS), HANDED_OUT, 250),
    "claim past dead letters, too": Case(LOG.claim, lambda _: ("test.lenient", WORKER, 4, *KINDS), HANDED_OUT, 250),
    # settling
    "finish": Case(LOG.finish, lambda known: known.task, NEXT_OF_STREAM, 40),
    "complete": Case(LOG.complete, lambda known: (*known.task, *entries(0)), NEXT_OF_STREAM, 40),
    "complete and emit": Case(LOG.complete, lambda known: (*known.task, *entries(1)), NEXT_OF_STREAM, 80),
    "hold": Case(LOG.hold, lambda known: known.task, "tasks_pkey", 10),
    "progress": Case(LOG.save_checkpoint, lambda known: (*known.task, "{}"), "tasks_pkey", 15),
    "retry": Case(LOG.retry, lambda known: (*known.task, 1, timedelta(seconds=1), "e", "t"), NEXT_OF_STREAM, 50),
    "dead letter": Case(LOG.dead_letter, lambda known: (*known.task, "error", "traceback"), NEXT_OF_STREAM, 40),
    "requeue": Case(LOG.requeue_lost_tasks, lambda _: ([],), "tasks_active", 2_000),
    "retry by hand": Case(
        DEAD_LETTERS.retry_dead_letters,
        lambda known: ([known.dead_lettered], *[None] * 4),
        "tasks_dead_lettered_id tasks_dead_lettered tasks_active tasks_queued tasks_dead",
        2_000,
    ),
    "dead letters": Case(
        DEAD_LETTERS.list_dead_letters,
        lambda _: (*[None] * 5, None, 50),
        f"tasks_dead_lettered tasks_dead_lettered_id {BY_POSITION}",
        1_600,
    ),
    # watching
    "what is left": Case(
        LOG.is_busy,
        lambda _: (["test.strict", "test.lenient"], EVENTS, ["test.strict"], ["RepoCloned"], [1]),
        "tasks_ready tasks_active",
        10_000,
        "tasks",
    ),
    "subscriptions": Case(LOG.subscriptions, lambda _: (), "", 3_000, "tasks"),
    "metrics": Case(METRICS.consumers, lambda _: (), BY_POSITION, 4_000, "tasks"),
    # replaying
    "a time": Case(LOG.position_at_time, lambda known: (known.recent["recorded_at"],), IN_RANGES, 4_000),
    "one stream again": Case(LOG.redeliver_stream, lambda _: ("test.strict", "repo/test:17", 0), "tasks_active", 50),
}


class Plans:
    """What the server did for one statement and for those inside of it; the outermost comes last."""

    def __init__(self, messages: Sequence[str]) -> None:
        self._plans: list[Node] = [msgspec.json.decode(text.partition("plan:\n")[2])["Plan"] for text in messages]

    @property
    def pages(self) -> int:
        return _pages(self._plans[-1])

    @property
    def indexes(self) -> set[str]:
        """Those of the large tables, whichever partition they belong to."""
        names = {node["Index Name"] for node in self._nodes() if "Index Name" in node}
        return {re.sub(r"_\d+", "", name) for name in names if LARGE.match(name)}

    @property
    def scans(self) -> set[str]:
        """The large tables that were read from end to end; partitions ahead of the log are empty."""
        scanned = [node for node in self._nodes() if node["Node Type"] == "Seq Scan" and _pages(node)]
        return {node["Relation Name"] for node in scanned if LARGE.fullmatch(node["Relation Name"])}

    @property
    def rows(self) -> int:
        """How many rows were looked at, kept or not, each time that they were."""
        kinds = "Actual Rows", "Rows Removed by Filter", "Rows Removed by Join Filter"
        return int(sum(node["Actual Loops"] * sum(node.get(kind, 0) for kind in kinds) for node in self._nodes()))

    def _nodes(self) -> Iterator[Node]:
        """All that was executed."""
        waiting = list(self._plans)
        while waiting:
            node = waiting.pop()
            waiting += node.get("Plans", [])
            if node["Actual Loops"]:
                yield node


def _pages(node: Node) -> int:
    return int(node["Shared Hit Blocks"]) + int(node["Shared Read Blocks"])


class Explainer:
    """A connection that says how its statements are executed."""

    def __init__(self, connection: asyncpg.Connection[asyncpg.Record]) -> None:
        self._connection = connection
        self._messages: list[str] = []
        connection.add_log_listener(lambda _, message: self._messages.append(message.message))

    async def fetch(self, sql: str, *arguments: object) -> tuple[list[asyncpg.Record], Plans]:
        self._messages.clear()
        rows = await self._connection.fetch(sql, *arguments)
        await asyncio.sleep(0)  # messages are handed over by the loop
        return rows, Plans(self._messages)

    async def explain(self, sql: str, arguments: Sequence[object], mode: str) -> Plans:
        """Executes it twice and undoes it: the first time Postgres also looks at its own tables."""
        for _ in range(2):
            transaction = self._connection.transaction()
            await transaction.start()
            try:
                await self._connection.execute("select set_config('plan_cache_mode', $1, true)", mode)
                _, plans = await self.fetch(sql, *arguments)
            finally:
                await transaction.rollback()
        return plans


@pytest.fixture(scope="module")
async def large_log(postgres_url: str) -> AsyncIterator[str]:
    """The URL of a database whose log is long: two partitions are full, the third is half full."""
    async with fresh_database(postgres_url) as url:
        async with Database(f"{url}&synchronous_commit=off") as database:
            await database.execute(SQL.small_partitions)
            await database.execute(SQL.append_events, EVENTS)
            await database.execute(SQL.more_partitions)
            await database.execute(SQL.index_full_partitions)
            await database.execute(SQL.add_keys)
            await database.execute(SQL.add_stream_heads)
            await database.execute(SQL.add_subscriptions)
            await database.execute(LOG.register_worker, WORKER, timedelta(hours=1), "elsewhere", "", 1, "")
            await database.execute(SQL.add_tasks, WORKER)
            await database.execute(SQL.settle_down)
        yield url


@pytest.fixture(scope="module")
async def asked(large_log: str) -> AsyncIterator[tuple[Explainer, Known]]:
    """A connection to the long log, and what it is asked about."""
    connection = await asyncpg.connect(large_log, server_settings=EXPLAINING)
    try:
        task = await connection.fetchrow(SQL.running_task)
        old, recent = [await connection.fetchrow(LOG.event_at, at) for at in (EVENTS // 2, EVENTS - 50_000)]
        assert task
        assert old
        assert recent
        known = Known(tuple(task), await connection.fetchval(SQL.dead_lettered_task), old, recent)
        yield Explainer(connection), known
    finally:
        await connection.close()


@pytest.mark.parametrize("mode", ["force_generic_plan", "force_custom_plan"])
@pytest.mark.parametrize("it", CASES.values(), ids=CASES)
async def test_a_statement_uses_its_indexes_and_reads_little(
    asked: tuple[Explainer, Known], it: Case, mode: str, chosen_postgres: int | None
) -> None:
    explainer, known = asked
    plans = await explainer.explain(it.sql, it.arguments(known), mode)
    assert plans.scans <= set(it.scans.split())
    assert plans.indexes <= set(it.indexes.split())
    is_old = chosen_postgres is not None and chosen_postgres < 17
    assert plans.pages <= (it.pages_before_17 if is_old and it.pages_before_17 else it.pages)


class NewLog:
    """What a daemon does on a database that is not analyzed yet; each step says how many rows an event cost."""

    def __init__(self, explainer: Explainer) -> None:
        self._explainer = explainer
        self._batch_read = 0

    async def feed(self) -> float:
        rows, plans = await self._explainer.fetch(LOG.feed, *feed("test.tasks", MANY))
        await self._finish([row for row in rows if row["task_token"] is not None])
        return plans.rows / MANY

    async def claim(self) -> float:
        rows, plans = await self._explainer.fetch(LOG.claim, "test.tasks", WORKER, 64, *KINDS)
        return (plans.rows + await self._finish(rows)) / 64

    async def queue_a_batch(self) -> float:
        """As if all streams of the batch had tasks already."""
        rows, read = await self._explainer.fetch(LOG.read_batch, self._batch_read, EVENTS, TYPES, MANY)
        columns = [[row[column] for row in rows] for column in ("stream", "position", "type", "version")]
        _, held_up = await self._explainer.fetch(LOG.streams_with_tasks, "test.batches", columns[0], True)
        _, made = await self._explainer.fetch(LOG.make_tasks, "test.batches", *columns, MANY, None)
        self._batch_read += len(rows)
        return (read.rows + held_up.rows + made.rows) / MANY

    async def _finish(self, rows: Sequence[asyncpg.Record]) -> int:
        """Half of them, and the others fail."""
        total = 0
        for number, row in enumerate(rows):
            task = "test.tasks", row["stream"], row["position"], row["task_token"]
            if number % 2:
                _, plans = await self._explainer.fetch(LOG.finish, *task)
            else:
                _, plans = await self._explainer.fetch(LOG.retry, *task, 1, timedelta(0), "error", "traceback")
            total += plans.rows
        return total


@pytest.mark.parametrize("planned", ["with the first events", "while there was nothing"])
async def test_on_a_new_database_statements_go_from_task_to_task_as_well(postgres_url: str, planned: str) -> None:
    """A session keeps its first plans, or makes as poor ones, until the tables are analyzed a minute later."""
    async with fresh_database(postgres_url) as url:
        connection = await asyncpg.connect(url, server_settings=EXPLAINING)
        try:
            log = NewLog(Explainer(connection))
            await connection.execute(SQL.add_subscriptions_to_nothing)
            await connection.execute(LOG.register_worker, WORKER, timedelta(hours=1), "elsewhere", "", 1, "")
            steps = log.feed, log.claim, log.queue_a_batch
            for _ in range(6 if planned == "while there was nothing" else 0):
                for step in steps:
                    await step()
            await connection.execute(SQL.append_events_of_many_streams, MANY, ROUNDS)
            costs = [(step.__name__, round(await step(), 1)) for _ in range(ROUNDS) for step in steps]
        finally:
            await connection.close()
    assert max(cost for _, cost in costs) < ROWS_PER_EVENT, costs
