"""What has been done and what is yet to do, as data."""

from __future__ import annotations

import asyncio
import sys
import threading
from collections.abc import Awaitable, Callable
from typing import Any

import anyio
import msgspec
import pytest

from codelupe import Database, HandlerContext, Reject, StatusSection, Subscription
from codelupe.errors import DatabaseUnavailable
from codelupe.host import status_sections
from codelupe.host.extensions import _HOST_NAMES, Extensions
from codelupe.host.status_sections import guard_status_section
from codelupe.views.pipeline import FailedSection, read_status, read_subscriptions
from codelupe_crawler import codelupe_status_sections as of_repositories
from codelupe_events import BatchReady, RepoEmpty
from codelupe_filters import codelupe_status_sections as of_files
from codelupe_trainer import codelupe_status_sections as of_models
from codelupe_trainer.views import read_models
from tests.conftest import RunUntilIdle
from tests.integration.test_trace import add_batch, add_model, add_repository
from tests.plugins import batch, empty, make_plugin
from tests.processes import HANGS

pytestmark = pytest.mark.anyio

EXTENSIONS = Extensions(status_sections=[*of_repositories(), *of_files(), *of_models()])


async def test_the_status_of_nothing_is_complete(database: Database) -> None:
    assert await read_status(database, EXTENSIONS) == {
        "subscriptions": [],
        "jobs": [],
        "repositories": {"total": 0, "by_state": {}, "rejected_by": {}},
        "crawl": {"crawls": [], "waits": [], "given_up": []},
        "files": {
            "seen": 0,
            "stored": 0,
            "rejected": 0,
            "scored": 0,
            "good": 0,
            "mean_score": None,
            "rejected_by": {},
        },
        "training": {
            "status": "no model yet",
            "model_loaded": None,
            "state": {
                "last_trained_id": 0,
                "total_training_runs": 0,
                "total_samples_trained": 0,
                "last_training_time": None,
            },
            "train_metrics": {},
            "config": {},
            "progress": None,
        },
        "batches": [],
        "models": [],
        "paused": [],
    }


async def test_stages_count_what_waits_runs_is_done_and_is_dead_lettered(
    run_until_idle: RunUntilIdle, database: Database
) -> None:
    async def handle(event: BatchReady, context: HandlerContext) -> None:
        if event.files == 9:
            raise Reject("no use")

    subscriptions = [
        Subscription(name="picky", events=(BatchReady,), handler=handle),
        Subscription(name="idle", events=(RepoEmpty,), handler=handle),
    ]
    events = [batch(1), batch(2, 9), batch(2), batch(3)]
    await run_until_idle({"test": make_plugin(subscriptions=subscriptions)}, events=events)
    assert await read_subscriptions(database, ["test.picky", "test.idle"]) == [
        {"name": "test.picky", "waiting": 1, "running": 0, "done": 2, "dead_lettered": 1},
        {"name": "test.idle", "waiting": 0, "running": 0, "done": 0, "dead_lettered": 0},
    ]


async def test_a_handler_sees_itself_running(run_until_idle: RunUntilIdle, database: Database) -> None:
    seen = []

    async def handle(event: RepoEmpty, context: HandlerContext) -> None:
        seen.extend(await read_subscriptions(database))

    it = make_plugin(subscriptions=[Subscription(name="s", events=(RepoEmpty,), handler=handle)])
    await run_until_idle({"test": it}, events=[empty(1)])
    assert seen == [{"name": "test.s", "waiting": 0, "running": 1, "done": 0, "dead_lettered": 0}]


async def test_stages_come_in_the_order_given_and_unknown_ones_after_them(database: Database) -> None:
    for name in ("a.one", "b.two", "c.three", "d.four"):
        await database.execute("insert into subscriptions (name, position) values ($1, 0)", name)
    stages = await read_subscriptions(database, ["d.four", "b.two", "gone.subscription"])
    assert [subscription["name"] for subscription in stages] == ["d.four", "b.two", "a.one", "c.three"]


async def test_repositories_and_files_are_counted_with_the_reasons_against_them(database: Database) -> None:
    await add_repository(database, "good", 2, batch_id=None)
    reasons = [{"rule": "too-few-stars", "detail": "3"}, {"rule": "fork", "detail": ""}]
    for name, rules in (("a", reasons), ("b", reasons[:1])):
        await database.execute(
            "insert into repositories (id, source, full_name, url, revision, state, reasons)"
            " values ($1, 'local', $1, '', '', 'rejected', $2)",
            name,
            rules,
        )
    await database.execute(
        "insert into processed_files (repository_id, commit, file_path, size_bytes, rejected_by)"
        " values ('local:good', 'c1', 'x', 1, 'generated'), ('local:good', 'c1', 'y', 1, 'generated'),"
        " ('local:good', 'c1', 'z', 1, 'too-long')"
    )
    await database.execute("update processed_files set quality_score = 40 where file_path = 'src/0.py'")
    status = await read_status(database, EXTENSIONS)
    assert status["repositories"] == {
        "total": 3,
        "by_state": {"rejected": 2, "scored": 1},
        "rejected_by": {"too-few-stars": 2, "fork": 1},
    }
    assert list(status["repositories"]["rejected_by"]) == ["too-few-stars", "fork"], "the most frequent first"
    assert status["files"] == {
        "seen": 5,
        "stored": 2,
        "rejected": 3,
        "scored": 2,
        "good": 1,
        "mean_score": 60.0,
        "rejected_by": {"generated": 2, "too-long": 1},
    }


async def test_batches_and_models_know_each_other(database: Database) -> None:
    first, second = await add_batch(database), await add_batch(database)
    await add_model(database, "m", first)
    status = await read_status(database, EXTENSIONS)
    assert [(one["id"], one["model"], one["files"]) for one in status["batches"]] == [
        (first, "m", 3),
        (second, None, 3),
    ]
    [model] = status["models"]
    assert (model["id"], model["state"], model["base"], model["batch"]) == ("m", "rejected", "SmolLM2-135M", first)
    assert model["losses"] == {"train": 1.5, "validation": 1.25}
    assert await read_models(database) == status["models"]
    assert msgspec.json.encode(status), "fit for JSON"


# --- sections that fail ---

Read = Callable[[Database], Awaitable[Any]]


def guarded(name: str, read: Any, schema: str | None = None) -> StatusSection:
    return guard_status_section("stranger", StatusSection(name=name, read=read, counts=lambda data: []), schema)


def raiser(error: BaseException) -> Read:
    async def read(database: Database) -> Any:
        raise error

    return read


def answerer(answer: Any) -> Read:
    async def read(database: Database) -> Any:
        return answer

    return read


async def cancel_itself(database: Database) -> None:
    task = asyncio.current_task()
    assert task is not None
    task.cancel()
    await anyio.sleep_forever()


async def start_what_leaves(database: Database) -> None:
    async def leave() -> None:
        raise SystemExit(7)

    async with anyio.create_task_group() as group:
        group.start_soon(leave)


async def fail_in_the_database(database: Database) -> Any:
    return await database.fetch("select nothing from nowhere")


def read_at_once(database: Database) -> dict[str, int]:
    return {}


class Wordless:
    def __repr__(self) -> str:
        raise SystemExit


ITSELF: list[Any] = []
ITSELF.append(ITSELF)
FAILING: dict[str, tuple[Any, str]] = {
    "raises": (raiser(ValueError("no\nnumbers")), "ValueError: no numbers"),
    "leaves": (raiser(SystemExit(3)), "SystemExit: 3"),
    "interrupts": (raiser(KeyboardInterrupt()), "KeyboardInterrupt"),
    "cancelled": (raiser(asyncio.CancelledError()), "CancelledError"),
    "group": (raiser(BaseExceptionGroup("several", [SystemExit(5)])), "SystemExit: 5"),
    "closes": (raiser(GeneratorExit()), "GeneratorExit"),
    "cancels": (cancel_itself, "CancelledError"),
    "child": (start_what_leaves, "SystemExit: 7"),
    "statement": (fail_in_the_database, "UndefinedTableError"),
    "synchronous": (read_at_once, "TypeError"),
    "object": (answerer({"a": object()}), "TypeError"),
    "wordless": (answerer(Wordless()), "TypeError"),
    "keys": (answerer({(1, 2): 3}), "TypeError"),
    "surrogate": (answerer({"a": "\ud800"}), "UnicodeEncodeError"),
    "endless": (answerer(ITSELF), "RecursionError"),
    "secret": (raiser(OSError("postgresql://me:hidden-away@example.org/db")), "OSError"),
}


async def test_a_section_that_fails_costs_the_status_itself_alone(database: Database) -> None:
    sections = [guarded(name, read) for name, (read, _) in FAILING.items()]
    sections.insert(3, guarded("sound", answerer({"n": 1})))
    status = await read_status(database, Extensions(status_sections=sections))
    assert (status["sound"], status["subscriptions"]) == ({"n": 1}, [])
    for name, (_, cause) in FAILING.items():
        failed = status[name]
        assert isinstance(failed, FailedSection), name
        assert (failed.plugin, failed.section) == ("stranger", name)
        assert f"the status section {name!r} of the plugin 'stranger' failed on its data: " in failed.error
        assert (cause in failed.error, "\n" in failed.error, "hidden" in failed.error) == (True, False, False)
    encoded = msgspec.json.decode(msgspec.json.encode(status))
    assert set(encoded["raises"]) == {"plugin", "section", "error"}


async def test_a_section_that_does_not_end_is_left_behind(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """However it goes on: it waits, swallows its cancellation, or blocks its thread."""
    monkeypatch.setattr(status_sections, "SECTION_SECONDS", 0.5)
    end = threading.Event()

    async def wait(database: Database) -> Any:
        await database.execute("select pg_sleep($1)", HANGS)

    async def swallow(database: Database) -> None:
        while not end.is_set():
            try:
                await anyio.sleep(0.1)
            except BaseException:
                continue

    async def block(database: Database) -> None:
        end.wait(HANGS)

    sections = [guarded("waits", wait), guarded("swallows", swallow), guarded("blocks", block)]
    try:
        with anyio.fail_after(HANGS / 2):
            status = await read_status(database, Extensions(status_sections=sections))
    finally:
        end.set()
    assert ["not done within 0.5 s" in status[section.name].error for section in sections] == [True] * 3


async def test_a_section_that_does_not_end_is_not_begun_again_until_it_has(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(status_sections, "SECTION_SECONDS", 0.2)
    monkeypatch.setattr(status_sections, "_CLOSE_SECONDS", 0.2)
    end = threading.Event()
    begun: list[str] = []

    async def block(own: Database) -> str:
        begun.append(own.where)
        end.wait(HANGS)
        return "done"

    async def say() -> Any:
        return (await read_status(database, extensions))["blocks"]

    extensions = Extensions(status_sections=[guarded("blocks", block)])
    try:
        assert "not done within 0.2 s" in (await say()).error
        said = [(await say()).error for _ in range(3)]
    finally:
        end.set()
    assert all("failed on its data: TimeoutError: still not done since " in each for each in said), said
    assert len(begun) == 1
    monkeypatch.setattr(status_sections, "SECTION_SECONDS", HANGS)
    with anyio.fail_after(HANGS):
        while await say() != "done":
            await anyio.sleep(0.01)
    assert len(begun) == 2


async def test_two_sections_are_read_at_a_time(database: Database) -> None:
    reading = most = 0

    async def read(_: Database) -> None:
        nonlocal reading, most
        reading += 1
        most = max(most, reading)
        await anyio.wait_all_tasks_blocked()
        reading -= 1

    sections = [StatusSection(name=f"section {n}", read=read, counts=lambda data: []) for n in range(5)]
    await read_status(database, Extensions(status_sections=sections))
    assert most == 2


async def end_its_session(database: Database) -> None:
    await database.execute("select pg_terminate_backend(pg_backend_pid())")


async def end_its_sessions(database: Database) -> None:
    async with anyio.create_task_group() as group:
        group.start_soon(end_its_session, database)
        group.start_soon(end_its_session, database)


@pytest.mark.parametrize("read", [end_its_session, end_its_sessions])
async def test_a_section_that_ends_its_own_session_is_named(database: Database, read: Read) -> None:
    sections = [guarded("sound", answerer(1)), guarded("ends", read)]
    status = await read_status(database, Extensions(status_sections=sections))
    assert status["sound"] == 1
    assert "is not available" in status["ends"].error


async def test_a_database_that_goes_away_is_no_section_s_fault(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def gone(*_: object) -> None:
        raise DatabaseUnavailable("it is gone")

    monkeypatch.setattr(database, "fetchval", gone)
    with pytest.raises(DatabaseUnavailable, match="it is gone"):
        await read_status(database, Extensions(status_sections=[guarded("ends", end_its_session)]))


async def test_a_section_that_holds_all_of_its_connections_is_named(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(status_sections, "SECTION_SECONDS", 2.0)

    async def hold(own: Database) -> None:
        async with own.connection(), own.connection(), own.connection():
            ...

    status = await read_status(database, Extensions(status_sections=[guarded("holds", hold)]))
    assert "came free within 1 s: of 2, stranger.holds had 2. Hold none" in status["holds"].error


async def test_reading_leaves_standard_output_to_who_draws_on_it(database: Database) -> None:
    async def read(_: Database) -> bool:
        return sys.stdout is sys.stderr

    status = await read_status(database, Extensions(status_sections=[guarded("looks", read)]))
    assert status["looks"] is False


async def test_a_section_has_its_own_tables_first_and_leaves_nothing_on_the_status_s_connections(
    database: Database,
) -> None:
    await database.execute("create schema plugin_stranger")
    await database.execute("create table plugin_stranger.jobs as select 5 as n")

    async def read(own: Database) -> Any:
        await own.execute("set statement_timeout = 7")
        return await own.fetchval("select n from jobs")

    status = await read_status(database, Extensions(status_sections=[guarded("own", read, "plugin_stranger")]))
    assert status["own"] == 5
    assert await database.fetchval("show statement_timeout") != "7ms"


async def test_the_names_of_the_host_are_kept_from_sections(database: Database) -> None:
    assert set(await read_status(database, Extensions())) == set(_HOST_NAMES["status_sections"])
