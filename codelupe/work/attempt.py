"""One attempt at one task, and what becomes of it: done, tried again, parked, or discarded."""

from __future__ import annotations

import traceback
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any

import anyio

from codelupe.errors import DatabaseUnavailable, LeaseLost, Reject, RetryLater
from codelupe.log.entries import Entry
from codelupe.work.context import HandlerContext, Runtime
from codelupe.work.subscriptions import Handler, Stage, backoff
from codelupe.work.task import Task
from codelupe.work.task_queue import Tasks
from codelupe_events import EventError, TaskParked

_AWAY_PAUSE_SECONDS = 0.5


class Handling:
    """Runs one stage's handler."""

    def __init__(
        self,
        stage: Stage,
        handler: Handler,
        runtime: Runtime,
        tasks: Tasks,
        on_due: Callable[[timedelta], None],
    ) -> None:
        self._stage = stage
        self._subscription = stage.subscription
        self._handler = handler
        self._runtime = runtime
        self._tasks = tasks
        self._on_due = on_due

    async def run(self, task: Task) -> None:
        """One attempt, to an end that the database knows of; ``on_due`` hears when the task is to be tried again."""
        context = HandlerContext(self._subscription.version, self._runtime, task)
        try:
            self._refuse_a_killer(task)
            await self._handler(task.recorded.decode(), context)
            await context.finish()
        except (Exception, SystemExit) as error:
            await self._settle_anyhow(task, _sole_cause(error), context)

    def _refuse_a_killer(self, task: Task) -> None:
        if task.losses >= self._subscription.retry.losses:
            raise Reject(f"{task.losses} workers died while they handled it")

    async def _settle_anyhow(self, task: Task, error: BaseException, context: HandlerContext) -> None:
        """Settle it; an error that cannot be dealt with as what it claims to be parks the event."""
        try:
            await self._settle(task, error, context)
        except (Exception, SystemExit) as odd:
            reason = Reject(f"{describe(error)} (and that cannot be obeyed: {describe(odd)})")
            context.log.error("parked", error=str(reason), exc_info=odd)
            await _persist(lambda: self._park(task, reason))

    async def _settle(self, task: Task, error: BaseException, context: HandlerContext) -> None:
        policy, failures = self._subscription.retry, task.attempts + 1
        match error:
            case LeaseLost():
                context.log.warning("result_discarded", reason=error.message)
            case DatabaseUnavailable():
                await _persist(lambda: self._retry(task, error, timedelta(seconds=1), counts=False))
            case RetryLater():
                context.log.warning("retry_later", reason=str(error), after_seconds=error.after.total_seconds())
                await _persist(lambda: self._retry(task, error, error.after, counts=error.counts))
            case Reject() | EventError():
                context.log.error("parked", error=describe(error))
                await _persist(lambda: self._park(task, error))
            case _ if failures >= policy.attempts:
                context.log.error("parked", error=describe(error), exc_info=error)
                await _persist(lambda: self._park(task, error))
            case _:
                after = backoff(policy, failures)
                seconds = round(after.total_seconds(), 1)
                context.log.warning("attempt_failed", error=describe(error), retry_in_seconds=seconds, exc_info=error)
                await _persist(lambda: self._retry(task, error, after, counts=True))

    async def _retry(self, task: Task, error: BaseException, after: timedelta, *, counts: bool) -> None:
        text = describe(error), _traceback(error)
        if await self._tasks.retry(task, after=after, counts=counts, error=text[0], traceback=text[1]):
            self._on_due(after)

    async def _park(self, task: Task, error: BaseException) -> None:
        event = TaskParked(
            subscription=task.subscription,
            event_id=str(task.recorded.id),
            event_type=task.recorded.type,
            attempts=task.attempts + 1,
            error=describe(error),
        )
        metadata = {"by": task.subscription, "caused_by": str(task.recorded.id)}
        log = self._runtime.log
        async with log.database.transaction() as connection:
            if await self._tasks.park(connection, task, error=describe(error), traceback=_traceback(error)):
                await log.append(connection, [Entry(event=event, metadata=metadata)])
        log.notifier.announce()


async def _persist(record: Callable[[], Awaitable[Any]]) -> None:
    """Record how a handling ended, however long the database is away; the lease's end cancels this."""
    while True:
        try:
            await record()
        except DatabaseUnavailable:
            await anyio.sleep(_AWAY_PAUSE_SECONDS)
        else:
            return


def describe(error: BaseException) -> str:
    """The error in one line, fit for a table: its type unless it is one of ours, and its first words."""
    try:
        text = _storable(str(error))[:2000]
    except Exception:
        text = "it cannot say what"
    return text if isinstance(error, (Reject, RetryLater)) else f"{type(error).__name__}: {text}"


def _traceback(error: BaseException) -> str:
    return _storable("".join(traceback.format_exception(error)))[-20_000:]


def _storable(text: str) -> str:
    """The text as Postgres can hold it: no NUL, and no lone surrogate of a file name that is not UTF-8."""
    return text.replace("\x00", "\N{SYMBOL FOR NULL}").encode(errors="backslashreplace").decode()


def _sole_cause(error: BaseException) -> BaseException:
    """A handler's own task group wraps its error; what counts is the error inside."""
    while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]
    return error
