"""Versions of the code that follow each other, or run side by side: each event reaches one that wants it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest

from codelupe import BatchContext, BatchSubscription, Database, HandlerContext, Reject, Subscription
from codelupe.daemon import Daemon
from codelupe.log import Entry, EventLog
from codelupe_events import BatchReady, Event, RepoEmpty, event, registry
from tests.logged import Logged
from tests.plugins import FAST, batch, empty, make_plugin
from tests.processes import HANGS

pytestmark = pytest.mark.anyio

Kind = type[Subscription | BatchSubscription]
DECLARE = "select declare_subscription($1, $2, $3, '{}', false, true, '1')"
KINDS = pytest.mark.parametrize("kind", [Subscription, BatchSubscription])


class Code:
    """One version of a plugin, whose subscription notes what it is handed."""

    def __init__(self, kind: Kind, *events: type[Event], fails_on: Event | None = None, **options: Any) -> None:
        self.handled: list[Any] = []
        self.sizes: list[int] = []
        self._fails_on = fails_on
        handler: Any = self._handle if kind is Subscription else self._handle_all
        subscription: Any = kind(name="s", events=events, handler=handler, retry=FAST, **options)
        self.plugins = {"test": make_plugin(subscriptions=[subscription])}

    async def _handle(self, event: Event, context: HandlerContext) -> None:
        self._note([event])

    async def _handle_all(self, events: Sequence[Event], context: BatchContext) -> None:
        self._note(events)

    def _note(self, events: Sequence[Event]) -> None:
        if self._fails_on in events:
            raise Reject("not this one")
        self.handled += events
        self.sizes.append(len(events))

    def of(self, event: type[Event]) -> list[Any]:
        return [one for one in self.handled if isinstance(one, event)]

    async def wait_for(self, number: int) -> None:
        with anyio.fail_after(HANGS):
            while len(self.handled) < number:
                await anyio.sleep(0.01)


class Daemons:
    """Daemons on one database, each with a state directory of its own."""

    def __init__(self, make_daemon: Callable[..., Daemon], folder: Path, logged: Logged) -> None:
        self._make, self._folder, self._logged = make_daemon, folder, logged
        self._number = 0

    @asynccontextmanager
    async def running(self, code: Code, version: str = "0") -> AsyncIterator[None]:
        """A daemon at work, which is gone in the end."""
        self._number += 1
        state = str(self._folder / f"daemon-{self._number}")
        daemon = self._make(code.plugins, until_idle=False, version=version, state_dir=state)
        async with anyio.create_task_group() as group:
            starts = self._logged.count("started")
            group.start_soon(daemon.run)
            with anyio.fail_after(HANGS):
                while self._logged.count("started") == starts:
                    await anyio.sleep(0.01)
            yield
            group.cancel_scope.cancel()

    async def until_idle(self, code: Code, version: str = "0") -> None:
        await self._make(code.plugins, version=version).run()


@pytest.fixture
def daemons(make_daemon: Callable[..., Daemon], tmp_path: Path, logged: Logged) -> Daemons:
    return Daemons(make_daemon, tmp_path, logged)


async def publish(database: Database, events: Sequence[Event]) -> None:
    await EventLog(database).publish_all([Entry(event=one) for one in events])


def both(first: int, last: int) -> Iterator[Event]:
    """An event of each of the two types, in turn."""
    for number in range(first, last + 1):
        yield empty(number)
        yield batch(number)


# --- a type more ---


@KINDS
async def test_a_type_that_is_added_is_handled_from_the_beginning_and_the_rest_not_again(
    kind: Kind, daemons: Daemons, database: Database
) -> None:
    await publish(database, list(both(1, 50)))
    before = Code(kind, BatchReady)
    await daemons.until_idle(before)
    assert sorted(one.batch_id for one in before.handled) == list(range(1, 51))
    await publish(database, list(both(51, 60)))
    after = Code(kind, BatchReady, RepoEmpty)
    await daemons.until_idle(after)
    assert sorted(one.batch_id for one in after.of(BatchReady)) == list(range(51, 61))
    assert sorted(int(one.repository_id[5:]) for one in after.of(RepoEmpty)) == list(range(1, 61))
    again = Code(kind, BatchReady, RepoEmpty)
    await daemons.until_idle(again)
    assert again.handled == []


async def test_a_type_that_is_added_comes_in_the_order_of_its_streams_in_batches_of_a_set_size(
    daemons: Daemons, database: Database
) -> None:
    await publish(database, [one for number in range(1, 1201) for one in (renamed(number % 3, number), batch(number))])
    await daemons.until_idle(Code(BatchSubscription, BatchReady, size=100))
    after = Code(BatchSubscription, BatchReady, RepoEmpty, size=100)
    await daemons.until_idle(after)
    assert [int(one.url) for one in after.handled] == list(range(1, 1201))
    assert after.sizes == [100] * 12


def renamed(stream: int, number: int) -> RepoEmpty:
    """The event with this number in one of a few streams."""
    return RepoEmpty(repository_id=f"test:{stream}", url=str(number))


async def test_a_type_that_is_added_keeps_the_order_of_its_streams_while_more_is_appended(
    daemons: Daemons, database: Database
) -> None:
    await publish(database, [renamed(number % 3, number) for number in range(3000)])
    await daemons.until_idle(Code(Subscription, BatchReady))
    after = Code(Subscription, BatchReady, RepoEmpty)
    async with daemons.running(after):
        await publish(database, [renamed(number % 3, number) for number in range(3000, 3300)])
        await after.wait_for(3300)
    for stream in range(3):
        numbers = [int(one.url) for one in after.handled if one.repository_id == f"test:{stream}"]
        assert numbers == list(range(stream, 3300, 3))


@KINDS
@pytest.mark.parametrize("after", [0, 30, 99])
async def test_a_replay_begins_also_while_a_type_that_was_added_is_caught_up_with(
    kind: Kind, after: int, daemons: Daemons, database: Database
) -> None:
    await publish(database, list(both(1, 50)))
    before, code = Code(kind, BatchReady), Code(kind, BatchReady, RepoEmpty)
    await daemons.until_idle(before)
    await database.execute(DECLARE, "test.s", ["BatchReady", "RepoEmpty"], ["RepoEmpty"])
    await database.execute("update catch_ups set position = 50")
    await database.execute("select rewind_subscription('test.s', $1)", after)
    with anyio.fail_after(HANGS):
        await daemons.until_idle(code)
    batches = [one for one in list(both(1, 50))[after:] if isinstance(one, BatchReady)]
    assert sorted(one.batch_id for one in code.of(BatchReady)) == [one.batch_id for one in batches]
    empties = [empty(number) for number in range(min(after, 50) // 2 + 1, 51)]
    assert sorted(code.of(RepoEmpty), key=repr) == sorted(empties, key=repr)
    assert await database.fetchval("select count(*) from catch_ups") == 0


async def test_a_rebuild_under_way_wants_a_type_that_is_added_as_well(daemons: Daemons, database: Database) -> None:
    await publish(database, list(both(1, 5)))
    await daemons.until_idle(Code(BatchSubscription, BatchReady))
    await database.execute("create table numbers (number integer)")
    await database.execute("select begin_rebuild('test.s', array['numbers'], 'public')")
    await database.execute(DECLARE, "test.s", ["BatchReady", "RepoEmpty"], ["RepoEmpty"])
    rows = await database.fetch("select types, position from subscriptions where name like 'test.s%' order by position")
    assert [tuple(row) for row in rows] == [(["BatchReady", "RepoEmpty"], 0), (["BatchReady", "RepoEmpty"], 10)]
    assert await database.fetchval("select subscription from catch_ups") == "test.s"


@KINDS
async def test_a_type_may_be_added_from_now_on(kind: Kind, daemons: Daemons, database: Database) -> None:
    await publish(database, list(both(1, 5)))
    await daemons.until_idle(Code(kind, BatchReady))
    after = Code(kind, BatchReady, RepoEmpty, from_now=True)
    await daemons.until_idle(after)
    await publish(database, list(both(6, 7)))
    await daemons.until_idle(after)
    assert sorted(after.handled, key=lambda one: (one.stream(), type(one).__name__)) == [
        batch(6),
        batch(7),
        empty(6),
        empty(7),
    ]


# --- side by side ---


@KINDS
@pytest.mark.parametrize("last", ["new", "old"])
async def test_of_two_versions_side_by_side_the_one_that_wants_an_event_gets_it(
    kind: Kind, last: str, daemons: Daemons, database: Database
) -> None:
    await publish(database, list(both(1, 50)))
    old, new = Code(kind, BatchReady), Code(kind, BatchReady, RepoEmpty)
    first, second = (old, new) if last == "new" else (new, old)
    async with daemons.running(first), daemons.running(second):
        for number in range(51, 101):
            await publish(database, list(both(number, number)))
        with anyio.fail_after(HANGS):
            while len(old.handled) + len(new.handled) < 200 or await database.fetchval("select count(*) from tasks"):
                await anyio.sleep(0.01)
    assert old.of(RepoEmpty) == []
    assert sorted(int(one.repository_id[5:]) for one in new.of(RepoEmpty)) == list(range(1, 101))
    batches = [one.batch_id for one in old.of(BatchReady) + new.of(BatchReady)]
    assert sorted(batches) == list(range(1, 101))
    assert await database.fetchval("select count(*) from tasks") == 0


@KINDS
async def test_after_the_newer_version_has_gone_what_only_it_wants_waits_for_it(
    kind: Kind, daemons: Daemons, database: Database, logged: Logged
) -> None:
    old, new = Code(kind, BatchReady), Code(kind, BatchReady, RepoEmpty)
    await daemons.until_idle(new, version="2.0")
    await publish(database, list(both(1, 40)))
    await daemons.until_idle(old, version="1.0")
    assert sorted(one.batch_id for one in old.handled) == list(range(1, 41))
    assert logged.records("events_wait_for_other_code")[0]["types"] == ["RepoEmpty"]
    await daemons.until_idle(new, version="2.0")
    assert sorted(int(one.repository_id[5:]) for one in new.handled) == list(range(1, 41))


@pytest.fixture
def own_registry(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a test declares is forgotten after it."""
    monkeypatch.setattr(registry, "_declarations", dict(registry._declarations))


def wall_painted(version: int) -> Any:
    class WallPainted(Event, frozen=True, kw_only=True):
        wall: int

        def stream(self) -> str:
            return f"wall/{self.wall}"

    return event(version=version, upcasters={1: lambda data: data} if version == 2 else {})(WallPainted)


@pytest.mark.usefixtures("own_registry")
@KINDS
async def test_an_event_in_a_newer_version_is_left_to_the_code_that_knows_it(
    kind: Kind, daemons: Daemons, database: Database
) -> None:
    painted, repainted = wall_painted(1), wall_painted(2)
    old, new = Code(kind, painted), Code(kind, repainted)
    async with daemons.running(old):
        await publish(database, [repainted(wall=number) for number in range(1, 41)])
        async with daemons.running(new):
            await publish(database, [repainted(wall=number) for number in range(41, 101)])
            await new.wait_for(100)
            with anyio.fail_after(HANGS):
                while await database.fetchval("select count(*) from tasks"):
                    await anyio.sleep(0.01)
    assert old.handled == []
    assert sorted(one.wall for one in new.handled) == list(range(1, 101))
    assert await database.fetchval("select count(*) from tasks") == 0


# --- a type less ---


@KINDS
async def test_what_newer_code_does_not_want_any_more_is_given_up_and_said(
    kind: Kind, daemons: Daemons, database: Database, logged: Logged
) -> None:
    both_types = Code(kind, BatchReady, RepoEmpty, fails_on=empty(1))
    await publish(database, [empty(1), batch(1)])
    await daemons.until_idle(both_types, version="1.0")
    await publish(database, [empty(1), empty(1), batch(2)])  # they wait behind the dead letter
    await daemons.until_idle(both_types, version="1.0")
    one_type = Code(kind, BatchReady)
    await daemons.until_idle(one_type, version="1.1")
    [changed] = logged.records("subscription_changed")
    assert (changed["dropped"], changed["tasks_given_up"]) == (["RepoEmpty"], 2)
    await publish(database, list(both(3, 4)))
    await daemons.until_idle(one_type, version="1.1")
    assert sorted(one.batch_id for one in one_type.handled) == [3, 4]
    states = [row["state"] for row in await database.fetch("select state from tasks")]
    assert states == ["dead_lettered"], "an operator decides about that"
    assert logged.records("events_wait_for_other_code") == []


@pytest.mark.parametrize("version", ["1.0", "0.9", "not a version"])
async def test_what_the_same_or_older_code_does_not_want_waits_and_is_named(
    version: str, daemons: Daemons, database: Database, logged: Logged
) -> None:
    both_types = Code(Subscription, BatchReady, RepoEmpty)
    await daemons.until_idle(both_types, version="1.0")
    one_type = Code(Subscription, BatchReady)
    await publish(database, list(both(1, 3)))
    await daemons.until_idle(one_type, version=version)
    assert sorted(one.batch_id for one in one_type.handled) == [1, 2, 3]
    [warning] = logged.records("events_wait_for_other_code")
    assert (warning["stage"], warning["types"]) == ("test.s", ["RepoEmpty"])
    assert "Version 1.0 of the plugin wanted them" in warning["hint"]
    await daemons.until_idle(both_types, version="1.0")
    assert sorted(one.repository_id for one in both_types.handled) == ["test:1", "test:2", "test:3"]


@KINDS
async def test_once_dead_letters_block_no_more_what_waited_behind_one_goes_on(
    kind: Kind, daemons: Daemons, database: Database
) -> None:
    await publish(database, [batch(1, 0), *(batch(1, number) for number in range(1, 6)), batch(2)])
    blocked = Code(kind, BatchReady, fails_on=batch(1, 0))
    await daemons.until_idle(blocked)
    assert blocked.handled == [batch(2)]
    passing = Code(kind, BatchReady, fails_on=batch(1, 0), dead_letter_blocks_stream=False)
    await daemons.until_idle(passing)
    assert passing.handled == [batch(1, number) for number in range(1, 6)]
