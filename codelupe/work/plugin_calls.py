"""Calling plugin code: whatever it raises is its own failure, and a call that was cancelled ends, or the process does.

Only the host's own cancellation passes through, and that is recognised from outside: what a handler raises does not
tell. A ``CancelledError`` may come from a future that a library cancelled, and a ``BaseException`` from a Rust panic.
"""

from __future__ import annotations

import asyncio
import math
import os
import sys
import threading
import time
import traceback
from collections.abc import Awaitable, Callable, Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import timedelta
from types import FrameType
from typing import Any

import anyio
import anyio.lowlevel
import structlog

from codelupe.contracts.boundary import is_cancelled_by_host
from codelupe.observability.attribution import attributed_to
from codelupe.postgres.search_path import inside_schema
from codelupe.postgres.slots import borrowed_by
from codelupe.work.child_tasks import PluginRaised, of_plugin_code

_LOOK_SECONDS = 0.5
"""How often the guard looks whether what was cancelled has ended."""

log = structlog.get_logger("codelupe")


class TimeLimitExceeded(Exception):
    """A call of plugin code took longer than its ``timeout`` and was cancelled."""


def end_process() -> None:
    """At once and with ``EX_SOFTWARE``: what holds the process up cannot be told to stop."""
    os._exit(os.EX_SOFTWARE)


@dataclass(kw_only=True, eq=False)
class _Call:
    """A call under way, as the guard's thread sees it."""

    name: str
    stream: str
    task: asyncio.Task[Any]
    scope: anyio.CancelScope
    grace: float
    ends_by: float = math.inf
    """The moment, by the monotonic clock, at which it is cancelled at the latest."""
    ignoring_seconds: float = field(default=0.0, init=False)
    """How long it has gone on since it was cancelled, without the time in which the process did not run."""

    def is_cancelled(self, now: float) -> bool:
        # Of anyio's own knowledge only a task can ask for its innermost scope's, which may be a shield of the plugin's.
        return now >= self.ends_by or getattr(self.scope, "_effectively_cancelled", self.scope.cancel_called)


class PluginCalls:
    """The calls of plugin code that are under way in this process.

    ``schemas`` says which schema the tables of a plugin lie in, if it has any. ``end`` ends the process.
    """

    def __init__(self, schemas: Mapping[str, str] | None = None, *, end: Callable[[], None] = end_process) -> None:
        self._schemas = schemas or {}
        self._end = end
        self._running: set[_Call] = set()

    async def run(
        self,
        code: Callable[..., Awaitable[object]],
        *arguments: object,
        name: str,
        stream: str,
        limit: timedelta | None,
        grace: timedelta,
    ) -> None:
        """Call plugin code, for ``limit`` at most; cancelled, it may take ``grace`` to end.

        What it raises comes as an ``Exception``, a :class:`~codelupe.work.child_tasks.PluginRaised` if it was none.

        Raises:
            TimeLimitExceeded: it was cancelled after its time.
        """
        task = asyncio.current_task()
        assert task is not None, "anyio runs on asyncio here"
        cancellations = task.cancelling()
        seconds = math.inf if limit is None else limit.total_seconds()
        call = _Call(
            name=name,
            stream=stream,
            task=task,
            scope=anyio.CancelScope(deadline=anyio.current_time() + seconds),
            grace=grace.total_seconds(),
            ends_by=time.monotonic() + seconds,
        )
        failure: BaseException | None = None
        self._running.add(call)
        try:
            with (
                inside_schema(self.schema_of(name)),
                borrowed_by(name),
                attributed_to(name, stream),
                call.scope,
                of_plugin_code(),
            ):
                try:
                    await code(*arguments)
                except BaseException as error:
                    if _is_torn_down(task):
                        raise
                    failure = error
        finally:
            self._running.discard(call)
        if failure is not None or task.cancelling() > cancellations or _is_to_be_cancelled(task):
            await _settle_cancellation(task, cancellations)
        if call.scope.cancel_called:
            raise TimeLimitExceeded(f"not done within {seconds:g} s, which is its timeout") from failure
        if isinstance(failure, Exception):
            raise failure
        if failure is not None:
            raise PluginRaised(failure) from failure

    def schema_of(self, name: str) -> str | None:
        """Where the tables lie of the plugin whose subscription, job or service this is."""
        return self._schemas.get(name.partition(".")[0])

    def end_by(self, names: Collection[str], seconds: float) -> None:
        """Calls of these names are cancelled in so many seconds. May be told from any thread: the loop may stand."""
        latest = time.monotonic() + seconds
        for call in list(self._running):
            if call.name in names:
                call.ends_by = min(call.ends_by, latest)

    @contextmanager
    def guarded(self) -> Iterator[None]:
        """Inside the block, a call that does not end within its grace is named, and ends the process.

        Its task is another worker's by then, or is to be tried again, and must not run twice. The guard is a thread, so
        that code which blocks the loop does not escape it.
        """
        loop_thread, stop = threading.get_ident(), threading.Event()

        def watch() -> None:
            while not stop.wait(_LOOK_SECONDS):
                self._look(loop_thread)

        thread = threading.Thread(target=watch, name="plugin-calls", daemon=True)
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join()

    def _look(self, loop_thread: int) -> None:
        now = time.monotonic()
        for call in list(self._running):
            if not call.is_cancelled(now):
                continue
            call.ignoring_seconds += _LOOK_SECONDS
            if call.ignoring_seconds > call.grace:
                log.error(
                    "handler_ignores_cancellation",
                    stage=call.name,
                    stream=call.stream,
                    seconds=round(call.ignoring_seconds, 1),
                    stack=_stack(call.task, loop_thread),
                    hint="The process ends, so that the work can begin again. "
                    f"If it ends so again, `codelupe plugins pause {call.name}`, and mend what `stack` shows.",
                )
                self._running.discard(call)
                self._end()


def _is_torn_down(task: asyncio.Task[Any]) -> bool:
    """Whether the coroutine is being closed, and not run by its task: then nothing may be awaited in it."""
    try:
        return asyncio.current_task() is not task
    except RuntimeError:  # no loop runs
        return True


def _is_to_be_cancelled(task: asyncio.Task[Any]) -> bool:
    """Whether the next ``await`` raises ``CancelledError`` although the count of requests says nothing of it."""
    return bool(getattr(task, "_must_cancel", False))


async def _settle_cancellation(task: asyncio.Task[Any], cancellations: int) -> None:
    """Let the host's cancellation through; withdraw one that plugin code requested of its own task.

    A request that was not delivered yet would hit the host's next ``await``. One of the host's that comes just now is
    delivered again, since anyio repeats it.
    """
    if is_cancelled_by_host():
        await anyio.lowlevel.checkpoint_if_cancelled()
    while task.cancelling() > cancellations:
        task.uncancel()
    with suppress(asyncio.CancelledError):
        await asyncio.sleep(0)


def _stack(task: asyncio.Task[Any], loop_thread: int) -> str:
    """Where the task's code stands, innermost last."""
    if asyncio.current_task(task.get_loop()) is task:
        frames = sys._current_frames()  # noqa: SLF001 - documented, and the only way
        return "".join(traceback.format_stack(frames.get(loop_thread)))
    awaited: object = task.get_coro()
    stack = traceback.StackSummary()
    while awaited is not None:
        frame: FrameType | None = getattr(awaited, "cr_frame", None) or getattr(awaited, "gi_frame", None)
        if frame is not None:
            stack.extend(traceback.StackSummary.extract([(frame, frame.f_lineno)]))
        awaited = getattr(awaited, "cr_await", None) or getattr(awaited, "gi_yieldfrom", None)
    return "".join(stack.format())
