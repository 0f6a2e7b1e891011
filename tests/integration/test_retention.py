"""Old partitions leave the log: archived or dropped, never what a cursor or a task may still come back to."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any
from uuid import uuid4

import anyio
import anyio.abc
import pyarrow as pa
import pytest
from pyarrow import parquet
from structlog.testing import capture_logs

from codelupe import BatchContext, BatchSubscription, Database, HandlerContext, Subscription
from codelupe.daemon import Daemon
from codelupe.errors import CodelupeError
from codelupe.log import Entry, EventLog, archive, retention
from codelupe.log.archive import ArchiveError
from codelupe.log.event_log import SQL
from codelupe.log.partitions import SQL as RETENTION
from codelupe.log.partitions import list_partitions
from codelupe.log.retention import EventsRetired, RetentionBusy, RetentionPolicy, apply_retention, keep_retention
from codelupe.work.projections import begin_rebuild
from codelupe.work.replay import Replay, start_replay
from codelupe_events import BatchReady, RepoEmpty
from tests.clock import Clock
from tests.conftest import RunUntilIdle
from tests.plugins import batch, empty, make_plugin, named
from tests.processes import HANGS

pytestmark = pytest.mark.anyio

NOW = timedelta(0)
DROPPING = RetentionPolicy(keep=NOW, archive=None)
READ_ALL = (
    "select position, stream, type, version, id::text, data::text, metadata::text, recorded_at"
    " from events order by position"
)
LOCK_IS_WAITED_FOR = "select exists (select from pg_locks where relation = $1::text::regclass and not granted)"


async def handle_nothing(event: BatchReady, context: HandlerContext) -> None: ...


SUBSCRIPTION = Subscription(name="s", events=(BatchReady,), handler=handle_nothing)
NAMED_SUBSCRIPTION = named("test", SUBSCRIPTION)


@pytest.fixture
async def log(database: Database) -> EventLog:
    """A log with partitions of ten positions; nothing has the very first one, 0."""
    for partition in await list_partitions(database):
        await database.execute(f"drop table {partition.name}")
    await database.execute("select create_event_partitions(10)")
    return EventLog(database)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Where archives go; it is not there yet."""
    return tmp_path / "state" / "archive"


class Shell:
    """Runs ``codelupe`` on the test's database with a state directory of its own."""

    def __init__(self, state: Path, database_url: str) -> None:
        clean = {name: value for name, value in os.environ.items() if not name.startswith("CODELUPE_")}
        own = {"CODELUPE_STATE_DIR": str(state), "CODELUPE_DATABASE_URL": database_url, "COLUMNS": "250"}
        self._environment = {**clean, **own}

    async def __call__(
        self, *arguments: str, answer: str = "", before: str = "true", **environment: str
    ) -> CompletedProcess[bytes]:
        """Run it to its end, after a command of the shell."""
        return await anyio.run_process(
            ["bash", "-c", f'{before} && exec "$@"', "bash", sys.executable, "-m", "codelupe", *arguments],
            input=answer.encode(),
            check=False,
            env={**self._environment, **environment},
        )

    async def start(self, *arguments: str) -> anyio.abc.Process:
        """Begin to run it."""
        return await anyio.open_process(
            [sys.executable, "-m", "codelupe", *arguments], stdin=subprocess.DEVNULL, env=self._environment
        )


@pytest.fixture
def shell(folder: Path, database_url: str) -> Shell:
    return Shell(folder.parent, database_url)


@pytest.fixture
def archiving(folder: Path) -> RetentionPolicy:
    return RetentionPolicy(keep=NOW, archive=folder)


async def fill(log: EventLog, upto: int) -> None:
    """Append until this position is drawn, with room ahead."""
    while (number := await log.head_position() + 1) <= upto:
        await log.publish(batch(number))
        await log.database.execute("select create_event_partitions(10)")


async def kept(log: EventLog) -> list[str]:
    """The partitions that have or had events."""
    return [one.name for one in await list_partitions(log.database) if one.state != "ahead"]


async def positions(log: EventLog) -> list[int]:
    return [event.position async for event in log.read()]


async def subscribe(database: Database, position: int, name: str = "test.s") -> None:
    await database.execute("insert into subscriptions (name, position) values ($1, $2)", name, position)


async def until(database: Database, condition: str, *arguments: Any) -> None:
    """Until a statement says so."""
    with anyio.fail_after(HANGS):
        while not await database.fetchval(condition, *arguments):
            await anyio.sleep(0.01)


async def apply_into(went: list[str], database: Database, policy: RetentionPolicy) -> None:
    """Apply the policy and note what went."""
    with anyio.fail_after(HANGS):
        went += [one.partition.name for one in await apply_retention(database, policy)]


# --- what goes, and what it looks like afterwards ---


async def test_archived_partitions_read_back_as_the_events_they_were(
    log: EventLog, archiving: RetentionPolicy, folder: Path
) -> None:
    await log.publish(batch(1), metadata={"by": "somebody", "in": "Łódź ✓"})
    await fill(log, 25)
    before = [dict(row) for row in await log.database.fetch(READ_ALL)]

    retired = await apply_retention(log.database, archiving)

    assert [(one.partition.name, one.events, one.path) for one in retired] == [
        ("events_0", 9, folder / "events_0.parquet"),
        ("events_10", 10, folder / "events_10.parquet"),
    ]
    archived = [row for one in retired for row in parquet.read_table(one.path).to_pylist()]
    assert archived == before[:19]
    assert [dict(row) for row in await log.database.fetch(READ_ALL)] == before[19:]
    assert await kept(log) == ["events_20"]
    assert sorted(path.name for path in folder.iterdir()) == ["events_0.parquet", "events_10.parquet"]


async def test_a_file_is_typed_and_compressed_and_its_pages_carry_checksums(
    log: EventLog, archiving: RetentionPolicy
) -> None:
    await fill(log, 10)
    [retired] = await apply_retention(log.database, archiving)
    assert retired.path is not None
    file = parquet.ParquetFile(retired.path, page_checksum_verification=True)
    assert {field.name: str(field.type) for field in file.schema_arrow} == {
        "position": "int64",
        "stream": "string",
        "type": "string",
        "version": "int32",
        "id": "string",
        "data": "string",
        "metadata": "string",
        "recorded_at": "timestamp[us, tz=UTC]",
    }
    assert file.metadata.row_group(0).column(5).compression == "ZSTD"
    assert file.read().num_rows == 9


async def test_large_partitions_are_read_and_written_in_pieces(
    log: EventLog, archiving: RetentionPolicy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(archive, "_PAGE_ROWS", 4)
    monkeypatch.setattr(archive, "_GROUP_BYTES", 1)
    await fill(log, 10)
    seen: list[int] = []
    [retired] = await apply_retention(log.database, archiving, lambda _, written: seen.append(written))
    assert seen == [4, 8, 9]
    assert parquet.read_metadata(retired.path).num_row_groups == 3
    assert parquet.read_table(retired.path)["position"].to_pylist() == list(range(1, 10))


async def test_only_partitions_whose_newest_event_is_old_go(
    log: EventLog, archiving: RetentionPolicy, folder: Path, clock: Clock
) -> None:
    policy = RetentionPolicy(keep=timedelta(days=365), archive=folder)
    await fill(log, 15)
    await clock.advance(timedelta(days=364))
    assert await apply_retention(log.database, policy) == []
    await clock.advance(timedelta(days=2))
    assert [one.partition.name for one in await apply_retention(log.database, policy)] == ["events_0"]
    assert await kept(log) == ["events_10"], "what may still get events stays, however old"


async def test_a_dropped_partition_leaves_no_file(log: EventLog, tmp_path: Path) -> None:
    await fill(log, 20)
    retired = await apply_retention(log.database, DROPPING)
    assert [(one.events, one.path) for one in retired] == [(9, None), (10, None)]
    assert await positions(log) == [20]
    with pytest.raises(EventsRetired, match=r"before position 20 .* dropped"):
        await start_replay(log.database, Replay(subscription=NAMED_SUBSCRIPTION, after=0))


async def test_a_partition_without_events_goes_without_a_file(
    log: EventLog, archiving: RetentionPolicy, folder: Path
) -> None:
    await fill(log, 9)
    await log.database.execute("select nextval('events_position') from generate_series(1, 10)")
    await fill(log, 25)
    retired = await apply_retention(log.database, archiving)
    assert [(one.partition.name, one.events, one.path and one.path.name) for one in retired] == [
        ("events_0", 9, "events_0.parquet"),
        ("events_10", 0, None),
    ]
    assert await kept(log) == ["events_20"]


async def test_the_last_partition_stays_even_when_it_is_full(log: EventLog) -> None:
    while await log.head_position() < 39:
        await log.publish(batch(1))
    assert [one.state for one in await list_partitions(log.database)] == ["full", "full", "full", "open"]
    await apply_retention(log.database, DROPPING)
    assert await kept(log) == ["events_30"]
    await log.database.execute("select create_event_partitions(10)")
    await fill(log, 45)
    assert await positions(log) == list(range(30, 46))


async def test_the_key_of_an_archived_event_is_still_taken(log: EventLog, archiving: RetentionPolicy) -> None:
    key = uuid4()
    first = await log.publish(batch(1), key=key)
    await fill(log, 10)
    await apply_retention(log.database, archiving)
    again = await log.publish(batch(1), key=key)
    assert (again.duplicate, again.position) == (True, first.position)


async def test_a_new_subscription_begins_with_the_first_event_that_is_kept(
    run_until_idle: RunUntilIdle, log: EventLog, archiving: RetentionPolicy
) -> None:
    seen = []

    async def handle(event: BatchReady, context: HandlerContext) -> None:
        seen.append(event.batch_id)

    await fill(log, 22)
    await apply_retention(log.database, archiving)
    await log.database.execute(SQL.begin_subscription, "test.other", False, ["BatchReady"], True, "0")
    assert await log.database.fetchval("select position from subscriptions") == 19
    await run_until_idle(
        {"test": make_plugin(subscriptions=[Subscription(name="s", events=(BatchReady,), handler=handle)])}
    )
    assert sorted(seen) == [20, 21, 22]


# --- what must stay ---


async def test_a_partition_waits_for_every_cursor_to_pass_it(log: EventLog, archiving: RetentionPolicy) -> None:
    await subscribe(log.database, 25, "test.ahead")
    await subscribe(log.database, 18, "test.behind")
    await fill(log, 25)
    assert [one.partition.name for one in await apply_retention(log.database, archiving)] == ["events_0"]
    [held, _] = [one for one in await list_partitions(log.database) if one.state != "ahead"]
    assert held.held_by() == ["test.behind has not passed it"]
    await log.database.execute("update subscriptions set position = 19 where name = 'test.behind'")
    assert [one.partition.name for one in await apply_retention(log.database, archiving)] == ["events_10"]


@pytest.mark.parametrize("state", ["ready", "running", "dead_lettered"])
async def test_a_partition_waits_for_the_tasks_that_refer_to_it(
    log: EventLog, archiving: RetentionPolicy, folder: Path, state: str
) -> None:
    await subscribe(log.database, 25)
    await fill(log, 25)
    await log.database.execute(
        "insert into tasks (subscription, stream, position, type, version, state, worker, token)"
        " select 'test.s', 'batch/9', 9, 'BatchReady', 1, $1, id, id"
        " from (select case when $1 = 'running' then $2::uuid end as id) as drawn",
        state,
        uuid4(),
    )
    assert await apply_retention(log.database, archiving) == []
    assert not folder.exists()
    assert (await list_partitions(log.database))[0].held_by() == ["test.s has tasks in it"]
    await log.database.execute("delete from tasks")
    assert len(await apply_retention(log.database, archiving)) == 2


async def test_a_partition_waits_for_a_transaction_that_may_still_append_to_it(
    log: EventLog, archiving: RetentionPolicy
) -> None:
    async with log.database.transaction() as slow:
        [late] = await log.append(slow, [Entry(event=batch(1))])
        await fill(log, 25)
        assert await apply_retention(log.database, archiving) == []
    retired = await apply_retention(log.database, archiving)
    archived = parquet.read_table(retired[0].path)["position"].to_pylist()
    assert late.position in archived
    assert archived == list(range(1, 10))


# --- going back, at the same time ---


@pytest.mark.parametrize(
    "replay",
    [
        "update subscriptions set position = 3",
        "insert into tasks (subscription, stream, position, type, version) values ('test.s', 'batch/4', 4, 'B', 1)",
    ],
)
async def test_a_replay_that_came_first_keeps_the_partition(
    log: EventLog, archiving: RetentionPolicy, replay: str
) -> None:
    """It is not committed yet when the file is complete; the retirement waits for it, and sees it."""
    await subscribe(log.database, 25)
    await fill(log, 25)
    went: list[str] = []
    async with anyio.create_task_group() as group, log.database.transaction() as replaying:
        await retention.require_kept(replaying, 4)
        group.start_soon(apply_into, went, log.database, replace(archiving, patience_ms=(30_000,)))
        await until(log.database, LOCK_IS_WAITED_FOR, "subscriptions")
        await replaying.execute(replay)
    assert went == []
    assert await positions(log) == list(range(1, 26))
    await log.database.execute("update subscriptions set position = 25; delete from tasks")
    assert len(await apply_retention(log.database, archiving)) == 2, "the file from then is good"


async def test_a_replay_that_comes_after_is_told_though_the_partition_is_still_there(
    log: EventLog, archiving: RetentionPolicy, folder: Path
) -> None:
    await subscribe(log.database, 15)
    await fill(log, 15)
    went: list[str] = []
    async with anyio.create_task_group() as group, log.database.transaction() as reader:
        await reader.fetch(READ_ALL)
        group.start_soon(apply_into, went, log.database, replace(archiving, patience_ms=(30_000,)))
        await until(log.database, "select exists (select from retired_partitions)")
        for stream in (None, "batch/3"):
            with pytest.raises(EventsRetired, match=r"before position 10 .*events_0\.parquet") as told:
                await start_replay(log.database, Replay(subscription=NAMED_SUBSCRIPTION, after=2, stream=stream))
            assert told.value.hint == "Begin with --from-position 10."
    assert went == ["events_0"]
    assert await log.database.fetchval("select position from subscriptions") == 15
    assert await log.database.fetchval("select count(*) from tasks") == 0
    await start_replay(log.database, Replay(subscription=NAMED_SUBSCRIPTION, after=9))
    assert await log.database.fetchval("select position from subscriptions") == 9


async def test_of_a_replay_and_a_retirement_exactly_one_wins(log: EventLog) -> None:
    """Whichever does: a cursor that was moved back finds all the events after it."""
    winners: Counter[str] = Counter()
    await subscribe(log.database, 0)
    for head in range(10, 210, 10):
        await fill(log, head)
        await log.database.execute("update subscriptions set position = $1", head)
        back = (await positions(log))[0] - 1
        went: list[str] = []
        refused = None
        async with anyio.create_task_group() as group:
            group.start_soon(apply_into, went, log.database, DROPPING)
            try:
                await start_replay(log.database, Replay(subscription=NAMED_SUBSCRIPTION, after=back))
            except EventsRetired as error:
                refused = error
        assert (refused is None) == (not went)
        cursor = await log.database.fetchval("select position from subscriptions")
        assert cursor == (head if refused else back)
        assert (await positions(log))[0] == (head if refused else back + 1)
        winners["replay" if refused is None else "retirement"] += 1
    assert winners.total() == 20


async def test_a_rebuild_of_a_projection_is_refused_once_events_are_gone(log: EventLog) -> None:
    async def handle(events: Sequence[BatchReady], context: BatchContext) -> None: ...

    await log.database.execute("create table seen (batch int)")
    subscription = BatchSubscription(name="s", events=(BatchReady,), handler=handle, projects_to=("seen",))
    named_subscription = named("test", subscription)
    await subscribe(log.database, 15)
    await fill(log, 15)
    await begin_rebuild(log.database, named_subscription)
    assert await apply_retention(log.database, DROPPING) == [], "a rebuild under way needs all events"
    await log.database.execute("delete from subscriptions where name = 'test.s~rebuild'")
    await apply_retention(log.database, DROPPING)
    with pytest.raises(CodelupeError, match="events before position 10 are no longer in the log"):
        await begin_rebuild(log.database, named_subscription)
    assert await log.database.fetchval("select count(*) from subscriptions") == 1


async def test_a_daemon_works_on_while_partitions_go(log: EventLog, make_daemon: Callable[..., Daemon]) -> None:
    """Appending, feeding, batches and completions meet with retirements and drops: nothing is lost or done twice."""
    for first in range(40, 4000, 10):
        await log.database.execute(
            f"create table events_{first} partition of events for values from ({first}) to ({first + 10})"
        )
    await log.database.execute("create table seen (batch int)")
    handled: Counter[int] = Counter()

    async def handle(event: BatchReady, context: HandlerContext) -> None:
        context.emit(empty(event.batch_id))
        handled[event.batch_id] += 1

    async def count(events: Sequence[BatchReady], context: BatchContext) -> None:
        await context.connection.executemany("insert into seen values ($1)", [(event.batch_id,) for event in events])

    stages: list[Any] = [
        Subscription(name="s", events=(BatchReady,), handler=handle),
        BatchSubscription(name="b", events=(BatchReady,), handler=count, size=7),
    ]
    it = make_plugin(subscriptions=stages)
    await log.publish(batch(0))
    went: list[str] = []
    async with anyio.create_task_group() as beside:
        for number in range(1, 600):
            await log.publish(batch(number))
            if number == 100:
                beside.start_soon(make_daemon({"test": it}, until_idle=False).run)
                # Before there are subscriptions the first events have no reader, and may go.
                await until(log.database, "select count(*) = 2 from subscriptions")
                beside.start_soon(_apply_always, log.database, went)
        await until(log.database, "select count(*) = 600 from seen")
        await until(log.database, "select bool_and(position >= 1190) from subscriptions")
        with anyio.fail_after(HANGS):
            while len(handled) < 600 or len(went) < 100:
                await anyio.sleep(0.01)
        os.kill(os.getpid(), signal.SIGTERM)
        with anyio.fail_after(HANGS):
            while await log.database.fetchval("select count(*) from workers"):
                await anyio.sleep(0.01)
        beside.cancel_scope.cancel()
    assert set(handled) == set(range(600))
    assert set(handled.values()) == {1}
    assert await log.database.fetchval("select count(distinct batch) = 600 and count(*) = 600 from seen")
    assert await log.database.fetchval("select min(position) from events") >= 1000


async def _apply_always(database: Database, went: list[str]) -> None:
    policy = replace(DROPPING, patience_ms=(20, 20, 20))
    while True:
        went += [one.partition.name for one in await apply_retention(database, policy)]
        await anyio.sleep(0.01)


# --- crashes, bad runtime, several processes ---


async def test_a_process_killed_between_the_file_and_the_drop_is_gone_on_from(
    log: EventLog, archiving: RetentionPolicy, shell: Shell, folder: Path
) -> None:
    await subscribe(log.database, 15)
    await fill(log, 15)
    before = [dict(row) for row in await log.database.fetch(READ_ALL)]
    async with log.database.transaction() as replaying:
        await retention.require_kept(replaying, 1)
        async with await shell.start("db", "archive", "--keep", "P0D", "--yes") as process:
            await until(log.database, LOCK_IS_WAITED_FOR, "subscriptions")
            process.kill()
    written = (folder / "events_0.parquet").stat()
    assert [dict(row) for row in await log.database.fetch(READ_ALL)] == before

    assert len(await apply_retention(log.database, archiving)) == 1
    assert (folder / "events_0.parquet").stat().st_ino == written.st_ino, "a good file is not written again"
    assert parquet.read_table(folder / "events_0.parquet").to_pylist() == before[:9]
    assert [dict(row) for row in await log.database.fetch(READ_ALL)] == before[9:]


KILLED_WHILE_IT_WRITES = """
import os, signal, sys
from datetime import timedelta
from pathlib import Path
import anyio
from codelupe import Database
from codelupe.log import archive, retention

async def main(url, folder):
    archive._PAGE_ROWS = 4
    policy = retention.RetentionPolicy(keep=timedelta(0), archive=Path(folder))
    async with Database(url) as database:
        await retention.apply_retention(database, policy, lambda *_: os.kill(os.getpid(), signal.SIGKILL))

anyio.run(main, *sys.argv[1:])
"""


async def test_a_process_killed_while_it_writes_leaves_all_events_and_a_file_that_the_next_one_removes(
    log: EventLog, archiving: RetentionPolicy, folder: Path
) -> None:
    await fill(log, 15)
    program = [sys.executable, "-c", KILLED_WHILE_IT_WRITES, log.database.url, str(folder)]
    ended = await anyio.run_process(program, check=False)
    assert ended.returncode == -signal.SIGKILL, ended.stderr
    [left_over] = folder.iterdir()
    assert left_over.name.startswith(".events_0.parquet.")
    assert await positions(log) == list(range(1, 16))
    await apply_retention(log.database, archiving)
    assert [path.name for path in folder.iterdir()] == ["events_0.parquet"]
    assert parquet.read_table(folder / "events_0.parquet")["position"].to_pylist() == list(range(1, 10))


async def test_a_retired_partition_that_is_in_use_is_dropped_next_time(
    log: EventLog, archiving: RetentionPolicy
) -> None:
    hasty = replace(archiving, patience_ms=(10, 10))
    await fill(log, 15)
    async with log.database.transaction() as reader:
        await reader.fetch(READ_ALL)
        assert [one.events for one in await apply_retention(log.database, hasty)] == [9]
        assert [one.state for one in await list_partitions(log.database)][:2] == ["retired", "open"]
        assert await apply_retention(log.database, hasty) == []
    await fill(log, 25)
    assert [one.partition.name for one in await apply_retention(log.database, archiving)] == ["events_10"]
    assert await kept(log) == ["events_20"]


async def test_two_processes_do_not_retire_at_once(log: EventLog) -> None:
    await fill(log, 15)
    async with log.database.connection() as other:
        await other.fetchval(RETENTION.try_lock)
        with pytest.raises(RetentionBusy):
            await apply_retention(log.database, DROPPING)
    assert len(await apply_retention(log.database, DROPPING)) == 1


async def test_a_folder_that_cannot_be_made_keeps_all_events(log: EventLog, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    await fill(log, 15)
    with pytest.raises(ArchiveError, match=r"file/archive/events_0\.parquet cannot be used: Not a directory") as told:
        await apply_retention(log.database, RetentionPolicy(keep=NOW, archive=tmp_path / "file" / "archive"))
    assert "no event was dropped" in str(told.value.hint)
    assert await positions(log) == list(range(1, 16))


async def test_a_full_disk_is_one_clear_error_and_keeps_all_events(log: EventLog, shell: Shell, folder: Path) -> None:
    await log.publish(RepoEmpty(repository_id="test:1", url=os.urandom(50_000).hex()))
    await fill(log, 15)
    ended = await shell("db", "archive", "--keep", "P0D", "--json", before="ulimit -f 16")
    assert (ended.returncode, ended.stdout) == (1, b"")
    assert b"events_0.parquet cannot be used: File too large" in ended.stderr
    assert b"no event was dropped" in ended.stderr
    assert b"Traceback" not in ended.stderr
    assert list(folder.iterdir()) == []
    assert await positions(log) == list(range(1, 16))


@pytest.mark.parametrize("damage", [b"", b"PAR1 and no more", None])
async def test_a_file_that_is_damaged_or_another_log_s_is_left_alone(
    log: EventLog, archiving: RetentionPolicy, folder: Path, damage: bytes | None
) -> None:
    await fill(log, 15)
    folder.mkdir(parents=True)
    path = folder / "events_0.parquet"
    if damage is None:
        ids = {"codelupe.first_id": str(uuid4()), "codelupe.last_id": str(uuid4())}
        parquet.write_table(pa.table({"position": range(1, 10)}).replace_schema_metadata(ids), path)
    else:
        path.write_bytes(damage)
    before = path.read_bytes()
    with pytest.raises(ArchiveError, match=r"does not hold the 9 events of this log"):
        await apply_retention(log.database, archiving)
    assert path.read_bytes() == before
    assert await positions(log) == list(range(1, 16))


async def test_without_pyarrow_it_is_said_what_to_install(
    log: EventLog, archiving: RetentionPolicy, monkeypatch: pytest.MonkeyPatch
) -> None:
    await fill(log, 15)
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(ArchiveError, match=r"pip install 'codelupe\[archive\]'"):
        await apply_retention(log.database, archiving)
    assert await positions(log) == list(range(1, 16))


async def test_what_fails_is_said_and_tried_again(log: EventLog, folder: Path, archiving: RetentionPolicy) -> None:
    folder.parent.mkdir()
    folder.touch()
    await fill(log, 15)
    with capture_logs() as said:
        async with anyio.create_task_group() as beside:
            beside.start_soon(keep_retention, log.database, archiving, 0.01)
            with anyio.fail_after(HANGS):
                while not said:
                    await anyio.sleep(0.01)
            folder.unlink()
            await until(log.database, "select to_regclass('events_0') is null")
            beside.cancel_scope.cancel()
    assert (said[0]["event"], said[0]["log_level"]) == ("retention_failed", "error")
    assert "cannot be used" in said[0]["error"]
    assert said[-1]["event"] == "partition_retired"


# --- the command line ---


async def test_the_status_shows_sizes_and_what_keeps_each_partition(log: EventLog, shell: Shell) -> None:
    await fill(log, 10)
    await log.database.execute("select index_full_partitions()")
    await fill(log, 25)
    await log.database.execute("vacuum analyze events")
    await subscribe(log.database, 15)
    await log.database.execute(
        "insert into tasks (subscription, stream, position, type, version)"
        " values ('test.s', 'batch/4', 4, 'BatchReady', 1)"
    )
    data = json.loads((await shell("db", "status", "--json")).stdout)
    assert [
        (one["first_position"], one["last_position"], one["state"], one["events"], one["held_by"])
        for one in data["partitions"][:4]
    ] == [
        (0, 9, "indexed", 9, ["test.s has tasks in it"]),
        (10, 19, "full", 10, ["test.s has not passed it"]),
        (20, 29, "open", 6, ["it may still get events"]),
        (30, 39, "ahead", 0, ["it may still get events"]),
    ]
    first = data["partitions"][0]
    assert first["oldest"] < first["newest"]
    tables = {table["name"]: table for table in data["tables"]}
    assert tables["events"]["rows"] == 25
    assert tables["events"]["bytes"] > tables["events"]["index_bytes"] > 0
    assert tables["events"]["bytes"] == sum(one["bytes"] for one in data["partitions"])
    table = (await shell("db", "status")).stdout.decode()
    [line] = [line for line in table.splitlines() if line.startswith("events_10 ")]
    assert line.endswith("test.s has not passed it")


async def test_archiving_by_hand_says_what_it_would_do_asks_and_does_it(
    log: EventLog, shell: Shell, folder: Path
) -> None:
    await subscribe(log.database, 15)
    await fill(log, 25)
    plan = await shell("db", "archive", "--keep", "P0D", "--dry-run")
    assert f"These are to be archived in {folder}." in plan.stdout.decode()
    assert "events_10 and what follows stay: test.s has not passed it." in plan.stdout.decode()
    refused = await shell("db", "archive", "--keep", "P0D", answer="n\n")
    assert b"Go on?" in refused.stderr
    assert await positions(log) == list(range(1, 26))
    done = json.loads((await shell("db", "archive", "--keep", "P0D", "--json")).stdout)
    assert done == {
        "due": ["events_0"],
        "retired": [{"name": "events_0", "events": 9, "path": str(folder / "events_0.parquet")}],
        "held": {"name": "events_10", "by": ["test.s has not passed it"]},
    }
    assert await positions(log) == list(range(10, 26))
    replay = await shell("replay", "filters.file-rules", "--dry-run")
    assert "Note that events before position 10 are no longer in the log" in replay.stderr.decode().replace("\n", " ")
    assert b"after position 9" in replay.stdout


async def test_archiving_by_hand_takes_the_settings_and_misses_them(log: EventLog, shell: Shell) -> None:
    await fill(log, 15)
    missing = await shell("db", "archive")
    assert (missing.returncode, missing.stdout) == (78, b"")
    assert b"retention.keep" in missing.stderr
    wrong = await shell("db", "archive", "--keep", "soon")
    assert wrong.returncode == 78
    assert b"command line: retention.keep = 'soon'" in wrong.stderr
    dropped = await shell("db", "archive", "--yes", CODELUPE_RETENTION__KEEP="P0D", CODELUPE_RETENTION__THEN="drop")
    assert b"These are to be dropped for good." in dropped.stdout
    assert b"events_0: 9 events dropped" in dropped.stdout
    assert await positions(log) == list(range(10, 16))


async def test_a_daemon_applies_the_policy_of_its_settings(
    log: EventLog, make_daemon: Callable[..., Daemon], folder: Path
) -> None:
    await fill(log, 15)
    async with anyio.create_task_group() as beside:
        beside.start_soon(make_daemon({}, until_idle=False, retention={"keep": "P0D"}).run)
        await until(log.database, "select to_regclass('events_0') is null")
        beside.cancel_scope.cancel()
    assert [path.name for path in folder.iterdir()] == ["events_0.parquet"]
