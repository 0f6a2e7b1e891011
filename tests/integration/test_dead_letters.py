"""What a stage gave up on: kept with its cause, tried again or dropped by a person, and never a danger to the rest."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import anyio
import pytest
import structlog

from codelupe import Database, HandlerContext, Reject, RetryLater, Subscription
from codelupe.errors import CodelupeError
from codelupe.observability.logs import configure_logging
from codelupe.views.pipeline import read_subscriptions
from codelupe.work.dead_letters import (
    EVERYTHING,
    SQL,
    Selection,
    count_dead_letters,
    drop_dead_letters,
    list_dead_letters,
    retry_dead_letters,
)
from codelupe_events import BatchReady, RepoEmpty, TaskDeadLettered
from tests.conftest import RunUntilIdle
from tests.integration.test_cli import Shell
from tests.plugins import FAST, batch, empty, make_plugin
from tests.processes import HANGS

pytestmark = pytest.mark.anyio


@pytest.fixture(autouse=True)
def logs_as_in_production() -> Iterator[None]:
    configure_logging("info", "json")
    yield
    structlog.reset_defaults()


class Stubborn:
    """A handler that rejects events until it is mended."""

    def __init__(self) -> None:
        self.mended = False
        self.handled: list[int] = []
        self.attempts: list[int] = []

    async def __call__(self, event: BatchReady, context: HandlerContext) -> None:
        self.attempts.append(context.attempt)
        if not self.mended:
            raise Reject(f"cannot stand batch {event.batch_id}")
        self.handled.append(event.files)
        async with context.transaction():
            context.emit(empty(event.batch_id))


def stage_of(handler: Stubborn, name: str = "s") -> object:
    return make_plugin(subscriptions=[Subscription(name=name, events=(BatchReady,), handler=handler, retry=FAST)])


async def only_stage(database: Database) -> dict[str, object]:
    [stage] = await read_subscriptions(database)
    return {key: value for key, value in stage.items() if key != "name" and value}


async def test_a_dead_letter_says_what_and_why(run_until_idle: RunUntilIdle, database: Database) -> None:
    events = await run_until_idle({"test": stage_of(Stubborn())}, events=[batch(7)])
    [letter] = await list_dead_letters(database)
    assert (letter.subscription, letter.stream, letter.type) == ("test.s", "batch/7", "BatchReady")
    assert (letter.position, letter.attempts, letter.crashes) == (1, 1, 0)
    assert letter.error == "cannot stand batch 7"
    assert "Traceback" in letter.traceback
    [said] = [event for event in events if isinstance(event, TaskDeadLettered)]
    assert (said.event_id, said.error) == (str(letter.event_id), letter.error)


async def test_dead_letters_come_oldest_first_and_by_stage(run_until_idle: RunUntilIdle, database: Database) -> None:
    await run_until_idle({"a": stage_of(Stubborn())}, events=[batch(1)])
    await run_until_idle({"b": stage_of(Stubborn())})
    await run_until_idle({"a": stage_of(Stubborn())}, events=[batch(2)])
    letters = await list_dead_letters(database)
    assert [(one.subscription, one.stream) for one in letters] == [
        ("a.s", "batch/1"),
        ("b.s", "batch/1"),
        ("a.s", "batch/2"),
    ]
    assert [one.stream for one in await list_dead_letters(database, Selection(subscription="b.s"))] == ["batch/1"]
    assert await list_dead_letters(database, Selection(subscription="c.s")) == []


async def test_retried_it_is_the_same_task_with_all_its_attempts_before_it(
    run_until_idle: RunUntilIdle, database: Database
) -> None:
    handler = Stubborn()
    await run_until_idle({"test": stage_of(handler)}, events=[batch(1, 10), batch(1, 11)])
    assert await only_stage(database) == {"waiting": 1, "dead_lettered": 1}
    [letter] = await list_dead_letters(database)
    handler.mended = True
    assert await retry_dead_letters(database, Selection(ids=[letter.id])) == [letter.id]
    events = await run_until_idle({"test": stage_of(handler)})
    assert handler.handled == [10, 11], "what waited behind it comes after it"
    assert handler.attempts == [1, 1, 1]
    assert events.count(empty(1)) == 2
    assert await only_stage(database) == {"done": 2}


async def test_retried_in_vain_it_is_dead_lettered_again(run_until_idle: RunUntilIdle, database: Database) -> None:
    handler = Stubborn()
    await run_until_idle({"test": stage_of(handler)}, events=[batch(1)])
    [first] = await list_dead_letters(database)
    await retry_dead_letters(database, Selection(ids=[first.id]))
    events = await run_until_idle({"test": stage_of(handler)})
    [second] = await list_dead_letters(database)
    assert second.id == first.id
    assert second.dead_lettered_at > first.dead_lettered_at
    assert len([event for event in events if isinstance(event, TaskDeadLettered)]) == 2


async def test_dropped_it_lets_its_stream_go_on(run_until_idle: RunUntilIdle, database: Database) -> None:
    handler = Stubborn()
    await run_until_idle({"test": stage_of(handler)}, events=[batch(1, 10), batch(1, 11)])
    [letter] = await list_dead_letters(database)
    handler.mended = True
    assert await drop_dead_letters(database, Selection(ids=[letter.id])) == [letter.id]
    events = await run_until_idle({"test": stage_of(handler)})
    assert handler.handled == [11]
    assert await list_dead_letters(database) == []
    assert events.count(batch(1, 10)) == 1, "the event stays in the log"
    assert await only_stage(database) == {"done": 1}, "what was dropped is not counted as done"


async def test_what_is_not_dead_lettered_is_neither_retried_nor_dropped(
    run_until_idle: RunUntilIdle, database: Database
) -> None:
    handler = Stubborn()
    await run_until_idle({"test": stage_of(handler)}, events=[batch(1, 10), batch(1, 11)])
    [letter] = await list_dead_letters(database)
    [waiting] = [row["id"] for row in await database.fetch("select id from tasks where state = 'queued'")]
    for act in (retry_dead_letters, drop_dead_letters, list_dead_letters):
        with pytest.raises(CodelupeError, match=f"there is no dead letter {waiting}"):
            await act(database, Selection(ids=[letter.id, waiting]))
        assert await act(database, Selection(ids=[])) == []
    assert await only_stage(database) == {"waiting": 1, "dead_lettered": 1}, (
        "nor is the dead letter that was named with it"
    )
    assert [one.id for one in await list_dead_letters(database)] == [letter.id]


NAMES = ["a_1", "ab1", r"a\1", "50%", "505", "a*"]
FITTING = [
    (Selection(), NAMES),
    (Selection(subscription="test.s"), NAMES),
    (Selection(subscription="s"), []),
    (Selection(type="RepoEmpty"), NAMES),
    (Selection(type="BatchReady"), []),
    (Selection(stream="repo/a_1"), ["a_1"]),
    (Selection(stream=r"repo/a\1"), [r"a\1"]),
    (Selection(stream="repo/50%"), ["50%"]),
    (Selection(stream="repo/a*"), ["a_1", "ab1", r"a\1", "a*"]),
    (Selection(stream="*5*"), ["50%", "505"]),
    (Selection(stream="repo/"), []),
    (Selection(stream="*", error="cannot stand 50%"), ["50%"]),
    (Selection(error="Cannot"), []),
    (Selection(stream="repo/a*", error="1", type="RepoEmpty", subscription="test.s"), ["a_1", "ab1", r"a\1"]),
]
"""Selections, and whose dead letters they let through."""


async def test_a_selection_lets_through_what_fits_all_of_it(run_until_idle: RunUntilIdle, database: Database) -> None:
    async def fail(event: RepoEmpty, context: HandlerContext) -> None:
        raise Reject(f"cannot stand {event.repository_id}")

    stage = make_plugin(subscriptions=[Subscription(name="s", events=(RepoEmpty,), handler=fail)])
    events = [RepoEmpty(repository_id=name, url="") for name in NAMES]
    await run_until_idle({"test": stage}, events=events, quarantine_after=1000)
    for selection, names in FITTING:
        found = await list_dead_letters(database, selection)
        assert sorted(one.stream for one in found) == sorted(f"repo/{name}" for name in names), selection
        assert await count_dead_letters(database, selection) == len(names)
    for selection, names in FITTING:
        assert len(await retry_dead_letters(database, selection)) == len(names), selection
        assert await count_dead_letters(database) == len(NAMES) - len(names)
        await database.execute("update tasks set state = 'dead_lettered' where state = 'ready'")
    for selection, names in FITTING:
        await database.execute("create table kept as table tasks")
        assert len(await drop_dead_letters(database, selection)) == len(names), selection
        assert await count_dead_letters(database) == len(NAMES) - len(names)
        await database.execute("truncate tasks; insert into tasks overriding system value table kept; drop table kept")


async def test_what_one_retries_another_does_not_drop(run_until_idle: RunUntilIdle, database: Database) -> None:
    """The second waits for the first to commit, looks again, and finds nothing that is dead-lettered."""
    await run_until_idle({"test": stage_of(Stubborn())}, events=[batch(1)])
    async with anyio.create_task_group() as group, database.transaction() as connection:
        await connection.fetch(SQL.retry_dead_letters, *EVERYTHING.as_arguments())
        group.start_soon(drop_dead_letters, database, EVERYTHING)
        with anyio.fail_after(HANGS):
            while not await database.fetchval("select count(*) from pg_locks where not granted"):
                await anyio.sleep(0.01)
    assert await only_stage(database) == {"waiting": 1}


async def test_the_command_line_filters_asks_and_says_how_many(
    run_until_idle: RunUntilIdle, database_url: str, tmp_path: Path
) -> None:
    shell = Shell(tmp_path, CODELUPE_DATABASE_URL=database_url)
    await run_until_idle({"test": stage_of(Stubborn())}, events=[batch(number) for number in (1, 2, 11, 12, 21)])

    async def batches(*options: str) -> dict[str, int]:
        letters = (await shell("dead-letters", "list", "--json", *options)).json()
        return {letter["stream"].removeprefix("batch/"): letter["id"] for letter in letters}

    numbers = await batches()
    assert set(numbers) == {"1", "2", "11", "12", "21"}
    assert set(await batches("--stream", "batch/1*", "--subscription", "test.s", "--type", "BatchReady")) == {
        "1",
        "11",
        "12",
    }
    assert set(await batches("--error", "batch 2")) == {"2", "21"}

    retry, drop = ("dead-letters", "retry"), ("dead-letters", "drop")
    assert (await shell(*retry, "--all-matching", "--stream", "batch/", "--json")).json() == {"retried": []}
    retried = await shell(*retry, "--all-matching", "--stream", "batch/1", "--json")
    assert retried.json() == {"retried": [numbers["1"]]}
    elsewhere = await shell(*retry, str(numbers["2"]), "--error", "batch 11")
    elsewhere.failed(1, f"no dead letter {numbers['2']}")

    for answer, code in (("n\n", 0), ("", 1)):
        asked = await shell.tell(answer, *drop, "--all-matching", "--error", "batch 1")
        assert (asked.code, asked.out.strip()) == (code, "")
        assert "Drop 2 dead letters?" in asked.err
    assert (await shell(*drop, "--all-matching", "--error", "batch 1", "--yes")).out == "2 dropped.\n"
    assert (await shell(*drop, str(numbers["2"]))).out == "1 dropped.\n", "it does not ask about a single one"
    assert (await shell(*drop, "--all-matching", "--json")).json() == {"dropped": [numbers["21"]]}
    assert await batches() == {}


class UnspeakableError(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no words")


ERRORS: dict[BaseException, tuple[int, str]] = {
    RuntimeError("a file named \udcff.py"): (3, r"RuntimeError: a file named \udcff.py"),
    RuntimeError("a\x00b"): (3, "RuntimeError: a\N{SYMBOL FOR NULL}b"),
    RuntimeError(r"\u0000 cannot be converted to text"): (3, r"RuntimeError: \u0000 cannot be converted to text"),
    RuntimeError("x" * 300_000): (3, "RuntimeError: " + "x" * 2000),
    ExceptionGroup("several", [ValueError("one"), ValueError("two")]): (3, "ValueError: one; ValueError: two"),
    ExceptionGroup("sole", [Reject("no use")]): (1, "no use"),
    SystemExit(3): (3, "SystemExit: 3"),
    UnspeakableError(): (3, "UnspeakableError: it cannot say what"),
    RetryLater("for ever", after=timedelta.max): (1, "for ever (and that cannot be obeyed: "),
    RetryLater("soon", after=5): (3, "soon (and that cannot be obeyed: "),  # type: ignore[arg-type]
}
"""What a handler may raise; how often it is tried, and the words that are kept."""


async def test_no_error_of_a_handler_harms_the_others(run_until_idle: RunUntilIdle, database: Database) -> None:
    """Whatever it raises is retried or dead-lettered with its words, and its neighbours work on."""
    errors = list(ERRORS)
    seen: list[int] = []

    async def fail(event: BatchReady, context: HandlerContext) -> None:
        raise errors[event.batch_id]

    async def see(event: BatchReady, context: HandlerContext) -> None:
        seen.append(event.batch_id)

    broken = make_plugin(
        subscriptions=[Subscription(name="s", events=(BatchReady,), handler=fail, retry=FAST, concurrency=16)]
    )
    sound = make_plugin(subscriptions=[Subscription(name="s", events=(BatchReady,), handler=see)])
    events = [batch(number) for number in range(len(errors))]
    await run_until_idle({"broken": broken, "sound": sound}, events=events, quarantine_after=1000)
    assert sorted(seen) == list(range(len(errors)))
    letters = {int(letter.stream.removeprefix("batch/")): letter for letter in await list_dead_letters(database)}
    assert sorted(letters) == sorted(seen)
    for number, error in enumerate(errors):
        attempts, words = ERRORS[error]
        assert letters[number].attempts == attempts, words
        assert letters[number].error.startswith(words)


# --- many ---

MANY = 100_000
MAKE_MANY = """
insert into subscriptions (name, position, types) values ('test.s', 100000, '{BatchReady}');
insert into events (stream, type, version, id, data, metadata)
select 'batch/' || n, 'BatchReady', 1, gen_random_uuid(),
       jsonb_build_object('batch_id', n, 'files', 0, 'characters', 0, 'repositories', 0, 'min_score', 0), '{}'
from generate_series(1, 100000) as n;
insert into tasks (subscription, stream, position, type, version, state, attempts, dead_lettered_at, error, traceback)
select 'test.s', stream, position, type, version, 'dead_lettered', 3, log_time() + position * interval '1 ms', 'no', ''
from events order by position
"""


async def rows_looked_at(database: Database, statement: str, *arguments: object) -> int:
    """By the part of the plan that looks at most."""
    [plan] = json.loads(await database.fetchval(f"explain (analyze, format json) {statement}", *arguments))

    def most(node: dict[str, Any]) -> int:
        here = (node["Actual Rows"] + node.get("Rows Removed by Filter", 0)) * node["Actual Loops"]
        return max([int(here), *(most(child) for child in node.get("Plans", []))])

    return most(plan["Plan"])


async def test_a_page_of_many_dead_letters_costs_a_page(database: Database, tmp_path: Path) -> None:
    await database.execute(MAKE_MANY)
    await database.execute("analyze tasks; analyze events")  # as autovacuum does, of so many
    page = await list_dead_letters(database, at_most=100)
    assert [letter.position for letter in page] == list(range(1, 101))
    for after in (None, page[-1].id, page[-1].id + 50_000):
        assert await rows_looked_at(database, SQL.list_dead_letters, *EVERYTHING.as_arguments(), after, 100) <= 200
    shell = Shell(tmp_path, CODELUPE_DATABASE_URL=database.url)
    as_text = await shell("dead-letters", "list")
    assert as_text.out.count("BatchReady") == 100
    assert f"100 of 100,000 dead letters; --after {page[-1].id} goes on" in " ".join(as_text.err.split())
    as_json = await shell("dead-letters", "list", "--json", "--after", str(page[-1].id), "--limit", "3")
    assert [one["position"] for one in json.loads(as_json.out)] == [101, 102, 103]
    assert "3 of 100,000 dead letters" in as_json.err
    last = await shell("dead-letters", "list", "--json", "--after", str(page[0].id + MANY - 3))
    assert [one["position"] for one in last.json()] == [MANY - 1, MANY]
    assert last.err == ""


async def test_twenty_thousand_in_as_many_streams_may_be_retried_at_once(database: Database) -> None:
    await database.execute(MAKE_MANY.replace(str(MANY), "20000"))
    retried = await retry_dead_letters(database, Selection(subscription="test.s"))
    assert len(retried) == 20_000
    states = await database.fetch("select state, count(*) as n from tasks group by state")
    assert [tuple(row) for row in states] == [("ready", 20_000)]
