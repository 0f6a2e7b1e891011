"""One attempt at one task: begin, call the handler, record the outcome."""

from __future__ import annotations

import traceback
from collections.abc import Awaitable, Callable, Iterator
from datetime import timedelta
from functools import partial
from typing import TypeVar

import anyio

from codelupe.contracts.boundary import ContributionFailed, Part, used_parts
from codelupe.errors import LeaseLost, Reject, RetryLater
from codelupe.log import Entry
from codelupe.log.event_log import SQL
from codelupe.observability.redaction import redact_text
from codelupe.postgres import Connection
from codelupe.postgres.retry import RetryWhileUnavailable, is_unavailable
from codelupe.postgres.text import storable
from codelupe.work.child_tasks import PluginRaised
from codelupe.work.context import HandlerContext
from codelupe.work.pauses import ASK_AGAIN, subscription_part
from codelupe.work.postponement import Postponement, can_be_obeyed
from codelupe.work.retry import backoff
from codelupe.work.runtime import Runtime
from codelupe.work.subscriptions import Handler, Subscribed
from codelupe.work.task import Task
from codelupe.work.task_queue import TaskQueue
from codelupe_events import EventError, TaskDeadLettered

T = TypeVar("T")

_SHOWN = 3
"""So many errors of a group are described."""


class Attempt:
    """One attempt at one task; whatever the handler raises becomes an outcome that the database knows of."""

    def __init__(
        self,
        subscription: Subscribed,
        handler: Handler,
        task: Task,
        runtime: Runtime,
        queue: TaskQueue,
        postponement: Postponement,
    ) -> None:
        self._subscription = subscription
        self._policy = subscription.retry
        self._handler = handler
        self._task = task
        self._runtime = runtime
        self._log = runtime.log
        self._outage = runtime.database.outage
        self._pauses = runtime.pauses
        self._queue = queue
        self._postponement = postponement
        self._context = HandlerContext(subscription.version, runtime, task)
        self._work = task.subscription, task.recorded.position

    async def run(self) -> timedelta | None:
        """Begin, call, record; returns after how long the task is to be tried again, None if it is not."""

        async def handle() -> None:
            await self._handler(self._task.recorded.decode(), self._context)

        began = anyio.current_time()
        try:
            with self._context.open_inside(), used_parts() as used:
                self._begin()
                await self._runtime.calls.run(
                    handle,
                    name=self._task.subscription,
                    stream=self._task.recorded.stream,
                    limit=self._subscription.timeout,
                    grace=self._subscription.grace,
                )
                await self._context.finish()
        except Exception as error:
            return await self._record_outcome(cause_of(error))
        self._postponement.record_success(since=began)
        self._outage.over_for(self._task.subscription)
        self._runtime.lost_sessions.record_success(self._work)
        parts = {*used, subscription_part(self._task.subscription)}
        if self._pauses.are_failing(parts):
            await _record(partial(self._pauses.record_success, parts))
        return None

    def _begin(self) -> None:
        self._pauses.require_open(self._task.subscription)
        if self._task.crashes >= self._policy.crashes:
            raise Reject(f"{self._task.crashes} workers died while they handled it")

    async def _record_outcome(self, error: BaseException) -> timedelta | None:
        """An error that cannot be obeyed, such as a retry in ten thousand years, makes a dead letter."""
        if self._context.is_finished:
            self._context.log.warning("failed_after_commit", error=describe(error), exc_info=error)
            return None
        try:
            return await self._obey(error)
        except Exception as odd:
            reason = f"{describe(error)} (and that cannot be obeyed: {describe(odd)})"
            return await self._dead_letter(Reject(reason), None, cause=odd)

    async def _obey(self, error: BaseException) -> timedelta | None:
        log = self._context.log
        is_away = is_unavailable(error, outage=self._outage)
        is_away = is_away and not await self._runtime.lost_sessions.are_too_many(self._work, error)
        if not is_away:
            self._outage.over_for(self._task.subscription)
        match error:
            case LeaseLost() if not await self._is_ours():
                log.warning("result_discarded", reason=error.message)
            case _ if is_away:
                self._outage.met_by(self._task.subscription, self._task.subscription, describe(error))
                return await self._retry(error, timedelta(seconds=1), counts=False)
            case RetryLater() if can_be_obeyed(error):
                self._postponement.meet(log, describe(error), error.after)
                return await self._retry(error, error.after, counts=error.counts)
            case Reject() | EventError():
                return await self._dead_letter(error, None)
            case _:
                return await self._fail(error)
        return None

    async def _is_ours(self) -> bool:
        """Whether the lease holds, whatever the plugin says of it."""
        return bool(await _record(partial(self._log.database.fetchval, SQL.hold, *self._task.key)))

    async def _fail(self, error: BaseException) -> timedelta | None:
        failures, name = self._task.attempts + 1, self._task.subscription
        culprit = error.part if isinstance(error, ContributionFailed) else subscription_part(name)
        if failures == 1:
            await _record(partial(self._pauses.record_failure, culprit, self._task.recorded.stream, describe(error)))
        if self._pauses.holds(name):
            return await self._wait_for_resume(error)
        if failures >= self._policy.attempts:
            return await self._dead_letter(error, culprit, cause=error)
        after = backoff(self._policy, failures)
        seconds = round(after.total_seconds(), 1)
        self._context.log.warning("attempt_failed", error=describe(error), retry_in_seconds=seconds, exc_info=error)
        return await self._retry(error, after, counts=True)

    async def _wait_for_resume(self, error: BaseException) -> timedelta | None:
        """The failure is no news of something that is paused by now, and not the event's."""
        self._context.log.warning("attempt_failed", error=describe(error), is_paused=True)
        return await self._retry(error, ASK_AGAIN, counts=False)

    async def _retry(self, error: BaseException, after: timedelta, *, counts: bool) -> timedelta | None:
        async def record() -> timedelta | None:
            text = {"error": describe(error), "traceback": _traceback(error)}
            return after if await self._queue.retry(self._task, after=after, counts=counts, **text) else None

        return await _record(record)

    async def _dead_letter(
        self, error: BaseException, culprit: Part | None, *, cause: BaseException | None = None
    ) -> timedelta | None:
        """Give the event up. It is the ``culprit``'s failure, unless it is a verdict on the event."""
        recorded, text = self._task.recorded, {"error": describe(error), "traceback": _traceback(error)}
        event = TaskDeadLettered(
            subscription=self._task.subscription,
            event_id=str(recorded.id),
            event_type=recorded.type,
            attempts=self._task.attempts + 1,
            error=describe(error),
        )
        entry = Entry(event=event, metadata={"by": self._task.subscription, "caused_by": str(recorded.id)})

        async def dead_letter(connection: Connection) -> None:
            if await self._queue.dead_letter(connection, self._task, **text):
                await self._log.append(connection, [entry])

        async def record() -> bool:
            if culprit is None:
                async with self._log.database.transaction() as connection:
                    await dead_letter(connection)
                return True
            return await self._pauses.record_dead_letter(culprit, recorded.stream, describe(error), dead_letter)

        if not await _record(record):
            return await self._wait_for_resume(error)
        self._context.log.error("dead_lettered", error=describe(error), exc_info=cause)
        if isinstance(error, ContributionFailed) and culprit is not None:
            self._pauses.failed[culprit] = describe(error)
        self._log.notifier.announce()
        return None


async def _record(step: Callable[[], Awaitable[T]]) -> T:
    """An outage is the handlers' and the feeder's to report."""
    recording = RetryWhileUnavailable("outcome", quiet=True)
    while True:
        async with recording:
            return await step()


def describe(error: BaseException) -> str:
    """The error in one line, fit for a table: its type unless it is one of ours, and its first words."""
    if isinstance(error, BaseExceptionGroup):
        first, *others = _leaves(error)
        several = "; ".join(map(describe, [first, *others[: _SHOWN - 1]]))
        return f"{several} (and {len(others) + 1 - _SHOWN} more)" if len(others) >= _SHOWN else several
    try:
        text = storable(redact_text(str(error)))[:2000]
    except BaseException:
        text = "it cannot say what"
    if isinstance(error, RetryLater) and not can_be_obeyed(error):
        return f"{text} (and that cannot be obeyed: it does not say after what timedelta)"
    if isinstance(error, (Reject, RetryLater)):
        return text
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def cause_of(error: BaseException) -> BaseException:
    """What plugin code raised, out of what was made of it on the way.

    A task group wraps the error of its only child that fails. Several that want to be called again later are one that
    waits for the longest of their times.
    """
    while True:
        if isinstance(error, PluginRaised):
            error = error.error
        elif isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
            error = error.exceptions[0]
        else:
            break
    if isinstance(error, BaseExceptionGroup):
        leaves = list(_leaves(error))
        postponed = [one for one in leaves if can_be_obeyed(one)]
        if len(postponed) == len(leaves):
            return max(postponed, key=lambda one: one.after)
    return error


def _leaves(error: BaseException) -> Iterator[BaseException]:
    error = cause_of(error) if isinstance(error, PluginRaised) else error
    if isinstance(error, BaseExceptionGroup):
        for one in error.exceptions:
            yield from _leaves(one)
    else:
        yield error


def _traceback(error: BaseException) -> str:
    return storable(redact_text("".join(traceback.format_exception(error))))[-20_000:]
