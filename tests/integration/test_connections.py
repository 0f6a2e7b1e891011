"""Plugin code's connections: its errors are its own, nothing of it stays, and it cannot take the host's."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from datetime import timedelta
from typing import Any

import anyio
import asyncpg
import pytest

import codelupe.daemon
import codelupe.postgres.database
from codelupe import (
    BatchContext,
    BatchSubscription,
    Connection,
    Database,
    HandlerContext,
    Job,
    JobContext,
    RetryPolicy,
    Subscription,
)
from codelupe.config.settings import Settings
from codelupe.daemon import Daemon, connections_needed
from codelupe.errors import ConnectionsExhausted, DatabaseUnavailable
from codelupe.host.extensions import Extensions
from codelupe.log import Entry, EventLog
from codelupe.observability import systemd
from codelupe.postgres import sessions
from codelupe.postgres.retry import RetryWhileUnavailable
from codelupe.postgres.sessions import Session, open_session, session_of
from codelupe.work.leadership import leading
from codelupe_events import BatchReady
from tests.conftest import RunUntilIdle
from tests.logged import Logged
from tests.plugins import FAST, batch, make_plugin
from tests.processes import HANGS
from tests.silent_proxy import SilentProxy, silent_proxy

pytestmark = pytest.mark.anyio

ONCE = RetryPolicy(attempts=1)


@pytest.fixture
async def lent(database_url: str) -> AsyncIterator[Database]:
    """One connection, as plugin code is lent it."""
    async with Database(database_url, connections=1, lent=True) as it:
        yield it


async def until(condition: Callable[[], bool]) -> None:
    with anyio.fail_after(HANGS):
        while not condition():
            await anyio.sleep(0.01)


# --- which errors are the statement's ---


def raising(sqlstate: str, message: str = "as said", severity: str = "exception") -> str:
    return f"do $$ begin raise {severity} using errcode = '{sqlstate}', message = '{message}'; end $$"


SORT = (
    "set local temp_file_limit = '100kB'; set local work_mem = '64kB';"
    " select g from generate_series(1, 200000) g order by random()"
)
READ_ONLY = "set default_transaction_read_only = on; commit; begin; create table written (n int)"
OWN = {
    "set local statement_timeout = '20ms'; select pg_sleep(10)": asyncpg.QueryCanceledError,
    "select pg_cancel_backend(pg_backend_pid()), pg_sleep(10)": asyncpg.QueryCanceledError,
    "set local lock_timeout = '20ms'; lock table subscriptions in access exclusive mode": asyncpg.LockNotAvailableError,
    SORT: asyncpg.ConfigurationLimitExceededError,
    "set transaction read only; create table written (n int)": asyncpg.ReadOnlySQLTransactionError,
    READ_ONLY: asyncpg.ReadOnlySQLTransactionError,
    "select pg_read_file('/nowhere')": asyncpg.UndefinedFileError,
    raising("08001"): asyncpg.ClientCannotConnectError,
    raising("53000"): asyncpg.InsufficientResourcesError,
    raising("53100", 'could not write to file "base/pgsql_tmp/pgsql_tmp1.0"'): asyncpg.DiskFullError,
    raising("53200"): asyncpg.OutOfMemoryError,
    raising("53300"): asyncpg.TooManyConnectionsError,
    raising("55006"): asyncpg.ObjectInUseError,
    raising("57000"): asyncpg.OperatorInterventionError,
    raising("57P01"): asyncpg.AdminShutdownError,
    raising("57P03"): asyncpg.CannotConnectNowError,
    raising("58030"): asyncpg.PostgresIOError,
    raising("XX000"): asyncpg.InternalServerError,
    raising("XX001"): asyncpg.DataCorruptedError,
}


@pytest.mark.parametrize("statements", OWN)
async def test_what_a_statement_hit_passes_through_and_the_connection_serves_on(
    lent: Database, database: Database, statements: str
) -> None:
    with pytest.raises(OWN[statements]):
        async with database.transaction() as other, lent.transaction() as connection:
            await other.execute("lock table subscriptions in share mode")
            await connection.execute(statements)
    assert await lent.fetchval("show default_transaction_read_only") == "off"


@pytest.mark.parametrize(
    "statements", [raising("53100", "could not extend file"), "select pg_terminate_backend(pg_backend_pid())"]
)
async def test_a_server_that_cannot_serve_is_away(lent: Database, statements: str) -> None:
    with pytest.raises(DatabaseUnavailable):
        async with lent.transaction() as connection:
            await connection.execute(statements)
    assert await lent.fetchval("select 1") == 1


async def ended(connection: Connection) -> None:
    """Until asyncpg has heard that the server closed it."""
    await until(connection.is_closed)


async def require_transaction_timeout(database: Database) -> None:
    if await database.fetchval("select current_setting('server_version_num')::int") < 170000:
        pytest.skip("this PostgreSQL has no transaction_timeout")


IDLE = {
    "set idle_in_transaction_session_timeout = '50ms'": asyncpg.IdleInTransactionSessionTimeoutError,
    "set transaction_timeout = '50ms'": asyncpg.TransactionTimeoutError,
}


@pytest.mark.parametrize("then", ["a statement", "nothing", "a statement in a task group"])
@pytest.mark.parametrize("setting", IDLE)
async def test_a_transaction_that_was_held_too_long_is_its_holder_s_failure(
    lent: Database, setting: str, then: str
) -> None:
    if (
        "transaction_timeout" in setting
        and await lent.fetchval("select current_setting('server_version_num')::int") < 170000
    ):
        pytest.skip("this PostgreSQL has no transaction_timeout")
    with pytest.raises((IDLE[setting], ExceptionGroup)) as caught:
        async with lent.transaction() as connection:
            await connection.execute(setting.replace("set ", "set local "))
            await ended(connection)
            if then == "a statement":
                await connection.fetchval("select 1")
            elif then != "nothing":
                async with anyio.create_task_group() as group:
                    group.start_soon(connection.fetchval, "select 1")
    assert isinstance(caught.value, IDLE[setting])
    assert await lent.fetchval("select 1") == 1


async def test_a_statement_that_the_transaction_s_time_ended_is_its_own_failure(lent: Database) -> None:
    await require_transaction_timeout(lent)
    with pytest.raises(asyncpg.TransactionTimeoutError):
        async with lent.transaction() as connection:
            await connection.execute("set local transaction_timeout = '50ms'")
            await connection.execute("select pg_sleep(10)")


async def test_a_session_that_idled_too_long_is_its_holder_s_failure(lent: Database) -> None:
    with pytest.raises(asyncpg.IdleSessionTimeoutError):
        async with lent.connection() as connection:
            await connection.execute("set idle_session_timeout = '50ms'")
            await ended(connection)
            await connection.fetchval("select 1")


@pytest.mark.parametrize("how", ["close", "terminate"])
async def test_who_closes_a_connection_himself_hears_so(lent: Database, how: str) -> None:
    with pytest.raises(asyncpg.InterfaceError):
        async with lent.statement() as connection:
            if how == "close":
                await connection.close()
            else:
                connection.terminate()
            await connection.fetchval("select 1")
    assert await lent.fetchval("select 1") == 1


async def hold_idle(connection: Connection) -> None:
    await connection.execute("set local idle_in_transaction_session_timeout = '50ms'")
    await ended(connection)


async def run_long(connection: Connection) -> None:
    await connection.execute("set local statement_timeout = '20ms'; select pg_sleep(10)")


async def sort_much(connection: Connection) -> None:
    await connection.execute(SORT)


@pytest.mark.parametrize("fail", [hold_idle, run_long, sort_much])
async def test_a_handler_s_statement_is_tried_as_often_as_its_subscription_says(
    run_until_idle: RunUntilIdle, database: Database, fail: Callable[[Connection], Awaitable[None]]
) -> None:
    calls = {"one": 0, "many": 0}

    async def one(event: BatchReady, context: HandlerContext) -> None:
        calls["one"] += 1
        async with context.transaction() as connection:
            await fail(connection)

    async def many(events: object, context: BatchContext) -> None:
        calls["many"] += 1
        await fail(context.connection)

    it = make_plugin(
        subscriptions=[
            Subscription(name="one", events=(BatchReady,), handler=one, retry=FAST),
            BatchSubscription(name="many", events=(BatchReady,), handler=many, retry=FAST, size=1),
        ]
    )
    with anyio.fail_after(HANGS):
        await run_until_idle({"test": it}, events=[batch(1)])
    assert calls == {"one": FAST.attempts, "many": FAST.attempts + 1}
    rows = await database.fetch("select attempts from tasks where state = 'dead_lettered'")
    assert [row["attempts"] for row in rows] == [FAST.attempts] * 2


# --- the host's own statements ---


@pytest.mark.parametrize(
    "setting", ["lock_timeout = '50ms'", "statement_timeout = '50ms'", "idle_session_timeout = '50ms'"]
)
async def test_an_administrator_s_limits_and_locks_do_not_end_the_daemon(
    make_daemon: Callable[..., Daemon], database: Database, logged: Logged, setting: str
) -> None:
    handled: list[int] = []

    async def handle(event: BatchReady, context: HandlerContext) -> None:
        handled.append(event.batch_id)

    async def handle_all(events: object, context: BatchContext) -> None: ...

    name = await database.fetchval("select current_database()")
    await database.execute(f"alter database {name} set {setting}")
    it = make_plugin(
        subscriptions=[
            Subscription(name="s", events=(BatchReady,), handler=handle),
            BatchSubscription(name="b", events=(BatchReady,), handler=handle_all),
        ]
    )
    log = EventLog(database)
    async with anyio.create_task_group() as group:
        group.start_soon(make_daemon({"test": it}, until_idle=False).run)
        await log.publish(batch(1))
        await until(lambda: handled == [1])
        async with database.transaction() as administrator:
            await administrator.execute("lock table subscriptions, tasks in access exclusive mode")
            with anyio.fail_after(HANGS):
                while not await administrator.fetchval("select count(*) from pg_locks where not granted"):
                    await anyio.sleep(0.01)
            await anyio.sleep(0.2)  # four times the limit
        await log.publish(batch(2))
        await until(lambda: handled == [1, 2])
        os.kill(os.getpid(), signal.SIGTERM)
    assert logged.count("round_failed") <= 1
    assert logged.count("database_unavailable", log_level="warning") == 0


async def test_a_session_that_a_limit_ends_before_it_is_lifted_is_opened_again(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a machine so busy that the first statement comes later than the limit; no outage is told."""
    name = await database.fetchval("select current_database()")
    await database.execute(f"alter database {name} set idle_session_timeout = '50ms'")
    set_up, late = sessions._set_up, iter([True, True])

    async def set_up_late(session: Session, *, limited: bool) -> None:
        if next(late, False):
            time.sleep(0.3)
        await set_up(session, limited=limited)

    monkeypatch.setattr(sessions, "_set_up", set_up_late)
    async with Database(database.url) as other:
        assert await other.fetchval("select 1") == 1
    assert next(late, False) is False


async def test_a_round_that_a_limit_ended_is_said_once(logged: Logged) -> None:
    attempt = RetryWhileUnavailable("feeder", pause_seconds=0)
    for error in (asyncpg.LockNotAvailableError("a"), asyncpg.QueryCanceledError("b"), ConnectionsExhausted("c")):
        async with attempt:
            raise error
    assert logged.count("round_failed", log_level="warning") == 1
    with pytest.raises(asyncpg.UndefinedTableError):
        async with attempt:
            raise asyncpg.UndefinedTableError("mine")


async def test_an_outage_is_one_warning_and_one_line_however_many_loops_meet_it(
    make_daemon: Callable[..., Daemon], database: Database, logged: Logged
) -> None:
    handled: list[int] = []

    async def handle(event: BatchReady, context: HandlerContext) -> None:
        handled.append(event.batch_id)

    async def handle_all(events: object, context: BatchContext) -> None: ...

    async def run(context: JobContext) -> None: ...

    it = make_plugin(
        subscriptions=[
            Subscription(name="s", events=(BatchReady,), handler=handle),
            BatchSubscription(name="b", events=(BatchReady,), handler=handle_all),
        ],
        jobs=[Job(name="j", every=timedelta(seconds=0.1), run=run)],
    )
    name = await database.fetchval("select current_database()")
    server = database.url.replace(f"/{name}?", "/postgres?")
    async with Database(server) as administrator, anyio.create_task_group() as group:
        group.start_soon(make_daemon({"test": it}, until_idle=False).run)
        await EventLog(database).publish(batch(1))
        await until(lambda: handled == [1])
        await administrator.execute(f"alter database {name} allow_connections false")
        await administrator.execute("select pg_terminate_backend(pid) from pg_stat_activity where datname = $1", name)
        await logged.wait_for_more(8, "database_unavailable")
        await administrator.execute(f"alter database {name} allow_connections true")
        await logged.wait_for("database_available")
        os.kill(os.getpid(), signal.SIGTERM)
    assert logged.count("database_unavailable", log_level="warning") == 1
    assert logged.count("database_available") == 1


# --- nothing stays ---

ROLE = "create role somebody"
STATE = {
    "set work_mem = '77MB'": "show work_mem",
    "set statement_timeout = '1h'": "show statement_timeout",
    "set timezone = 'Asia/Tokyo'": "show timezone",
    "set search_path to pg_catalog": "show search_path",
    "set role somebody": "select current_user",
    "set session authorization somebody": "select session_user",
    "set session characteristics as transaction isolation level serializable, read only": "show transaction_isolation",
    "set default_transaction_read_only = on": "show transaction_read_only",
    "create temp table mine (n int)": "select to_regclass('pg_temp.mine')::text",
    "prepare mine as select 1": "select count(*) from pg_prepared_statements where name = 'mine'",
    "declare mine cursor with hold for select 1": "select count(*) from pg_cursors where name = 'mine'",
    "select pg_advisory_lock(4711)": "select count(*) from pg_locks where locktype = 'advisory' and objid = 4711",
    "listen mine": "select count(*) from pg_listening_channels()",
    "create sequence counted; select nextval('counted')": "select lastval()",
    "begin; create table left_open (n int)": "select to_regclass('left_open')::text",
    "load 'plpgsql'; set mine.word = 'x'": "select coalesce(current_setting('mine.word', true), '')",
}


async def seen(database: Database, question: str) -> object:
    try:
        return await database.fetchval(question)
    except asyncpg.ObjectNotInPrerequisiteStateError as error:
        return type(error)


@pytest.mark.parametrize("how", ["statement", "transaction", "connection"])
@pytest.mark.parametrize("statements", STATE)
async def test_nothing_that_plugin_code_did_to_a_session_stays(
    lent: Database, database: Database, statements: str, how: str
) -> None:
    if (how, statements[:6]) == ("transaction", "begin;"):
        pytest.skip("there it is nothing left open, and is committed")
    if "somebody" in statements:
        await database.execute("do $$ begin create role somebody; exception when others then null; end $$")
    before = await seen(lent, STATE[statements])
    async with getattr(lent, how)() as connection:
        await connection.execute(statements)
    assert await seen(lent, STATE[statements]) == before


async def test_a_session_is_kept_and_its_prepared_statements_stay_valid(lent: Database) -> None:
    pids, plans = set(), set()
    for _ in range(5):
        async with lent.transaction() as connection:
            await connection.execute("set local work_mem = '1MB'; select pg_advisory_lock(1)")
            pids.add(await connection.fetchval("select pg_backend_pid()"))
            plans.add(await connection.fetchval("select count(*) from pg_prepared_statements where not from_sql"))
    assert len(pids) == 1
    assert len(plans) <= 2, "prepared once, and not again"


async def test_temporary_tables_of_one_name_and_different_shape_do_not_meet(lent: Database) -> None:
    for shape, value in (("n int", 1), ("a text, b int", "x")):
        async with lent.transaction() as connection:
            await connection.execute(f"create temp table mine ({shape})")
            await connection.execute("insert into mine values ($1)", value)
            assert len(await connection.fetch("select * from mine")) == 1


async def test_what_asyncpg_was_told_of_a_connection_goes_with_its_user(lent: Database) -> None:
    heard: list[object] = []

    def hear(*what: object) -> None:
        heard.append(what)

    async with lent.statement() as connection:
        await connection.set_type_codec("json", schema="pg_catalog", encoder=str, decoder=lambda _: "mine")
    assert await lent.fetchval("select '{}'::json") == "{}"
    async with lent.statement() as connection:
        await connection.add_listener("mine", hear)
        connection.add_log_listener(hear)
        connection.add_termination_listener(hear)
        connection.add_query_logger(hear)
    await lent.execute("notify mine; do $$ begin raise notice 'heard'; end $$")
    with pytest.raises(DatabaseUnavailable):
        await lent.execute("select pg_terminate_backend(pg_backend_pid())")
    assert heard == []


async def test_a_connection_that_plugin_code_kept_is_of_no_use_to_it(lent: Database) -> None:
    async with lent.transaction() as kept:
        pass
    with pytest.raises(asyncpg.InterfaceError, match="released"):
        await kept.fetchval("select 1")
    assert await lent.fetchval("select 1") == 1


async def test_a_transaction_is_read_committed_whatever_the_session_says(database: Database) -> None:
    async with database.connection() as connection:
        await connection.execute("set default_transaction_isolation = 'serializable'")
    async with database.transaction() as connection:
        assert await connection.fetchval("show transaction_isolation") == "read committed"


@pytest.mark.parametrize("statements", ["commit", "rollback", "begin", "commit; begin", "savepoint a"])
async def test_asyncio_hears_of_no_error_whatever_plugin_code_does_to_its_transaction(
    lent: Database, caplog: pytest.LogCaptureFixture, statements: str
) -> None:
    async with lent.statement() as connection:
        transaction = connection.transaction()
        await transaction.start()
        await connection.execute(statements)
    assert await lent.fetchval("select pg_current_xact_id_if_assigned() is null")
    assert not [record for record in caplog.records if "active transaction" in record.getMessage()]


# --- no one is starved ---


async def test_sixteen_handlers_that_read_beside_their_transaction_all_finish(
    run_until_idle: RunUntilIdle, database: Database
) -> None:
    handled: list[int] = []

    async def handle(event: BatchReady, context: HandlerContext) -> None:
        async with context.transaction() as connection:
            await connection.execute("select 1")
            await anyio.sleep(0.05)
            async with context.database.transaction(), context.database.statement() as third:
                await third.fetchval("select 1")
            handled.append(event.batch_id)

    it = make_plugin(
        subscriptions=[Subscription(name="s", events=(BatchReady,), handler=handle, concurrency=16, retry=ONCE)]
    )
    with anyio.fail_after(25):
        await run_until_idle({"test": it}, events=[batch(number) for number in range(64)], database_connections=10)
    assert sorted(handled) == list(range(64))
    assert await database.fetchval("select count(*) from tasks") == 0


@pytest.mark.parametrize("connections", [4, 5, 10, 17])
async def test_nested_checkouts_end_whatever_their_number(database_url: str, connections: int) -> None:
    finished = 0

    async def use() -> None:
        nonlocal finished
        async with pool.transaction():
            await anyio.sleep(0)
            async with pool.transaction():
                await anyio.sleep(0)
                await pool.fetchval("select 1")
        finished += 1

    async with (
        Database(database_url, connections=connections, lent=True, answer_within=20) as pool,
        anyio.create_task_group() as group,
    ):
        for _ in range(40):
            group.start_soon(use)
    assert finished == 40


async def test_who_waits_too_long_for_a_connection_hears_what_to_do(database_url: str) -> None:
    async with Database(database_url, connections=4, lent=True, answer_within=0.2) as lent:
        async with lent.statement(), lent.statement(), lent.statement(), lent.statement():
            with pytest.raises(ConnectionsExhausted, match="of 4, codelupe had 4") as caught:
                await lent.fetchval("select 1")
        assert "database_connections" in str(caught.value)
        assert await lent.fetchval("select 1") == 1


async def test_one_who_is_cancelled_while_it_waits_leaves_its_place(database_url: str) -> None:
    async with Database(database_url, connections=4, lent=True) as lent:
        async with (
            lent.statement(),
            lent.statement(),
            lent.statement(),
            lent.statement(),
            anyio.create_task_group() as group,
        ):
            for _ in range(3):
                group.start_soon(lent.fetchval, "select 1")
            await anyio.wait_all_tasks_blocked()
            group.cancel_scope.cancel()
        async with anyio.create_task_group() as group:
            for _ in range(8):
                group.start_soon(lent.fetchval, "select 1")


async def test_plugin_code_that_holds_all_it_is_lent_does_not_hold_up_the_host(
    make_daemon: Callable[..., Daemon], database: Database
) -> None:
    held, handled = anyio.Event(), anyio.Event()
    holding = 0

    async def hold(context: JobContext) -> None:
        async def one() -> None:
            nonlocal holding
            async with context.database.transaction():
                holding += 1
                if holding >= 2:
                    held.set()
                await anyio.sleep_forever()

        async with anyio.create_task_group() as group:
            for _ in range(8):
                group.start_soon(one)

    async def handle(event: BatchReady, context: HandlerContext) -> None:
        handled.set()

    it = make_plugin(
        subscriptions=[Subscription(name="s", events=(BatchReady,), handler=handle)],
        jobs=[Job(name="j", every=timedelta(hours=1), run=hold)],
    )
    async with anyio.create_task_group() as group:
        group.start_soon(make_daemon({"test": it}, until_idle=False, database_connections=4, drain_seconds=0).run)
        with anyio.fail_after(HANGS):
            await held.wait()
            await EventLog(database).publish(batch(1))
            await handled.wait()
            while await database.fetchval("select count(*) from tasks"):
                await anyio.sleep(0.01)
        os.kill(os.getpid(), signal.SIGTERM)


async def test_a_statement_or_cursor_that_is_kept_is_of_no_use_after_the_loan(lent: Database) -> None:
    async with lent.transaction() as connection:
        statement = await connection.prepare("select 1")
        cursor = await connection.cursor("select generate_series(1, 9)")
        assert await statement.fetchval() == 1
    async with lent.transaction():
        with pytest.raises(asyncpg.InterfaceError):
            await statement.fetchval()
        with pytest.raises(asyncpg.InterfaceError):
            await cursor.fetch(1)


async def test_an_error_that_answers_to_every_name_leaks_no_connection(lent: Database) -> None:
    class Answers(Exception):
        def __getattr__(self, name: str) -> object:
            raise KeyError(name)

    for _ in range(3):
        with pytest.raises(Answers):
            async with lent.transaction():
                raise Answers
    assert await lent.fetchval("select 1") == 1


async def test_a_job_that_waits_for_what_others_hold_has_not_failed(
    make_daemon: Callable[..., Daemon], logged: Logged
) -> None:
    held, given_back, done = anyio.Event(), anyio.Event(), anyio.Event()

    async def hold(context: JobContext) -> None:
        async with context.database.transaction(), context.database.transaction():
            held.set()
            await given_back.wait()

    async def ask(context: JobContext) -> None:
        await held.wait()
        async with context.database.transaction():
            done.set()

    greedy = make_plugin(jobs=[Job(name="hog", every=timedelta(days=1), run=hold)])
    innocent = make_plugin(jobs=[Job(name="j", every=timedelta(days=1), run=ask)])
    plugins = {"greedy": greedy, "innocent": innocent}
    daemon = make_daemon(plugins, until_idle=False, database_connections=4, lease_seconds=5)
    async with anyio.create_task_group() as group:
        group.start_soon(daemon.run)
        await logged.wait_for("round_failed", activity="innocent.j")
        given_back.set()
        with anyio.fail_after(HANGS):
            await done.wait()
        os.kill(os.getpid(), signal.SIGTERM)
    assert logged.count("job_failed") == 0


async def test_who_waits_for_what_others_hold_is_not_to_blame(
    make_daemon: Callable[..., Daemon], database: Database, logged: Logged
) -> None:
    held, given_back = anyio.Event(), anyio.Event()
    handled: dict[str, list[int]] = {"single": [], "batch": []}

    async def hold(context: JobContext) -> None:
        async with context.database.transaction(), anyio.create_task_group() as group:
            for _ in range(2):
                group.start_soon(hold_another, context)

    async def hold_another(context: JobContext) -> None:
        async with context.database.transaction():
            if await context.database.fetchval("select 1"):
                held.set()
            await given_back.wait()

    async def handle(event: BatchReady, context: HandlerContext) -> None:
        assert await context.database.fetchval("select 1")
        handled["single"].append(event.batch_id)

    async def handle_batch(events: Sequence[BatchReady], context: BatchContext) -> None:
        handled["batch"].extend(event.batch_id for event in events)

    innocent = make_plugin(
        subscriptions=[
            Subscription(name="single", events=(BatchReady,), handler=handle, concurrency=16, retry=ONCE),
            BatchSubscription(name="batch", events=(BatchReady,), handler=handle_batch, retry=ONCE),
        ]
    )
    hog = make_plugin(jobs=[Job(name="hog", every=timedelta(hours=1), run=hold)])
    plugins = {"innocent": innocent, "greedy": hog}
    daemon = make_daemon(plugins, until_idle=False, database_connections=4, lease_seconds=5)
    async with anyio.create_task_group() as group:
        group.start_soon(daemon.run)
        await held.wait()
        await EventLog(database).publish_all([Entry(event=batch(number)) for number in range(20)])
        await until(lambda: len({entry["stage"] for entry in logged.records("retry_later")}) == 2)
        given_back.set()
        await until(lambda: all(sorted(numbers) == list(range(20)) for numbers in handled.values()))
        os.kill(os.getpid(), signal.SIGTERM)
    postponed = [entry for entry in logged.records("retry_later") if entry["log_level"] == "warning"]
    assert sorted(entry["stage"] for entry in postponed) == ["innocent.batch", "innocent.single"]
    assert all("greedy.hog had 3" in entry["reason"] for entry in postponed)
    assert not any(map(logged.count, ("attempt_failed", "batch_failed", "dead_lettered")))


async def test_a_process_opens_no_more_connections_than_is_said(
    make_daemon: Callable[..., Daemon], database: Database
) -> None:
    counts: list[int] = []

    async def handle(event: BatchReady, context: HandlerContext) -> None:
        async with context.transaction() as connection:
            await context.database.fetchval("select pg_sleep(0.01)")
            counts.append(
                await connection.fetchval(
                    "select count(*) from pg_stat_activity where datname = current_database()"
                    " and backend_type = 'client backend' and application_name = 'codelupe'"
                )
            )

    async def run(context: JobContext) -> None: ...

    jobs = [Job(name=f"j{number}", every=timedelta(seconds=0.05), run=run) for number in range(3)]
    it = make_plugin(
        subscriptions=[Subscription(name="s", events=(BatchReady,), handler=handle, concurrency=16)], jobs=jobs
    )
    daemon = make_daemon({"test": it}, until_idle=False, database_connections=5)
    for number in range(100):
        await EventLog(database).publish(batch(number))
    own = 2  # of the fixture
    async with anyio.create_task_group() as group:
        group.start_soon(daemon.run)
        await until(lambda: len(counts) == 100)
        os.kill(os.getpid(), signal.SIGTERM)
    assert max(counts) - own <= connections_needed(
        Settings.model_validate({"database_connections": 5}), Extensions(jobs=jobs)
    )


# --- silence ---


@pytest.fixture
async def proxy(database_url: str) -> AsyncIterator[SilentProxy]:
    async with silent_proxy(database_url) as it:
        yield it


async def until_settled(database: Database) -> None:
    """Until the outcome of all that was handled is recorded."""
    with anyio.fail_after(HANGS):
        while not await database.fetchval(
            "select not exists (select from tasks) and bool_and(position = head_position()) from subscriptions"
        ):
            await anyio.sleep(0.01)


async def test_connections_that_fall_silent_are_found_within_the_lease(
    make_daemon: Callable[..., Daemon], database: Database, proxy: SilentProxy, logged: Logged
) -> None:
    lease = 6.0
    handled: list[int] = []
    elsewhere: list[int] = []

    async def handle(event: BatchReady, context: HandlerContext) -> None:
        async with context.transaction() as connection:
            await connection.execute("select 1")
            handled.append(event.batch_id)

    async def handle_all(events: Sequence[BatchReady], context: BatchContext) -> None:
        elsewhere.extend(event.batch_id for event in events)

    it = make_plugin(
        subscriptions=[
            Subscription(name="s", events=(BatchReady,), handler=handle, retry=ONCE),
            BatchSubscription(name="b", events=(BatchReady,), handler=handle_all),
        ]
    )
    log = EventLog(database)
    async with anyio.create_task_group() as group:
        group.start_soon(make_daemon({"test": it}, until_idle=False, database_url=proxy.url, lease_seconds=lease).run)
        for number in range(1, 4):
            await log.publish(batch(number))
            await until(lambda: len(handled) == len(elsewhere) == number)  # noqa: B023 - awaited at once
        await until_settled(database)
        assert proxy.fall_silent() >= 4
        await log.publish(batch(4))
        with anyio.fail_after(lease):
            await until(lambda: 4 in handled and 4 in elsewhere)
        await log.publish(batch(5))
        with anyio.fail_after(lease):
            await until(lambda: 5 in handled and 5 in elsewhere)
        os.kill(os.getpid(), signal.SIGTERM)
    assert logged.count("lease_lost") == 0
    assert await database.fetchval("select count(*) from tasks") == 0


async def test_a_silent_statement_is_absence_and_silent_connections_at_rest_are_given_up(proxy: SilentProxy) -> None:
    async with Database(proxy.url, connections=4, answer_within=0.5) as database:
        async with database.statement(), database.statement(), database.statement():
            pass
        proxy.fall_silent()
        with pytest.raises(DatabaseUnavailable):
            await database.fetchval("select 1")


@pytest.mark.parametrize("work", ["handler", "batch handler", "job"])
async def test_what_falls_silent_in_the_middle_of_a_transaction_is_done_again_within_the_lease(
    make_daemon: Callable[..., Daemon], database: Database, proxy: SilentProxy, logged: Logged, work: str
) -> None:
    lease = 6.0
    begun: list[float] = []

    async def write(connection: Connection) -> None:
        await connection.execute("insert into numbers values (1)")
        begun.append(anyio.current_time())
        if len(begun) == 1:
            proxy.fall_silent()

    async def handle(_: BatchReady, context: HandlerContext) -> None:
        async with context.transaction() as connection:
            await write(connection)

    async def handle_all(_: Sequence[BatchReady], context: BatchContext) -> None:
        await write(context.connection)

    async def tick(context: JobContext) -> None:
        async with context.transaction() as connection:
            if not await connection.fetchval("select exists (select from numbers)"):
                await write(connection)

    it = {
        "handler": make_plugin(
            subscriptions=[Subscription(name="s", events=(BatchReady,), handler=handle, retry=ONCE)]
        ),
        "batch handler": make_plugin(
            subscriptions=[BatchSubscription(name="s", events=(BatchReady,), handler=handle_all)]
        ),
        "job": make_plugin(jobs=[Job(name="j", run=tick, every=timedelta(seconds=0.5))]),
    }[work]
    await database.execute("create table numbers (number integer primary key)")
    await EventLog(database).publish(batch(1))
    async with anyio.create_task_group() as group:
        group.start_soon(make_daemon({"test": it}, until_idle=False, database_url=proxy.url, lease_seconds=lease).run)
        with anyio.fail_after(HANGS):
            while not await database.fetchval("select exists (select from numbers)"):
                await anyio.sleep(0.01)
        os.kill(os.getpid(), signal.SIGTERM)
    assert len(begun) == 2
    assert begun[1] - begun[0] < lease
    assert logged.count("lease_lost") == logged.count("batch_failed") == logged.count("handler_failed") == 0
    assert await database.fetchval("select count(*) from tasks") == 0


@pytest.mark.parametrize("steps", range(12))
async def test_a_session_that_is_given_up_while_it_opens_leaves_no_error_behind(proxy: SilentProxy, steps: int) -> None:
    unheard: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: unheard.append(context))
    opening = asyncio.create_task(open_session(proxy.url))
    for _ in range(steps):
        await anyio.sleep(0)
    opening.cancel()
    await asyncio.wait([opening])
    del opening
    for _ in range(5):
        await anyio.sleep(0)
    gc.collect()
    assert unheard == []


async def test_a_session_whose_reset_is_cancelled_is_closed(lent: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """By asyncio's own cancellation, as of its time limits, which passes a shield of anyio's."""
    under_way, sessions = anyio.Event(), []

    async def reset(session: Session, **_: object) -> None:
        sessions.append(session)
        under_way.set()
        await anyio.sleep_forever()

    monkeypatch.setattr(codelupe.postgres.database, "make_like_new", reset)
    task = asyncio.create_task(lent.fetchval("select 1"))
    await under_way.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert sessions[0].is_closed()
    monkeypatch.undo()
    assert await lent.fetchval("select 1") == 1


async def test_a_connection_whose_borrower_gives_up_is_closed(proxy: SilentProxy) -> None:
    async with Database(proxy.url, answer_within=HANGS) as database:
        async with database.statement() as connection:
            session = session_of(connection)
        session.rests_since -= 10
        proxy.fall_silent()
        with anyio.move_on_after(0.1):
            await database.fetchval("select 1")
        assert session.is_closed()


async def test_a_commit_without_an_answer_holds_no_reader_of_the_log_up(database: Database, proxy: SilentProxy) -> None:
    log = EventLog(database)
    async with Database(proxy.url, answer_within=0.5) as away:
        with pytest.raises(DatabaseUnavailable):
            async with away.transaction() as connection:
                await EventLog(away).append(connection, [Entry(event=batch(1))])
                proxy.fall_silent()
        position = (await log.publish(batch(2))).position
        assert await database.fetchval("select high_water_mark()") < position
        await away.fetchval("select 1")
        assert await database.fetchval("select high_water_mark()") == position


async def test_only_what_was_given_up_is_ended_at_the_server(database: Database, proxy: SilentProxy) -> None:
    async with Database(proxy.url, answer_within=0.5) as away, away.connection() as healthy:
        own = await healthy.fetchval("select pg_backend_pid()")
        with pytest.raises(DatabaseUnavailable):
            async with away.transaction() as connection:
                given_up = session_of(connection).backend
                proxy.fall_silent()
        assert given_up is not None
        away.outage.orphans.append((own, given_up[1]))
        await away.fetchval("select 1")
        assert away.outage.orphans == []
        left = await database.fetch("select pid from pg_stat_activity where pid = any($1)", [own, given_up[0]])
        assert [row["pid"] for row in left] == [own]


async def test_the_server_is_told_to_end_connections_without_a_peer(database: Database) -> None:
    timeouts = await database.fetch(
        "select name, setting::integer, unit from pg_settings where source = 'session' and name like 'tcp_%'"
    )
    assert {row["name"] for row in timeouts} == {
        "tcp_keepalives_count",
        "tcp_keepalives_idle",
        "tcp_keepalives_interval",
        "tcp_user_timeout",
    }


async def test_a_leader_whose_connection_falls_silent_leads_no_longer(database: Database, proxy: SilentProxy) -> None:
    async with Database(proxy.url, answer_within=0.5) as away:
        with anyio.fail_after(HANGS), pytest.raises(DatabaseUnavailable, match="TimeoutError"):
            async with leading(away, "test") as leads:
                assert leads
                proxy.fall_silent()
                await anyio.sleep_forever()
        async with leading(away, "test") as leads:
            assert leads


async def test_the_kernel_is_told_to_end_connections_without_a_peer(proxy: SilentProxy) -> None:

    async with Database(proxy.url, answer_within=30) as database, database.statement() as connection:
        peer = session_of(connection)._transport.get_extra_info("socket")
        assert peer.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
        assert peer.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 30_000
        idle = peer.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE)
        pauses = peer.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL) * peer.getsockopt(
            socket.IPPROTO_TCP, socket.TCP_KEEPCNT
        )
        assert idle + pauses <= 30


async def test_a_daemon_that_only_waits_for_its_database_is_not_restarted(
    make_daemon: Callable[..., Daemon],
    database: Database,
    postgres_url: str,
    logged: Logged,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    told: dict[str, float] = {}
    monkeypatch.setattr(systemd, "notify", lambda what: told.update({what: anyio.current_time()}))
    monkeypatch.setattr(systemd, "watchdog_interval", lambda: 0.2)
    monkeypatch.setattr(codelupe.daemon, "STALLED_SECONDS", 2.0)
    handled: list[int] = []

    async def handle(event: BatchReady, context: HandlerContext) -> None:
        handled.append(event.batch_id)

    it = make_plugin(subscriptions=[Subscription(name="s", events=(BatchReady,), handler=handle)])
    await EventLog(database).publish(batch(1))
    name = await database.fetchval("select current_database()")
    async with (
        Database(postgres_url.replace("/codelupe?", "/postgres?")) as elsewhere,
        anyio.create_task_group() as group,
    ):
        group.start_soon(make_daemon({"test": it}, until_idle=False, lease_seconds=2).run)
        await until(lambda: bool(handled))
        await elsewhere.execute(f"alter database {name} allow_connections false")
        with anyio.fail_after(HANGS):
            while not logged.count("lease_lost"):  # a session that was being opened shows up late
                await elsewhere.execute(
                    "select pg_terminate_backend(pid) from pg_stat_activity where datname = $1", name
                )
                await anyio.sleep(0.1)
        await anyio.sleep(4.0)
        assert anyio.current_time() - told["WATCHDOG=1"] < 1
        await elsewhere.execute(f"alter database {name} allow_connections true")
        await logged.wait_for("database_available")
        os.kill(os.getpid(), signal.SIGTERM)


# --- a loop that stands ---


@pytest.mark.parametrize("seconds", [1.5, 8.0])
async def test_a_handler_that_blocks_the_loop_costs_the_lease_only_when_it_takes_longer(
    make_daemon: Callable[..., Daemon], database: Database, logged: Logged, seconds: float
) -> None:
    """The lease is two seconds long, and after three without a sign of life it is let go."""
    attempts: list[int] = []
    taken_away: list[bool] = []

    async def handle(event: BatchReady, context: HandlerContext) -> None:
        attempts.append(context.attempt)
        if len(attempts) == 1:
            time.sleep(seconds)
            taken_away.append(not await context.database.fetchval("select lease_until > log_time() from workers"))

    await EventLog(database).publish(batch(1))
    it = make_plugin(subscriptions=[Subscription(name="s", events=(BatchReady,), handler=handle)])
    with anyio.fail_after(HANGS):
        await make_daemon({"test": it}, lease_seconds=2).run()
    assert len(attempts) == (1 if seconds < 2 else 2), "what was lost is done again"
    assert taken_away == [seconds > 2] or seconds > 2
    assert logged.count("lease_lost") == logged.count("loop_stands") == (0 if seconds < 2 else 1)
