"""Whatever is done to the log, in whatever order, it stands as a simple model of its promises says.

Hypothesis makes the histories up and, when one of them goes wrong, finds a short one that does. Time is the test's.
"""

from __future__ import annotations

import asyncio
import sys
import uuid
from collections import Counter
from collections.abc import Callable, Collection, Coroutine, Iterator, Sequence
from collections.abc import Set as AbstractSet
from contextlib import AbstractAsyncContextManager, contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import timedelta
from functools import partial
from typing import Any, Literal, TypeVar, get_args

import asyncpg
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)

from codelupe import Connection, Database, HandlerContext, LeaseLost, Subscription, load_queries
from codelupe.log import Appended, Entry, EventLog
from codelupe.log.entries import FEW
from codelupe.log.event_log import SQL as LOG
from codelupe.log.records import derive_key, uuid7
from codelupe.views.pipeline import read_subscriptions
from codelupe.work.dead_letters import Selection, drop_dead_letters, retry_dead_letters
from codelupe.work.registration import register_subscriptions
from codelupe.work.replay import Replay, start_replay
from codelupe.work.task import Task, complete
from codelupe.work.task_queue import FeedRequest, TaskQueue
from codelupe_events import BatchReady, Event, RepoEmpty
from tests.clock import Clock
from tests.plugins import batch, empty

SQL = load_queries("tests.integration", "log_model")
FEED_LIMIT = 4
"""Small, so that it takes several times to feed what a history appends."""
LEASE = timedelta(seconds=60)
LATER = st.sampled_from([timedelta(seconds=seconds) for seconds in (1, 30, 60, 61, 300)])

T = TypeVar("T")
Handed = tuple[str, int]
"""A subscription and the position of an event that was handed to it."""


async def never_called(event: Event, context: HandlerContext) -> None:
    raise AssertionError("the test handles events itself")


def subscription(name: str, events: tuple[type[Event], ...], *, dead_letter_blocks_stream: bool) -> Subscription:
    return Subscription(
        name=f"model.{name}", events=events, handler=never_called, dead_letter_blocks_stream=dead_letter_blocks_stream
    )


STRICT = subscription("strict", (BatchReady,), dead_letter_blocks_stream=True)
LENIENT = subscription("lenient", (BatchReady, RepoEmpty), dead_letter_blocks_stream=False)
GROWN = subscription("strict", (BatchReady, RepoEmpty), dead_letter_blocks_stream=True)
"""What newer code makes of the strict one."""
SUBSCRIPTIONS = {it.name: it for it in (STRICT, LENIENT)}


# --- the model ---


@dataclass
class ModelTask:
    """One event that a subscription has yet to be done with."""

    subscription: str
    position: int
    stream: str
    run_at: timedelta
    state: str = "ready"
    attempts: int = 0
    crashes: int = 0
    worker: uuid.UUID | None = None
    token: uuid.UUID | None = None

    def give_back(self) -> None:
        self.state, self.worker, self.token = "ready", None, None


class Model:
    """What the log promises, in lists and dicts. Time is counted from the beginning."""

    def __init__(self) -> None:
        self.now = timedelta()
        self.head = 0
        self.append_barrier: int | None = None
        self.unfinished: dict[int, Event] = {}
        self.log: dict[int, Event] = {}
        self.keys: dict[uuid.UUID, int] = {}
        self.cursors = dict.fromkeys(SUBSCRIPTIONS, 0)
        self.types = {name: set(it.events) for name, it in SUBSCRIPTIONS.items()}
        self.tasks: dict[Handed, ModelTask] = {}
        self.handed: Counter[Handed] = Counter()
        self.dropped: Counter[Handed] = Counter()
        self.effects: list[Handed] = []
        self.workers: dict[uuid.UUID, timedelta] = {}

    # --- appending ---

    @property
    def high_water_mark(self) -> int:
        return self.head if self.append_barrier is None else self.append_barrier

    def append(self, entries: Sequence[Entry]) -> list[Appended]:
        answers = []
        for entry in entries:
            self.head += 1
            known = self.keys.get(entry.key) if entry.key else None
            if known is None:
                self.log[self.head] = entry.event
                if entry.key:
                    self.keys[entry.key] = self.head
            answers.append(Appended(position=known or self.head, duplicate=known is not None))
        return answers

    def begin_append(self, events: Sequence[Event]) -> None:
        self.append_barrier = self.head
        for event in events:
            self.head += 1
            self.unfinished[self.head] = event

    def end_append(self, *, commits: bool) -> None:
        if commits:
            self.log |= self.unfinished
        self.append_barrier, self.unfinished = None, {}

    # --- handing out ---

    def wanted(self, subscription: Subscription, after: int, up_to: int) -> list[int]:
        types = self.types[subscription.name]
        return [at for at in sorted(self.log) if after < at <= up_to and type(self.log[at]) in types]

    def feed(self, subscription: Subscription, apart: AbstractSet[str]) -> bool:
        """Whether the cursor has seen all there is then; types that catch up come apart from it."""
        after = self.cursors[subscription.name]
        if after < self.high_water_mark:
            up_to = min(self.high_water_mark, after + 50 * FEED_LIMIT)
            passed = self.wanted(subscription, after, up_to)
            found = [at for at in passed if type(self.log[at]).__name__ not in apart][:FEED_LIMIT]
            reached = found[-1] if len(found) == FEED_LIMIT else up_to
            self.make_tasks(subscription, [at for at in passed if at <= reached])
            self.cursors[subscription.name] = reached
        return self.cursors[subscription.name] >= self.high_water_mark

    def make_tasks(self, subscription: Subscription, positions: Sequence[int]) -> None:
        for at in positions:
            handed = subscription.name, at
            if handed not in self.tasks:
                self.tasks[handed] = ModelTask(subscription.name, at, self.log[at].stream(), run_at=self.now)
                self.handed[handed] += 1

    def add_type(self, subscription: Subscription, added: type[Event]) -> None:
        """What it did not want before is handed out from the beginning."""
        if added not in self.types[subscription.name]:
            self.types[subscription.name].add(added)
            before = self.wanted(subscription, 0, self.cursors[subscription.name])
            self.make_tasks(subscription, [at for at in before if type(self.log[at]) is added])

    def delivered(self, subscription: Subscription) -> int:
        return sum(
            self.handed[handed] - self.dropped[handed] for handed in self.handed if handed[0] == subscription.name
        )

    def rewind(self, subscription: Subscription, after: int) -> None:
        self.cursors[subscription.name] = min(self.cursors[subscription.name], after)

    def redeliver(self, subscription: Subscription, after: int, stream: str) -> None:
        again = self.wanted(subscription, after, self.cursors[subscription.name])
        self.make_tasks(subscription, [at for at in again if self.log[at].stream() == stream])

    # --- tasks ---

    def claimable(self, subscription: Subscription, worker: uuid.UUID) -> list[ModelTask]:
        """What code with this subscription may claim: of types that it knows, each at the head of its stream."""
        if worker not in self.workers:
            return []
        known = [task for task in self._tasks_of(subscription) if type(self.log[task.position]) in subscription.events]
        ready = [task for task in known if task.state == "ready" and task.run_at <= self.now]
        return [task for task in ready if not self._is_held_back(subscription, task)]

    def _tasks_of(self, subscription: Subscription) -> list[ModelTask]:
        return [self.tasks[handed] for handed in sorted(self.tasks) if handed[0] == subscription.name]

    def _is_held_back(self, subscription: Subscription, task: ModelTask) -> bool:
        """An earlier event of its stream is not done, or one of its stream is being handled."""
        others = [other for other in self._tasks_of(subscription) if other.stream == task.stream and other is not task]
        passes_dead_letters = not subscription.dead_letter_blocks_stream
        earlier = [other for other in others if other.position < task.position]
        return any(other.state == "running" for other in others) or any(
            not (other.state == "dead_lettered" and passes_dead_letters) for other in earlier
        )

    def held(self, claim: Task) -> ModelTask | None:
        """The task, if the claim on it still holds."""
        task = self.tasks.get((claim.subscription, claim.recorded.position))
        return task if task and task.token == claim.token else None

    def complete(self, task: ModelTask) -> None:
        handed = task.subscription, task.position
        self.effects.append(handed)
        del self.tasks[handed]

    def drop(self, task: ModelTask) -> None:
        handed = task.subscription, task.position
        self.dropped[handed] += 1
        del self.tasks[handed]

    def dead_letters(self) -> list[ModelTask]:
        return [task for _, task in sorted(self.tasks.items()) if task.state == "dead_lettered"]

    def reap(self) -> tuple[int, int]:
        lost = {worker for worker, lease_until in self.workers.items() if lease_until < self.now}
        for worker in lost:
            del self.workers[worker]
        orphans = [task for task in self.tasks.values() if task.worker and task.worker not in self.workers]
        for task in orphans:
            task.give_back()
            task.crashes += 1
        return len(lost), len(orphans)

    def release(self, worker: uuid.UUID, begun: Collection[uuid.UUID] = ()) -> None:
        """It leaves in order, its tasks untouched but for those begun, over which it crashed."""
        self.workers.pop(worker, None)
        for task in self.tasks.values():
            if task.worker == worker:
                task.crashes += task.token in begun
                task.give_back()


# --- the real log ---


class Parts:
    """The log in a database, driven from synchronous code over one event loop."""

    def __init__(self, url: str, runner: asyncio.Runner) -> None:
        self._runner = runner
        self.database = Database(f"{url}&synchronous_commit=off", connections=2)  # what it stores need not last
        self.log = EventLog(self.database)
        self.tasks = TaskQueue(self.database)
        self.clock = Clock(self.database)

    def do(self, work: Coroutine[Any, Any, T]) -> T:
        return self._runner.run(work)


@contextmanager
def real_parts(url: str) -> Iterator[Parts]:
    with asyncio.Runner(loop_factory=asyncio.new_event_loop) as runner:
        parts = Parts(url, runner)
        parts.do(parts.database.__aenter__())
        try:
            parts.do(parts.database.execute(SQL.create_effects))
            parts.do(parts.clock.take_over())
            yield parts
        finally:
            parts.do(parts.database.__aexit__())


class RolledBack(Exception):
    """An appender thought better of it."""


# --- histories ---

EVENTS = st.builds(batch, st.integers(0, 2), st.integers(0, 9)) | st.builds(empty, st.integers(0, 1))
KEYS = st.none() | st.sampled_from([derive_key(number) for number in range(3)])
ENTRIES = st.lists(st.builds(Entry, event=EVENTS, key=KEYS), min_size=1, max_size=4)
STREAMS = st.none() | EVENTS.map(lambda event: event.stream())
MANY_ENTRIES = ENTRIES.map(lambda few: (few * 18)[:18])
Fate = Literal["beats", "is silent", "restarts", "dies"]
FATE = st.sampled_from(get_args(Fate))
How = Literal["complete", "fail", "give up"]

Step = Callable[["History"], None]


@dataclass(frozen=True)
class Taking:
    """Which worker takes how many tasks of each subscription: of what it is fed, and then of what is there."""

    number: int
    feeds: bool
    at_once: int
    at_most: int


TAKING = st.builds(Taking, st.integers(0, 1), st.booleans(), st.integers(0, 3), st.integers(1, 4))


class History(RuleBasedStateMachine):
    """Does one thing after another to the log and to the model of it."""

    def __init__(self, parts: Parts) -> None:
        super().__init__()
        self.model = Model()
        self.parts, self.do = parts, parts.do
        self.database = parts.database
        self.appender: AbstractAsyncContextManager[Connection] | None = None
        self.do(self.database.execute(SQL.begin_anew))
        self.do(register_subscriptions(self.database, list(SUBSCRIPTIONS.values()), {}))
        self.beginning = self.do(self.database.fetchval(SQL.log_time))
        self.workers = [self._register(), self._register()]
        self.kept: list[Task] = []
        self.has_grown = False

    @initialize()
    def begin(self) -> None:
        """With something to do."""
        self.append([Entry(event=event) for event in [batch(0), batch(1), empty(0), batch(2)] * 4])

    @rule(step=st.deferred(lambda: STEPS))
    def go_on(self, step: Step) -> None:
        step(self)

    def teardown(self) -> None:
        if sys.exception() is None:
            self._handle_everything()
        if self.appender is not None:
            self.do(self._end_append(RolledBack()))

    # --- appending ---

    def append(self, entries: list[Entry]) -> None:
        expected = self.model.append(entries)
        answers = self.do(self.parts.log.publish_all(entries))
        if len(entries) > FEW and not any(entry.key for entry in entries):
            expected = [Appended(position=None)] * len(entries)
        assert answers == expected

    def append_slowly(self, events: list[Event], commits: bool) -> None:
        """Begin or end a transaction that appends; readers must not pass it meanwhile."""
        if self.appender is None:
            self.appender = self.database.transaction()
            self.do(self._begin_append(self.appender, events))
            self.model.begin_append(events)
        else:
            self.do(self._end_append(None if commits else RolledBack()))
            self.model.end_append(commits=commits)

    async def _begin_append(self, appender: AbstractAsyncContextManager[Connection], events: list[Event]) -> None:
        connection = await appender.__aenter__()
        await self.parts.log.append(connection, [Entry(event=event) for event in events])

    async def _end_append(self, error: RolledBack | None) -> None:
        appender, self.appender = self.appender, None
        assert appender is not None
        with suppress(RolledBack):
            await appender.__aexit__(type(error) if error else None, error, None)

    # --- workers ---

    def let_time_pass(self, by: timedelta, fates: Sequence[Fate], then_reap: bool) -> None:
        """Meanwhile each worker keeps its lease or is silent, or has come again as another."""
        self.do(self.parts.clock.advance(by))
        self.model.now += by
        for number, fate in enumerate(fates):
            if fate == "beats":
                self._beat(self.workers[number])
            elif fate == "restarts":
                self.do(self.parts.tasks.release(self.workers[number]))
                self.model.release(self.workers[number])
                self.workers[number] = self._register()
            elif fate == "dies":
                self.workers[number] = self._register()
        if then_reap:
            assert self.do(self.parts.tasks.reap(uuid7())) == self.model.reap()

    def crash_in_order(self, number: int, which: int) -> None:
        """A worker is stopped over some of what it began, another time perhaps, or as another; a new one follows."""
        begun = [claim.token for claim in self.kept[which:]]
        self.do(self.parts.tasks.release(self.workers[number], begun))
        self.model.release(self.workers[number], begun)
        self.workers[number] = self._register()

    def _register(self) -> uuid.UUID:
        worker = uuid7()
        self.do(self.database.execute(LOG.register_worker, worker, LEASE, "elsewhere", "", 1, ""))
        self.model.workers[worker] = self.model.now + LEASE
        return worker

    def _beat(self, worker: uuid.UUID) -> None:
        lives = worker in self.model.workers
        assert (self.do(self.database.fetchval(LOG.heartbeat, worker, LEASE)) is not None) == lives
        if lives:
            self.model.workers[worker] = self.model.now + LEASE

    # --- tasks ---

    def take(self, taking: Taking) -> list[Task]:
        """Feed the subscriptions and take tasks of those that were given something; then take more."""
        claims = self.feed(taking) if taking.feeds else []
        return claims + [
            claim
            for name in SUBSCRIPTIONS
            for claim in self.claim(self._code(name, taking.number), taking.at_most, taking.number)
        ]

    def _code(self, name: str, number: int) -> Subscription:
        """The subscription in the code of that worker: the first one runs the newest, the second one the oldest."""
        return GROWN if name == GROWN.name and self.has_grown and number == 0 else SUBSCRIPTIONS[name]

    def feed(self, taking: Taking) -> list[Task]:
        worker = self.workers[taking.number]
        known = {name: self._delivered(name) for name in SUBSCRIPTIONS}
        requests = [
            FeedRequest(subscription=self._code(name, taking.number), known=known[name], room=taking.at_once)
            for name in SUBSCRIPTIONS
        ]
        apart = {name: self._types_apart(name) for name in SUBSCRIPTIONS}
        fed = self.do(self.parts.tasks.feed(requests, worker))
        claims: list[Task] = []
        for name, subscription in SUBSCRIPTIONS.items():
            it = fed[name]
            assert self.model.feed(subscription, apart[name]) or not it.caught_up
            at_most = taking.at_once if it.delivered != known[name] else 0
            self._note_claims(self._code(name, taking.number), worker, it.tasks, at_most)
            claims += it.tasks
        return claims

    def claim(self, subscription: Subscription, at_most: int, number: int = 0) -> list[Task]:
        worker = self.workers[number]
        claims = self.do(self.parts.tasks.claim(subscription, worker, at_most))
        self._note_claims(subscription, worker, claims, at_most)
        return claims

    def _note_claims(self, subscription: Subscription, worker: uuid.UUID, claims: Sequence[Task], at_most: int) -> None:
        """Each is one that may be claimed, and if they are fewer than asked for, any other has yet to be fed."""
        may_be = {task.position: task for task in self.model.claimable(subscription, worker)}
        for claim in claims:
            assert claim.recorded.position in may_be, self._about(claim)
            task = may_be.pop(claim.recorded.position)
            assert (claim.attempts, claim.crashes) == (task.attempts, task.crashes)
            assert claim.recorded.decode() == self.model.log[task.position]
            task.state, task.worker, task.token = "running", worker, claim.token
        if len(claims) < at_most:
            behind = self._in_log_only(subscription.name) | self._catching_up(subscription.name)
            assert set(may_be) <= behind

    def _about(self, claim: Task) -> str:
        others = [it for it in self.model.tasks.values() if it.subscription == claim.subscription]
        stream = [it for it in others if it.stream == claim.recorded.stream]
        return f"{claim.recorded.position} of {stream}; in the log only: {self._in_log_only(claim.subscription)}"

    def _in_log_only(self, name: str) -> set[int]:
        """What is to become a task: after the cursor, or behind it where a part of the subscription catches up."""
        return {row["position"] for row in self.do(self.database.fetch(SQL.in_log_only, name))}

    def _catching_up(self, name: str) -> set[int]:
        return {row["position"] for row in self.do(self.database.fetch(SQL.catching_up, name))}

    def _types_apart(self, name: str) -> set[str]:
        return {row["type"] for row in self.do(self.database.fetch(SQL.types_apart, name))}

    def _delivered(self, name: str) -> int:
        [row] = [row for row in self.do(self.database.fetch(SQL.subscriptions)) if row["name"] == name]
        return int(row["delivered"])

    def complete(self, claim: Task, emitted: Sequence[Event] = ()) -> None:
        """Handled again, it appends nothing again."""
        keys = [derive_key(claim.subscription, claim.recorded.position, number) for number in range(len(emitted))]
        entries = [Entry(event=event, key=key) for event, key in zip(emitted, keys, strict=True)]
        if task := self.model.held(claim):
            self.do(self.handle(claim, entries))
            self.model.complete(task)
            self.model.append(entries)
            self._expect_it_again(task)
        else:
            with pytest.raises(LeaseLost):
                self.do(self.handle(claim, entries))

    def _expect_it_again(self, task: ModelTask) -> None:
        """An event that was done with while its stream, or its type, was about to be handed out again."""
        if task.position in self._catching_up(task.subscription):
            self.model.make_tasks(SUBSCRIPTIONS[task.subscription], [task.position])

    def complete_and_cancel(self, claim: Task, turns: int) -> None:
        """Cancelled somewhere on the way, it is done wholly or not at all."""

        async def begin_and_cancel() -> None:
            handling = asyncio.ensure_future(self.handle(claim, []))
            for _ in range(turns):
                await asyncio.sleep(0)
            handling.cancel()
            with suppress(asyncio.CancelledError, LeaseLost):
                await handling

        task = self.model.held(claim)
        self.do(begin_and_cancel())
        key = claim.subscription, claim.recorded.stream, claim.recorded.position, claim.token
        if task and self.do(self.database.fetchval(LOG.hold, *key)) is None:  # which waits for what is under way
            self.model.complete(task)
            self._expect_it_again(task)

    async def handle(self, claim: Task, entries: Sequence[Entry]) -> None:
        async with self.database.transaction() as connection:
            await connection.execute(SQL.add_effect, claim.subscription, claim.recorded.position)
            await complete(connection, claim, entries)

    def fail(self, claim: Task, after: timedelta, counts: bool) -> None:
        task = self.model.held(claim)
        work = self.parts.tasks.retry(claim, after=after, counts=counts, error="error", traceback="traceback")
        assert self.do(work) == (task is not None)
        if task:
            task.give_back()
            task.attempts += counts
            task.run_at = self.model.now + after

    def dead_letter(self, claim: Task) -> None:
        async def give_up() -> bool:
            async with self.database.transaction() as connection:
                return await self.parts.tasks.dead_letter(connection, claim, error="error", traceback="traceback")

        task = self.model.held(claim)
        assert self.do(give_up()) == (task is not None)
        if task:
            task.give_back()
            task.state = "dead_lettered"
            task.attempts += 1

    def take_and_complete(self, taking: Taking, emitted: Sequence[Event]) -> None:
        for claim in self.take(taking):
            self.complete(claim, emitted)

    def take_and_cancel(self, taking: Taking, turns: int) -> None:
        for claim in self.take(taking):
            self.complete_and_cancel(claim, turns)

    def take_and_fail(self, taking: Taking, after: timedelta, counts: bool) -> None:
        for claim in self._but_one_completed(taking):
            self.fail(claim, after, counts)

    def take_and_dead_letter(self, taking: Taking) -> None:
        for claim in self._but_one_completed(taking):
            self.dead_letter(claim)

    def _but_one_completed(self, taking: Taking) -> list[Task]:
        claims = self.take(taking)
        for claim in claims[1:]:
            self.complete(claim)
        return claims[:1]

    def take_and_keep(self, taking: Taking) -> None:
        self.kept += self.take(taking)

    def settle(self, which: int, how: How) -> None:
        """One that was kept; perhaps for the second time, perhaps by a zombie, whose lease is over."""
        for claim in self.kept[-1 - which : len(self.kept) - which]:
            match how:
                case "complete":
                    self.complete(claim)
                case "fail":
                    self.fail(claim, LEASE, counts=True)
                case _:
                    self.dead_letter(claim)

    # --- by hand ---

    def settle_dead_letter(self, which: int, drops: bool) -> None:
        for task in self.model.dead_letters()[which : which + 1]:
            self._settle_dead_letter(task, drops=drops)

    def _settle_dead_letter(self, task: ModelTask, *, drops: bool) -> None:
        number = self.do(self.database.fetchval(SQL.dead_lettered_id, task.subscription, task.position))
        act = drop_dead_letters if drops else retry_dead_letters
        assert self.do(act(self.database, Selection(ids=[number]))) == [number]
        if drops:
            self.model.drop(task)
            self._expect_it_again(task)
        else:
            task.state, task.attempts, task.crashes, task.run_at = "ready", 0, 0, self.model.now

    def replay(self, name: str, back: int, stream: str | None) -> None:
        after = max(0, self.model.cursors[name] - back)
        self.do(start_replay(self.database, Replay(subscription=SUBSCRIPTIONS[name], after=after, stream=stream)))
        if stream is None:
            self.model.rewind(SUBSCRIPTIONS[name], after)
        else:
            self.model.redeliver(SUBSCRIPTIONS[name], after, stream)

    # --- another version of the code ---

    def start_newer_code(self) -> None:
        """It wants one type more."""
        self.do(register_subscriptions(self.database, [GROWN], {}))
        self.model.add_type(GROWN, RepoEmpty)
        self.has_grown = True

    def start_older_code(self) -> None:
        """It does not want that type, but does not know of the other either."""
        self.do(register_subscriptions(self.database, [STRICT], {}))

    # --- what always holds ---

    @invariant()
    def all_is_as_the_model_says(self) -> None:
        self._log_holds_what_was_appended()
        self._tasks_are_those_of_the_model()
        self._cursors_and_leases_are_those_of_the_model()
        self._every_event_has_its_effect_once_each_time_it_is_handed_out()
        self._no_event_overtakes_an_earlier_one_of_its_stream()
        self._counts_add_up()

    def _handle_everything(self) -> None:
        """However things stand, nothing is stuck: what is left to do can be done by one worker that goes on."""
        if self.appender is not None:
            self.append_slowly([], commits=True)
        for task in self.model.dead_letters():
            self._settle_dead_letter(task, drops=False)
        self.let_time_pass(timedelta(days=1), ("restarts", "is silent"), then_reap=True)
        rounds = 0
        while not self._handle_some():
            rounds += 1
            assert rounds < 10 * len(self.model.log) + 50, "it is stuck"
        assert not self.model.tasks
        for it in SUBSCRIPTIONS.values():
            assert {(it.name, at) for at in self.model.wanted(it, 0, self.model.head)} == {
                handed for handed in self.model.effects + list(self.model.dropped) if handed[0] == it.name
            }

    def _handle_some(self) -> bool:
        """Whether that was all."""
        claims = self.take(Taking(0, feeds=True, at_once=5, at_most=5))
        for claim in claims:
            self.complete(claim)
        return (
            not claims
            and all(at == self.model.high_water_mark for at in self.model.cursors.values())
            and not any(self._catching_up(name) for name in SUBSCRIPTIONS)
        )

    def _log_holds_what_was_appended(self) -> None:
        async def read() -> dict[int, Event]:
            return {recorded.position: recorded.decode() async for recorded in self.parts.log.read()}

        readable = {at: event for at, event in sorted(self.model.log.items()) if at <= self.model.high_water_mark}
        assert list(self.do(read()).items()) == list(readable.items())
        assert self.do(self.parts.log.high_water_mark()) == self.model.high_water_mark

    def _tasks_are_those_of_the_model(self) -> None:
        rows = self.do(self.database.fetch(SQL.tasks))
        found = {(row["subscription"], row["position"]): self._as_the_model_has_it(row) for row in rows}
        missing = self.model.tasks.keys() - found.keys()
        assert found == {
            handed: replace(task, run_at=max(task.run_at, self.model.now))
            for handed, task in self.model.tasks.items()
            if handed not in missing
        }
        for name, subscription in SUBSCRIPTIONS.items():
            its_missing = {at for its_name, at in missing if its_name == name}
            assert its_missing <= self._in_log_only(name)
            assert {(name, at) for at in self._catching_up(name)} - found.keys() <= self.model.tasks.keys()
            assert self._delivered(name) == self.model.delivered(subscription) - len(its_missing)
        active = Counter((row["subscription"], row["stream"]) for row in rows if row["state"] in ("ready", "running"))
        assert all(count == 1 for count in active.values())
        queued = Counter((row["subscription"], row["stream"]) for row in rows if row["state"] == "queued")
        assert all(count <= 3 * FEED_LIMIT for count in queued.values())

    def _as_the_model_has_it(self, row: asyncpg.Record) -> ModelTask:
        """Which of the ready ones of a stream are queued is not the model's business; when they were due, neither."""
        state = "ready" if row["state"] == "queued" else row["state"]
        return ModelTask(**{**row, "state": state, "run_at": max(row["run_at"] - self.beginning, self.model.now)})

    def _cursors_and_leases_are_those_of_the_model(self) -> None:
        rows = self.do(self.database.fetch(SQL.subscriptions))
        assert {row["name"]: row["position"] for row in rows} == self.model.cursors
        leases = self.do(self.database.fetch(SQL.workers))
        assert {row["id"]: row["lease_until"] - self.beginning for row in leases} == self.model.workers

    def _every_event_has_its_effect_once_each_time_it_is_handed_out(self) -> None:
        effects = [tuple(row) for row in self.do(self.database.fetch(SQL.effects))]
        assert effects == self.model.effects
        assert Counter(effects) == self.model.handed - self.model.dropped - Counter(self.model.tasks.keys())

    def _no_event_overtakes_an_earlier_one_of_its_stream(self) -> None:
        """Unless that was dropped, and handed out again later."""
        for name in {event.stream() for event in self.model.log.values()}:
            first_times = [
                at
                for subscription_name, at in dict.fromkeys(self.model.effects)
                if subscription_name == STRICT.name and self.model.log[at].stream() == name
                if (subscription_name, at) not in self.model.dropped
            ]
            assert first_times == sorted(first_times)

    def _counts_add_up(self) -> None:
        for counts in self.do(read_subscriptions(self.database)):
            states = Counter(task.state for task in self.model.tasks.values() if task.subscription == counts["name"])
            done = sum(1 for name, _ in self.model.effects if name == counts["name"])
            assert (counts["running"], counts["dead_lettered"]) == (states["running"], states["dead_lettered"])
            assert counts["done"] == done


def step(method: Callable[..., None], **arguments: st.SearchStrategy[Any]) -> st.SearchStrategy[Step]:
    return st.builds(partial, st.just(method), **arguments)


# What is named more than once happens more often.
STEPS: st.SearchStrategy[Step] = st.one_of(
    step(History.append, entries=ENTRIES | MANY_ENTRIES),
    step(History.append_slowly, events=st.lists(EVENTS, min_size=1, max_size=3), commits=st.booleans()),
    step(History.let_time_pass, by=LATER, fates=st.tuples(FATE, FATE), then_reap=st.booleans()),
    step(History.let_time_pass, by=LATER, fates=st.tuples(FATE, FATE), then_reap=st.just(True)),
    step(History.take_and_complete, taking=TAKING, emitted=st.lists(EVENTS, max_size=3)),
    step(History.take_and_complete, taking=TAKING, emitted=st.just([])),
    step(History.take_and_complete, taking=TAKING, emitted=st.just([])),
    step(History.take_and_cancel, taking=TAKING, turns=st.integers(0, 12)),
    step(History.take_and_fail, taking=TAKING, after=LATER, counts=st.booleans()),
    step(History.take_and_dead_letter, taking=TAKING),
    step(History.take_and_keep, taking=TAKING),
    step(History.take_and_keep, taking=TAKING),
    step(History.crash_in_order, number=st.integers(0, 1), which=st.integers(-3, 0)),
    step(History.settle, which=st.integers(0, 4), how=st.sampled_from(get_args(How))),
    step(History.settle, which=st.integers(0, 4), how=st.sampled_from(get_args(How))),
    step(History.settle_dead_letter, which=st.integers(0, 2), drops=st.booleans()),
    step(History.settle_dead_letter, which=st.integers(0, 2), drops=st.just(False)),
    step(History.start_newer_code),
    step(History.start_older_code),
    step(History.replay, name=st.sampled_from(list(SUBSCRIPTIONS)), back=st.integers(-3, 20), stream=STREAMS),
)


@pytest.fixture
def parts(database_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Parts]:
    monkeypatch.setattr("codelupe.work.task_queue.FEED_LIMIT", FEED_LIMIT)
    with real_parts(database_url) as it:
        yield it


@pytest.mark.slow
@pytest.mark.timeout(900)  # finding the shortest history that goes wrong takes up to five minutes
def test_the_log_stands_as_its_model_says(parts: Parts) -> None:
    checks = [HealthCheck.too_slow, HealthCheck.data_too_large]
    run_state_machine_as_test(
        partial(History, parts),  # type: ignore[arg-type]  # a class, or so says the annotation
        settings=settings(
            max_examples=100, stateful_step_count=50, deadline=None, print_blob=True, suppress_health_check=checks
        ),
    )


def test_an_event_that_comes_back_before_one_at_work_holds_up_no_other_stream(parts: Parts) -> None:
    history = History(parts)
    history.append([Entry(event=batch(stream)) for stream in (0, 0, 1)])
    history.feed(Taking(0, feeds=True, at_once=0, at_most=0))
    [first] = history.claim(STRICT, at_most=1)
    history.complete(first)
    history.claim(STRICT, at_most=1)
    history.replay(name=STRICT.name, back=3, stream="batch/0")
    [other] = history.claim(STRICT, at_most=5)
    assert other.recorded.stream == "batch/1"
    history.all_is_as_the_model_says()


def test_a_claim_made_while_its_worker_is_being_reaped_comes_back(parts: Parts) -> None:
    history = History(parts)
    history.begin()
    history.feed(Taking(0, feeds=True, at_once=0, at_most=0))
    worker = history.workers[0]

    async def claim_while_reaped() -> list[Task]:
        async with parts.database.transaction() as connection:
            await connection.execute(LOG.delete_workers, [worker])
            return await parts.tasks.claim(STRICT, worker, at_most=1)

    [claim] = parts.do(claim_while_reaped())
    assert parts.do(parts.tasks.reap(history.workers[1])) == (0, 1)
    with pytest.raises(LeaseLost):
        parts.do(history.handle(claim, []))
    [again] = parts.do(parts.tasks.claim(STRICT, history.workers[1], at_most=1))
    assert (again.recorded, again.crashes) == (claim.recorded, 1)
