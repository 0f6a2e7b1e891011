"""One attempt at one task: begin, call the handler, record the outcome."""

from __future__ import annotations

import traceback
from datetime import timedelta

from codelupe.errors import LeaseLost, Reject, RetryLater
from codelupe.log import Entry
from codelupe.postgres.retry import is_unavailable, retry_while_unavailable
from codelupe.postgres.text import storable
from codelupe.work.context import HandlerContext
from codelupe.work.retry import backoff
from codelupe.work.runtime import Runtime
from codelupe.work.subscriptions import Handler, Subscribed
from codelupe.work.task import Task
from codelupe.work.task_queue import TaskQueue
from codelupe_events import EventError, TaskDeadLettered


class Attempt:
    """One attempt at one task; whatever the handler raises becomes an outcome that the database knows of."""

    def __init__(
        self, subscription: Subscribed, handler: Handler, task: Task, runtime: Runtime, queue: TaskQueue
    ) -> None:
        self._policy = subscription.retry
        self._handler = handler
        self._task = task
        self._log = runtime.log
        self._queue = queue
        self._context = HandlerContext(subscription.version, runtime, task)

    async def run(self) -> timedelta | None:
        """Begin, call, record; returns after how long the task is to be tried again, None if it is not."""
        try:
            self._begin()
            await self._handler(self._task.recorded.decode(), self._context)
            await self._context.finish()
        except (Exception, SystemExit) as error:
            return await self._record_outcome(_sole_cause(error))
        return None

    def _begin(self) -> None:
        if self._task.crashes >= self._policy.crashes:
            raise Reject(f"{self._task.crashes} workers died while they handled it")

    async def _record_outcome(self, error: BaseException) -> timedelta | None:
        """An error that cannot be obeyed, such as a retry in ten thousand years, makes a dead letter."""
        try:
            return await self._obey(error)
        except (Exception, SystemExit) as odd:
            reason = f"{describe(error)} (and that cannot be obeyed: {describe(odd)})"
            await self._dead_letter(Reject(reason), cause=odd)
            return None

    async def _obey(self, error: BaseException) -> timedelta | None:
        failures, log = self._task.attempts + 1, self._context.log
        match error:
            case LeaseLost():
                log.warning("result_discarded", reason=error.message)
            case _ if is_unavailable(error):
                return await self._retry(error, timedelta(seconds=1), counts=False)
            case RetryLater():
                log.warning("retry_later", reason=str(error), after_seconds=error.after.total_seconds())
                return await self._retry(error, error.after, counts=error.counts)
            case Reject() | EventError():
                await self._dead_letter(error)
            case _ if failures >= self._policy.attempts:
                await self._dead_letter(error, cause=error)
            case _:
                after = backoff(self._policy, failures)
                seconds = round(after.total_seconds(), 1)
                log.warning("attempt_failed", error=describe(error), retry_in_seconds=seconds, exc_info=error)
                return await self._retry(error, after, counts=True)
        return None

    async def _retry(self, error: BaseException, after: timedelta, *, counts: bool) -> timedelta | None:
        async def record() -> timedelta | None:
            text = {"error": describe(error), "traceback": _traceback(error)}
            return after if await self._queue.retry(self._task, after=after, counts=counts, **text) else None

        return await retry_while_unavailable(record, "outcome")

    async def _dead_letter(self, error: BaseException, *, cause: BaseException | None = None) -> None:
        self._context.log.error("dead_lettered", error=describe(error), exc_info=cause)
        recorded = self._task.recorded
        event = TaskDeadLettered(
            subscription=self._task.subscription,
            event_id=str(recorded.id),
            event_type=recorded.type,
            attempts=self._task.attempts + 1,
            error=describe(error),
        )
        entry = Entry(event=event, metadata={"by": self._task.subscription, "caused_by": str(recorded.id)})

        async def record() -> None:
            text = {"error": describe(error), "traceback": _traceback(error)}
            async with self._log.database.transaction() as connection:
                if await self._queue.dead_letter(connection, self._task, **text):
                    await self._log.append(connection, [entry])
            self._log.notifier.announce()

        await retry_while_unavailable(record, "outcome")


def describe(error: BaseException) -> str:
    """The error in one line, fit for a table: its type unless it is one of ours, and its first words."""
    try:
        text = storable(str(error))[:2000]
    except Exception:
        text = "it cannot say what"
    return text if isinstance(error, (Reject, RetryLater)) else f"{type(error).__name__}: {text}"


def _traceback(error: BaseException) -> str:
    return storable("".join(traceback.format_exception(error)))[-20_000:]


def _sole_cause(error: BaseException) -> BaseException:
    """A handler's own task group wraps its error; what counts is the error inside."""
    while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]
    return error
