"""Building the search index anew while repositories are found, renamed and forgotten: nothing is lost or comes back."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import anyio
import pytest
from elasticsearch import AsyncElasticsearch

import codelupe_search
from codelupe import FOR_EVER, Database, SearchDocument
from codelupe.daemon import Daemon
from codelupe.log import Entry, EventLog
from codelupe.log.partitions import list_partitions
from codelupe.log.retention import RetentionPolicy, apply_retention
from codelupe_events import Event, RepoChanged, RepoDescribed, RepoDiscovered, RepoForgotten, RepoGone
from codelupe_search.elasticsearch import rebuild
from codelupe_search.elasticsearch.connection import ElasticsearchUnavailable
from codelupe_search.elasticsearch.rebuild import ReindexUnderWay
from codelupe_search.history import replay
from codelupe_search.postgres import PostgresIndex
from tests.conftest import RunUntilIdle
from tests.elasticsearch import Proxy, Server
from tests.logged import Logged
from tests.processes import HANGS
from tests.search_indexes import PromptIndex, repository, settings_for

pytestmark = pytest.mark.anyio

Between = Callable[[], Awaitable[None]]
_NO_TIME = timedelta(0)


def discovered(number: int | str, **values: Any) -> RepoDiscovered:
    return repository(number, **values).to_event(RepoDiscovered)


def renamed(number: int | str, name: str) -> RepoChanged:
    return repository(number, full_name=name).to_event(RepoChanged)


def gone(number: int | str) -> RepoGone:
    return RepoGone(repository_id=f"test:{number}", full_name="o/gone", url="u", reason="deleted")


def forgotten(number: int | str) -> RepoForgotten:
    return RepoForgotten(
        repository_id=f"test:{number}",
        full_name="o/forgotten",
        url="u",
        by="me",
        reason="",
        files=0,
        kept_without_content=0,
        models=(),
    )


def unseen(position: int, end: int) -> None: ...


def expected_of(events: Sequence[tuple[int, Event]]) -> dict[str, tuple[int, str | None]]:
    """Version and name of what an index is to hold, by id; no name for what is removed."""
    found: dict[str, tuple[int, str | None]] = {}
    for position, event in events:
        match event:
            case RepoForgotten():
                found[event.repository_id] = (FOR_EVER, None)
            case RepoDescribed() if found.get(event.repository_id, (0, None))[0] < FOR_EVER:
                found[event.repository_id] = (position, event.full_name)
            case RepoGone() if found.get(event.repository_id, (0, None))[0] < FOR_EVER:
                found[event.repository_id] = (position, None)
    return found


class Setting:
    """A log, daemons that index what comes into it, and the index."""

    def __init__(
        self, database: Database, server: Server, run: RunUntilIdle, make_daemon: Callable[..., Daemon], url: str
    ) -> None:
        self.database = database
        self.server = server
        self.log = EventLog(database)
        self.index = PromptIndex(settings_for(server, urls=(url,)), database)
        self._run = run
        self._make_daemon = make_daemon

    @property
    def settings(self) -> dict[str, Any]:
        return {"search": {"elasticsearch": {"urls": (self.server.url,), "alias": self.index.settings.alias}}}

    async def handle(self, *events: Event) -> None:
        """Publish these, and let a daemon handle all that it has not handled."""
        await self._run({"search": codelupe_search}, self.settings, events, search_index="elasticsearch")

    async def work_on(self) -> None:
        """A daemon at work until it is cancelled."""
        daemon = self._make_daemon(
            {"search": codelupe_search}, self.settings, until_idle=False, search_index="elasticsearch"
        )
        await daemon.run()

    async def indexes(self) -> dict[str, list[str]]:
        """The indexes under this alias's name, each with its aliases."""
        async with AsyncElasticsearch([self.server.url]) as client:
            answer = await client.indices.get(index=f"{self.index.settings.alias}*")
        return {name: sorted(each["aliases"]) for name, each in answer.body.items()}

    async def require_whole(self) -> None:
        """The index holds what the log says, and nothing is left of those before."""
        events = [(each.position, each.decode()) async for each in self.log.read()]
        held = {
            id_: (version, source.get("full_name")) for id_, (version, source) in (await self.index.stored()).items()
        }
        assert held == expected_of(events)
        indexes = await self.indexes()
        assert list(indexes.values()) == [[self.index.settings.alias]], indexes


@pytest.fixture
def setting(
    database: Database, elasticsearch_server: Server, run_until_idle: RunUntilIdle, make_daemon: Callable[..., Daemon]
) -> Iterator[Setting]:
    with Proxy(elasticsearch_server) as proxy:
        yield Setting(database, elasticsearch_server, run_until_idle, make_daemon, proxy.url)


@pytest.fixture
def between(monkeypatch: pytest.MonkeyPatch) -> Callable[[Between], None]:
    """Let something happen once everything from the log is in the new index, and before that takes its place."""

    def set_up(action: Between) -> None:
        async def with_action(*arguments: Any) -> None:
            await replay(*arguments)
            await action()

        monkeypatch.setattr(rebuild, "replay", with_action)

    return set_up


Processes = Callable[..., AbstractContextManager[list[subprocess.Popen[bytes]]]]


@pytest.fixture
def processes(setting: Setting, database_url: str, tmp_path: Path) -> Processes:
    """Runs each of these ``codelupe`` commands in a process of its own, until the block ends."""
    others = '["crawler", "dataset", "downloader", "filters", "ray", "scorers", "trainer"]'
    clean = {name: value for name, value in os.environ.items() if not name.startswith("CODELUPE_")}

    def environment(number: int) -> dict[str, str]:
        return {
            **clean,
            "CODELUPE_STATE_DIR": str(tmp_path / f"process-{number}"),
            "CODELUPE_DATABASE_URL": database_url,
            "CODELUPE_DISABLED_PLUGINS": others,
            "CODELUPE_SEARCH_INDEX": "elasticsearch",
            "CODELUPE_PLUGINS__SEARCH__ELASTICSEARCH__URLS": json.dumps(setting.index.settings.urls),
            "CODELUPE_PLUGINS__SEARCH__ELASTICSEARCH__ALIAS": setting.index.settings.alias,
        }

    @contextmanager
    def run(*commands: str) -> Iterator[list[subprocess.Popen[bytes]]]:
        with ExitStack() as stack:
            started = []
            for number, command in enumerate(commands):
                process = subprocess.Popen(
                    [sys.executable, "-m", "codelupe", *command.split()],
                    env=environment(number),
                    stdout=subprocess.PIPE,
                    stderr=subprocess.STDOUT,
                )
                stack.enter_context(process)
                stack.callback(process.kill)
                started.append(process)
            yield started

    return run


async def name_of(setting: Setting, query: str) -> list[str]:
    return sorted(hit.full_name for hit in await setting.index.search(query, 100))


# --- what happens meanwhile ---


async def test_searchkick_1456_what_is_renamed_between_snapshot_and_swap_keeps_its_new_name(
    setting: Setting, between: Callable[[Between], None], logged: Logged
) -> None:
    await setting.handle(discovered(1, full_name="owner/former"), discovered(2))

    async def rename() -> None:
        await setting.handle(renamed(1, "owner/latter"), discovered(3))
        assert await name_of(setting, "owner") == ["owner/latter", "owner/name2", "owner/name3"]

    between(rename)
    await setting.index.reindex(unseen)
    assert await name_of(setting, "owner") == ["owner/latter", "owner/name2", "owner/name3"]
    await setting.require_whole()
    assert logged.count("reindex_abandoned") == 0


@pytest.mark.parametrize("end", [gone, forgotten])
async def test_searchkick_1719_what_leaves_between_snapshot_and_swap_does_not_come_back(
    setting: Setting, between: Callable[[Between], None], end: Callable[[int], Event]
) -> None:
    await setting.handle(discovered(1), discovered(2))
    between(lambda: setting.handle(end(1)))
    await setting.index.reindex(unseen)
    assert await name_of(setting, "owner") == ["owner/name2"]
    await setting.require_whole()


async def test_searchkick_1719_what_leaves_before_its_old_document_is_copied_does_not_come_back(
    setting: Setting, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The snapshot is read; then it is forgotten and that is indexed; then the snapshot is written."""
    await setting.handle(discovered(1), discovered(2))

    async def late(database: Database, index: Any, remove: Any, report: Any) -> None:
        async def write_late(documents: Sequence[SearchDocument]) -> None:
            await setting.handle(forgotten(1), renamed(2, "owner/latter"))
            await index(documents)

        await replay(database, write_late, remove, report)

    monkeypatch.setattr(rebuild, "replay", late)
    await setting.index.reindex(unseen)
    assert await name_of(setting, "owner") == ["owner/latter"]
    await setting.require_whole()


async def test_what_was_recorded_before_and_is_handled_after_the_swap_changes_nothing(
    setting: Setting, between: Callable[[Between], None]
) -> None:
    await setting.handle(discovered(1))
    await setting.log.publish(renamed(1, "owner/second"))
    await setting.log.publish(renamed(1, "owner/third"))
    await setting.index.reindex(unseen)
    assert await name_of(setting, "owner") == ["owner/third"]
    await setting.handle()
    assert await name_of(setting, "owner") == ["owner/third"]
    await setting.require_whole()


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(2))
async def test_an_index_is_whole_after_each_of_several_reindexes_under_way_with_two_daemons(
    setting: Setting, processes: Processes, seed: int
) -> None:
    """Everything at once: repositories come, change, go and are forgotten while the index is searched and rebuilt."""
    chance = random.Random(seed)
    await setting.handle(*(discovered(number) for number in range(30)))
    has_published = anyio.Event()
    lowest = 30

    async def publish() -> None:
        for step in range(300):
            number = chance.randrange(60)
            kinds: list[Event] = [
                discovered(number, full_name=f"owner/found{step}"),
                renamed(number, f"owner/new{step}"),
            ]
            if number >= lowest:
                kinds += [gone(number), forgotten(number)]
            await setting.log.publish(chance.choice(kinds))
            await anyio.sleep(chance.random() / 100)
        has_published.set()

    async def search() -> None:
        while True:
            assert len(await setting.index.search("owner", 1000)) >= lowest
            await anyio.sleep(0.05)

    async with anyio.create_task_group() as group:
        group.start_soon(search)
        group.start_soon(publish)
        with processes("run", "run"):
            while not has_published.is_set():
                await setting.index.reindex(unseen)
            await _until_handled(setting)
        group.cancel_scope.cancel()
    await setting.require_whole()


async def _until_handled(setting: Setting) -> None:
    with anyio.fail_after(HANGS):
        end = await setting.log.head_position()
        query = "select position >= $1 from subscriptions where name = 'search.index'"
        while not await setting.database.fetchval(query, end):
            await anyio.sleep(0.02)


# --- interruptions ---


@pytest.fixture
def proxied(
    database: Database, elasticsearch_server: Server, run_until_idle: RunUntilIdle, make_daemon: Callable[..., Daemon]
) -> Iterator[tuple[Setting, Proxy]]:
    """The tests' own index is reached through the proxy; the daemons' is not."""
    with Proxy(elasticsearch_server) as proxy:
        yield Setting(database, elasticsearch_server, run_until_idle, make_daemon, proxy.url), proxy


async def test_a_reindex_that_was_killed_begins_anew_and_leaves_nothing_behind(
    setting: Setting,
    processes: Processes,
    between: Callable[[Between], None],
    elasticsearch_server: Server,
    logged: Logged,
) -> None:
    await setting.handle(*(discovered(number) for number in range(20)))
    with Proxy(elasticsearch_server) as proxy:
        direct = setting.index.settings
        setting.index.settings = direct.model_copy(update={"urls": (proxy.url,)})
        held = proxy.hold()
        with processes("search reindex") as [process]:
            assert await anyio.to_thread.run_sync(held.came.wait, HANGS)
            process.kill()
        held.let_go.set()
        setting.index.settings = direct
    building = f"{setting.index.settings.alias}-building"
    assert [building] in (await setting.indexes()).values()

    await setting.handle(renamed(1, "owner/latter"), forgotten(2))  # beside what was left
    [warning] = logged.records("reindex_abandoned")
    assert warning["index"] == f"{setting.index.settings.alias}-v000002"
    assert "`codelupe search reindex`" in warning["hint"]
    await setting.index.reindex(unseen)
    await setting.require_whole()
    assert list(await setting.indexes()) == [f"{setting.index.settings.alias}-v000003"]


async def test_a_reindex_goes_on_when_elasticsearch_is_back(
    proxied: tuple[Setting, Proxy], monkeypatch: pytest.MonkeyPatch, logged: Logged
) -> None:
    setting, proxy = proxied
    await setting.handle(*(discovered(number) for number in range(20)))
    monkeypatch.setattr(rebuild, "_PAUSES_SECONDS", (0.01, 0.01))
    proxy.say(503, b"<html>", "/_bulk", times=6)
    await setting.index.reindex(unseen)
    assert logged.count("reindex_waits") >= 1
    await setting.require_whole()


async def test_a_reindex_that_fails_leaves_the_index_in_use_as_it_was(
    proxied: tuple[Setting, Proxy], monkeypatch: pytest.MonkeyPatch
) -> None:
    setting, proxy = proxied
    await setting.handle(discovered(1))
    monkeypatch.setattr(rebuild, "_PAUSES_SECONDS", (0.01,))
    proxy.say(503, b"<html>", "/_bulk", times=1000)
    with pytest.raises(ElasticsearchUnavailable):
        await setting.index.reindex(unseen)
    proxy.recover()
    assert await name_of(setting, "owner") == ["owner/name1"]
    await setting.handle(discovered(2))
    await setting.index.reindex(unseen)
    await setting.require_whole()


async def test_only_one_process_builds_an_index(setting: Setting, between: Callable[[Between], None]) -> None:
    await setting.handle(discovered(1))
    other = PromptIndex(setting.index.settings, setting.database)

    async def reindex_too() -> None:
        with pytest.raises(ReindexUnderWay, match="another process is building"):
            await other.reindex(unseen)

    between(reindex_too)
    await setting.index.reindex(unseen)
    await setting.require_whole()


async def test_a_reindex_whose_index_was_taken_away_puts_nothing_in_place(
    setting: Setting, between: Callable[[Between], None]
) -> None:
    """As after its connection to Postgres, and so its lock, was lost, and another process has begun."""
    await setting.handle(discovered(1))
    mine = f"{setting.index.settings.alias}-v000002"

    async def take_away() -> None:
        async with AsyncElasticsearch([setting.server.url]) as client:
            building = f"{setting.index.settings.alias}-building"
            await client.indices.update_aliases(actions=[{"remove": {"index": mine, "alias": building}}])

    between(take_away)
    with pytest.raises(Exception, match="aliases"):
        await setting.index.reindex(unseen)
    assert (await setting.indexes())[f"{setting.index.settings.alias}-v000001"] == [setting.index.settings.alias]


async def test_a_document_that_cannot_be_taken_keeps_no_others_out(
    proxied: tuple[Setting, Proxy], logged: Logged
) -> None:
    setting, proxy = proxied
    await setting.handle(*(discovered(number) for number in range(5)))
    proxy.refuse("test:3", 400, {"type": "document_parsing_exception", "reason": "no"}, times=10)
    await setting.index.reindex(unseen)
    assert logged.count("reindex_completed", refused=1) == 1
    assert sorted(await setting.index.stored()) == ["test:0", "test:1", "test:2", "test:4"]


async def test_batches_that_see_the_swap_are_written_to_what_is_in_use_then(
    proxied: tuple[Setting, Proxy], between: Callable[[Between], None]
) -> None:
    """A batch has looked at the aliases, and is on its way while they are swapped."""
    setting, proxy = proxied
    await setting.handle(discovered(1))
    version = await setting.log.head_position() + 1
    event = discovered(2)

    async with anyio.create_task_group() as group:

        async def begin_batch() -> None:
            await setting.log.publish(event)
            held.append(proxy.hold())
            document = SearchDocument(repository=repository(2), version=version)
            group.start_soon(setting.index.index, [document])
            assert await anyio.to_thread.run_sync(held[0].came.wait, HANGS)

        held: list[Any] = []
        between(begin_batch)
        await setting.index.reindex(unseen)
        held[0].let_go.set()
    assert await name_of(setting, "owner") == ["owner/name1", "owner/name2"]


# --- where it begins ---


async def test_an_index_that_is_missing_is_built_from_the_log_before_the_first_write(
    setting: Setting, run_until_idle: RunUntilIdle
) -> None:
    """Elasticsearch is chosen late, or its data are lost."""
    await run_until_idle(
        {"search": codelupe_search}, events=[*(discovered(number) for number in range(5)), forgotten(4)]
    )
    await setting.handle(renamed(1, "owner/latter"))
    await setting.require_whole()
    async with AsyncElasticsearch([setting.server.url]) as client:
        await client.indices.delete(index=f"{setting.index.settings.alias}-v000001")
    await setting.handle(discovered(9))
    await setting.require_whole()


@pytest.mark.parametrize("kind", ["postgres", "elasticsearch"])
async def test_what_the_log_no_longer_holds_is_taken_from_the_table_of_repositories(
    setting: Setting, database: Database, kind: str
) -> None:
    for partition in await list_partitions(database):
        await database.execute(f"drop table {partition.name}")
    await database.execute("select create_event_partitions(10)")
    await setting.handle(*(discovered(number) for number in range(12)))
    await database.execute("update repositories set state = 'gone' where id = 'test:2'")
    await database.execute("update repositories set state = 'forgotten' where id = 'test:3'")
    await apply_retention(database, RetentionPolicy(keep=_NO_TIME, archive=None))
    assert await database.fetchval("select log_start()") > 0
    index = setting.index if kind == "elasticsearch" else PostgresIndex(database)
    await database.execute("delete from repository_search")
    await setting.handle(renamed(1, "owner/latter"))
    await index.reindex(unseen)
    names = sorted(hit.repository_id for hit in await index.search("owner", 100))
    assert names == sorted(f"test:{number}" for number in range(12) if number not in (2, 3))
    assert [hit.repository_id for hit in await index.search("latter", 100)] == ["test:1"]


async def test_a_reindex_tells_how_far_it_is(setting: Setting) -> None:
    await setting.log.publish_all([Entry(event=discovered(number)) for number in range(2500)])
    told: list[tuple[int, int]] = []
    await setting.index.reindex(lambda position, end: told.append((position, end)))
    assert [position for position, _ in told] == sorted(position for position, _ in told)
    assert len(told) == 4
    assert told[-1][0] == told[-1][1] == await setting.log.high_water_mark()


# --- Postgres ---


async def test_the_postgres_index_is_made_anew_row_by_row(database: Database, run_until_idle: RunUntilIdle) -> None:
    events = [discovered(1), renamed(1, "owner/latter"), discovered(2), discovered(3), forgotten(3), discovered(4)]
    await run_until_idle({"search": codelupe_search}, events=events)
    sql = "select row_to_json(repository_search)::text as row from repository_search order by repository_id"
    before = [row["row"] for row in await database.fetch(sql)]
    await database.execute(
        "update repository_search set full_name = 'spoilt', document = '' where repository_id = 'test:1'"
    )
    await database.execute("update repository_search set version = 0, keys = '{}' where repository_id = 'test:2'")
    await database.execute("delete from repository_search where repository_id = 'test:4'")
    await PostgresIndex(database).reindex(unseen)
    assert [row["row"] for row in await database.fetch(sql)] == before
