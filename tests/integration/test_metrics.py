"""How far the log and its readers are: what waits for an open transaction, what lags, and that no figure is stale."""

from __future__ import annotations

import dataclasses
import math
import socket
import urllib.request
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import timedelta
from functools import partial

import anyio
import anyio.to_thread
import asyncpg
import pytest
from prometheus_client.parser import text_string_to_metric_families

from codelupe import Database, HandlerContext, Metric, Reject, StatusSection, Subscription
from codelupe.daemon import Daemon
from codelupe.host.status_sections import guard_status_section
from codelupe.log import Entry, EventLog
from codelupe.log.event_log import SQL
from codelupe.observability import metrics
from codelupe.observability.metrics import EndpointUnavailable, read_sample, serve_metrics
from codelupe.views import metrics as section_metrics
from codelupe.views.metrics import SectionMetrics
from codelupe.work.task_queue import FeedRequest, TaskQueue
from codelupe_events import BatchReady, Event, RepoEmpty
from tests.clock import Clock
from tests.conftest import RunUntilIdle
from tests.logged import Logged
from tests.plugins import batch, make_plugin
from tests.processes import HANGS

pytestmark = pytest.mark.anyio

MINUTE = timedelta(minutes=1)
Values = dict[str, float]
"""By name and the values of the labels, such as ``eventlog_tasks ready test.s``."""


async def register(database: Database, *names: str, wanted: type[Event] = BatchReady) -> None:
    for name in names:
        await database.execute(SQL.begin_subscription, name, False, [wanted.__name__], True, "0")


async def feed(database: Database, name: str, *types: type[Event]) -> None:
    async def handle(*_: object) -> None: ...

    subscription = Subscription(name=name, events=types, handler=handle)
    await TaskQueue(database).feed([FeedRequest(subscription=subscription)])


# --- what is read ---


async def test_of_an_empty_log_nothing_waits(database: Database) -> None:
    sample = await read_sample(database)
    assert (sample.head, sample.high_water_mark, sample.workers, sample.append_barriers, sample.consumers) == (
        0,
        0,
        0,
        [],
        [],
    )
    assert sample.oldest_barrier_seconds == 0


async def test_an_open_transaction_that_has_appended_shows_with_what_waits_for_it(
    database: Database, clock: Clock
) -> None:
    log = EventLog(database)
    await log.publish(batch(1))
    await register(database, "test.s", wanted=RepoEmpty)
    await feed(database, "test.s", RepoEmpty)
    async with database.transaction() as connection:
        await log.append(connection, [Entry(event=batch(2))])
        for number in (3, 4):
            await log.publish(batch(number))
        await feed(database, "test.s", RepoEmpty)
        await clock.advance(2 * MINUTE)
        sample = await read_sample(database)
        [barrier] = sample.append_barriers
        assert barrier.pid == await connection.fetchval("select pg_backend_pid()")
        assert (barrier.application, barrier.state) == ("codelupe", "idle in transaction")
        assert sample.oldest_barrier_seconds == pytest.approx(120, abs=30)
        assert (sample.head, sample.high_water_mark) == (4, 1)
        [consumer] = sample.consumers
        assert (consumer.undelivered, consumer.lag) == (3, 3), "also of types that the subscription does not want"
        assert consumer.seconds == pytest.approx(120, abs=30), "the age of what others have committed since"
    await feed(database, "test.s", RepoEmpty)
    sample = await read_sample(database)
    assert (sample.head, sample.high_water_mark, sample.oldest_barrier_seconds) == (4, 4, 0)
    assert (sample.consumers[0].lag, sample.consumers[0].seconds) == (0, 0)


async def test_a_transaction_that_only_reads_or_writes_elsewhere_holds_nothing_back(
    database: Database, database_url: str, postgres_url: str
) -> None:
    other_database = await asyncpg.connect(postgres_url)
    try:
        async with database.transaction() as connection, other_database.transaction():
            await connection.execute("create table other (x int)")
            await connection.fetch("select * from events")
            await other_database.execute("select raise_append_barrier()")
            assert (await read_sample(database)).append_barriers == []
    finally:
        await other_database.close()


async def test_a_transaction_of_another_role_has_an_age_that_is_not_known(
    database: Database, database_url: str
) -> None:
    await database.execute("create role onlooker login; grant select on all tables in schema public to onlooker")
    await database.execute("grant select on all sequences in schema public to onlooker")
    try:
        async with Database(database_url.replace("user=codelupe", "user=onlooker")) as onlooker:
            async with database.transaction() as connection:
                await EventLog(database).append(connection, [Entry(event=batch(1))])
                sample = await read_sample(onlooker)
                assert [(barrier.state, barrier.seconds) for barrier in sample.append_barriers] == [(None, None)]
                assert math.isnan(sample.oldest_barrier_seconds)
            assert (await read_sample(onlooker)).oldest_barrier_seconds == 0
    finally:
        await database.execute("drop owned by onlooker; drop role onlooker")


async def test_the_lag_is_that_of_the_oldest_event_that_is_not_handled(
    run_until_idle: RunUntilIdle, database: Database, clock: Clock
) -> None:
    """In a task or after the cursor; one that is dead-lettered lags no more, but holds back those behind it."""
    is_mended = False

    async def handle(event: BatchReady, context: HandlerContext) -> None:
        if event.files == 0 and not is_mended:
            raise Reject("no use")

    it = {"test": make_plugin(subscriptions=[Subscription(name="s", events=(BatchReady,), handler=handle)])}
    await run_until_idle(it, events=[batch(1), batch(2, 1)])
    [consumer] = (await read_sample(database)).consumers
    assert (consumer.handled, consumer.ready, consumer.running, consumer.dead_lettered) == (1, 0, 0, 1)
    assert (consumer.lag, consumer.seconds) == (0, 0)

    await run_until_idle(it, events=[batch(1, 1)])
    await clock.advance(5 * MINUTE)
    [consumer] = (await read_sample(database)).consumers
    assert (consumer.undelivered, consumer.queued, consumer.dead_lettered, consumer.lag) == (0, 1, 1, 1)
    assert consumer.seconds == pytest.approx(300, abs=30)

    is_mended = True
    await database.execute("update tasks set state = 'ready' where state = 'dead_lettered'")
    await run_until_idle(it)
    await clock.advance(5 * MINUTE)
    [consumer] = (await read_sample(database)).consumers
    assert (consumer.handled, consumer.seconds) == (3, 0)
    await EventLog(database).publish(batch(3))
    [consumer] = (await read_sample(database)).consumers
    assert (consumer.undelivered, consumer.ready, consumer.lag) == (1, 0, 1)
    assert consumer.seconds > 0


async def test_a_handler_s_own_event_is_running_in_a_worker(run_until_idle: RunUntilIdle, database: Database) -> None:
    seen = []

    async def handle(event: BatchReady, context: HandlerContext) -> None:
        seen.append(await read_sample(database))

    it = make_plugin(subscriptions=[Subscription(name="s", events=(BatchReady,), handler=handle)])
    await run_until_idle({"test": it}, events=[batch(1)])
    [sample] = seen
    [consumer] = sample.consumers
    assert (sample.workers, consumer.running, consumer.lag) == (1, 1, 1)
    assert consumer.seconds > 0
    assert (await read_sample(database)).workers == 0


async def test_a_worker_whose_lease_ran_out_does_not_count(database: Database, clock: Clock) -> None:
    await database.execute(
        "insert into workers (id, lease_until, host, boot_id, pid, pid_started)"
        " values (gen_random_uuid(), log_time() + interval '1 minute', '', '', 1, '')"
    )
    assert (await read_sample(database)).workers == 1
    await clock.advance(2 * MINUTE)
    assert (await read_sample(database)).workers == 0


# --- what is served ---


@asynccontextmanager
async def served(database: Database, every: float = 5) -> AsyncIterator[int]:
    async with anyio.create_task_group() as group:
        yield await group.start(serve_metrics, database, "127.0.0.1", 0, every)
        group.cancel_scope.cancel()


async def scrape(port: int) -> Values:
    def fetch() -> str:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=HANGS) as response:
            return str(response.read().decode())

    families = text_string_to_metric_families(await anyio.to_thread.run_sync(fetch))
    return {
        " ".join([sample.name, *(value for _, value in sorted(sample.labels.items()))]): sample.value
        for family in families
        for sample in family.samples
    }


async def scrape_until(port: int, *, up: bool) -> Values:
    with anyio.fail_after(HANGS):
        while (values := await scrape(port))["eventlog_up"] != up:
            await anyio.sleep(0.05)
    return values


async def test_prometheus_gets_every_figure(database: Database) -> None:
    await register(database, "test.a", "test.b")
    for number in (1, 2):
        await EventLog(database).publish(batch(number))
    await feed(database, "test.a", BatchReady)
    async with served(database) as port:
        values = await scrape_until(port, up=True)
    ages = [values.pop(f"eventlog_consumer_lag_seconds {name}") for name in ("test.a", "test.b")]
    assert all(0 < age < 60 for age in ages)
    assert values == {
        "eventlog_up": 1,
        "eventlog_oldest_open_transaction_seconds": 0,
        "eventlog_head_position": 2,
        "eventlog_high_water_mark": 2,
        "eventlog_workers": 0,
        "eventlog_consumer_lag_events test.a": 2,
        "eventlog_consumer_lag_events test.b": 2,
        "eventlog_handled_total test.a": 0,
        "eventlog_handled_total test.b": 0,
        "eventlog_tasks queued test.a": 0,
        "eventlog_tasks ready test.a": 2,
        "eventlog_tasks running test.a": 0,
        "eventlog_tasks dead_lettered test.a": 0,
        "eventlog_tasks queued test.b": 0,
        "eventlog_tasks ready test.b": 0,
        "eventlog_tasks running test.b": 0,
        "eventlog_tasks dead_lettered test.b": 0,
    }


async def test_while_the_database_is_away_no_figure_is_shown(
    database: Database, database_url: str, postgres_url: str
) -> None:
    administration = await asyncpg.connect(postgres_url.replace("/codelupe?", "/postgres?"))
    name = await database.fetchval("select current_database()")
    try:
        async with served(database, every=0.05) as port:
            assert len(await scrape_until(port, up=True)) > 1
            await administration.execute(f"alter database {name} allow_connections false")
            await administration.execute(
                "select pg_terminate_backend(pid) from pg_stat_activity where datname = $1", name
            )
            assert await scrape_until(port, up=False) == {"eventlog_up": 0}
            await administration.execute(f"alter database {name} allow_connections true")
            assert len(await scrape_until(port, up=True)) > 1
    finally:
        await administration.close()


async def test_a_sample_that_grew_old_is_not_shown(database: Database) -> None:
    newest = metrics._Newest()
    newest.sample = await read_sample(database)
    assert len(list(newest.collect())) > 1
    newest.sample = dataclasses.replace(newest.sample, taken_at=newest.sample.taken_at - 15)
    [up] = newest.collect()
    assert [(sample.name, sample.value) for sample in up.samples] == [("eventlog_up", 0)]


async def test_plugins_figures_are_served_beside_and_a_failing_plugin_has_none(
    database: Database, logged: Logged, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(section_metrics, "READ_EVERY_SECONDS", 0.01)
    readings = 0

    async def read(database: Database) -> int:
        nonlocal readings
        readings = int(await database.fetchval("select $1::int", readings + 1))
        return readings

    def metrics_of(seen: int) -> list[Metric]:
        if seen > 2:
            raise ValueError("it is broken by now")
        return [
            Metric(name="seen", meaning="Seen.", samples=[({"kind": "all"}, seen)], is_counter=True),
            Metric(name="open", meaning="Open.", samples=[({}, 7)]),
        ]

    section = StatusSection(name="A shop", read=read, counts=lambda _: [], metrics=metrics_of)
    silent = StatusSection(name="silent", read=read, counts=lambda _: [])
    sections = SectionMetrics([guard_status_section("shop", each, None) for each in (section, silent)])
    async with anyio.create_task_group() as group:
        serve = partial(serve_metrics, also=[sections])
        port = await group.start(serve, database, "127.0.0.1", 0)
        await sections.read_all(database)
        values = await scrape(port)
        assert (values["codelupe_a_shop_seen_total all"], values["codelupe_a_shop_open"]) == (1, 7)
        group.start_soon(sections.watch, database)
        await logged.wait_for("status_section_failed", plugin="shop", section="A shop")
        already = readings
        with anyio.fail_after(HANGS):
            while readings < already + 2:
                await anyio.sleep(0.01)
        assert [name for name in await scrape(port) if "a_shop" in name] == []
        assert logged.count("status_section_failed") == 1
        group.cancel_scope.cancel()


async def test_an_address_that_cannot_be_used_is_named(database: Database) -> None:
    async with served(database) as port:
        for host, number in (("127.0.0.1", port), ("192.0.2.1", 0), ("no such host", 0)):
            with pytest.raises(EndpointUnavailable, match=f"cannot be served at {host}:{number}: ") as caught:
                await serve_metrics(database, host, number)
            assert "metrics_port" in str(caught.value)
    async with served(database) as port:
        assert await scrape(port)
    with pytest.raises(OSError, match="refused"):
        await scrape(port)


async def test_a_daemon_serves_them_where_its_settings_say(
    make_daemon: Callable[..., Daemon], database: Database
) -> None:
    scraped: list[Values] = []

    async def look(event: BatchReady, context: HandlerContext) -> None:
        scraped.append(await scrape_until(port, up=True))

    it = {"test": make_plugin(subscriptions=[Subscription(name="s", events=(BatchReady,), handler=look)])}
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ExceptionGroup) as caught:
            await make_daemon(it, metrics_port=port).run()
        assert caught.group_contains(EndpointUnavailable)
    await EventLog(database).publish(batch(1))
    await make_daemon(it, metrics_port=port).run()
    assert [values["eventlog_head_position"] for values in scraped] == [1]
