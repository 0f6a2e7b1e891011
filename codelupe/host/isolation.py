"""Code of a plugin's that runs while plugins are loaded: it ends in time or is named, and leaves the process as it was.

What it raises is the plugin's, whatever it is. What it prints goes to standard error. Signal handlers, the working
directory and the policy for event loops are put back. Its changes of ``sys.path``, of the environment and of other
libraries stay, and nothing survives an ``os._exit``.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, wait
from contextlib import contextmanager, redirect_stdout, suppress
from datetime import datetime
from types import FrameType
from typing import Any, TypeVar

import structlog

T = TypeVar("T")

SLOW_SECONDS = 10.0
log = structlog.get_logger("codelupe")


def isolate(plugin: str, activity: str, action: Callable[[], T], fail: Callable[[BaseException], None]) -> T | None:
    """What the action returns; None if it raises, once ``fail`` has the error. Only Ctrl-C passes through."""
    with _reported_if_slow(plugin, activity), _as_it_was(plugin, activity), _own_interrupt() as is_interrupted:
        try:
            with stdout_to_stderr():
                return action()
        except BaseException as error:
            if is_interrupted():
                raise
            fail(error)
            return None


def begin(action: Callable[[], T]) -> Future[T]:
    """Call it in a thread of its own, which the process does not wait for at its end."""
    future: Future[T] = Future()
    future.set_running_or_notify_cancel()

    def call() -> None:
        try:
            future.set_result(action())
        except BaseException as error:
            future.set_exception(error)

    threading.Thread(target=call, name="plugin", daemon=True).start()
    return future


def call_within(seconds: float, action: Callable[[], T]) -> T:
    """What the action returns or raises, in a thread of its own; what has not ended by then is left to itself.

    Raises:
        TimeoutError: it has not ended in time.
    """
    return result_within(seconds, begin(action))


def result_within(seconds: float, future: Future[T]) -> T:
    """What it returns or raises, as :func:`call_within`."""
    wait([future], seconds)
    if not future.done():
        raise late(seconds)
    return future.result()


class OneAtATime:
    """Calls in threads of their own, of which the next begins only after the last has ended."""

    def __init__(self) -> None:
        self._last: Future[Any] | None = None
        self._began = ""

    def begin(self, action: Callable[[], T]) -> Future[T]:
        """As :func:`begin`.

        Raises:
            TimeoutError: the last has not ended.
        """
        if self._last is not None and not self._last.done():
            raise TimeoutError(f"still not done since {self._began}")
        self._began = f"{datetime.now().astimezone():%H:%M:%S}"
        self._last = future = begin(action)
        return future


def late(seconds: float) -> TimeoutError:
    """What is said of code that has not ended in time."""
    return TimeoutError(f"not done within {seconds:g} s")


@contextmanager
def _reported_if_slow(plugin: str, activity: str) -> Iterator[None]:
    """Nothing else goes on until the plugin is done, so the log must say for what everything waits."""
    report = threading.Timer(
        SLOW_SECONDS,
        lambda: log.critical("plugin_takes_long", plugin=plugin, activity=activity, seconds=SLOW_SECONDS),
    )
    report.daemon = True
    report.start()
    try:
        yield
    finally:
        report.cancel()


@contextmanager
def _own_interrupt() -> Iterator[Callable[[], bool]]:
    """Tells Ctrl-C from a KeyboardInterrupt that the plugin raises."""
    received: list[int] = []

    def interrupt(number: int, _: FrameType | None) -> None:
        received.append(number)
        raise KeyboardInterrupt

    is_ours = _is_main_thread() and signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if is_ours:
        signal.signal(signal.SIGINT, interrupt)
    try:
        yield lambda: bool(received)
    finally:
        if is_ours and signal.getsignal(signal.SIGINT) is interrupt:
            signal.signal(signal.SIGINT, signal.default_int_handler)


@contextmanager
def _as_it_was(plugin: str, activity: str) -> Iterator[None]:
    handlers, directory, policy = _handlers(), _directory(), asyncio.get_event_loop_policy()
    try:
        yield
    finally:
        changed = [*_restore_handlers(handlers), *_restore_directory(directory)]
        if asyncio.get_event_loop_policy() is not policy:
            asyncio.set_event_loop_policy(policy)
            changed.append("event loop policy")
        if changed:
            log.warning("plugin_changed_process", plugin=plugin, activity=activity, put_back=changed)


def _handlers() -> dict[signal.Signals, Any]:
    """By signal. What was not set from Python is None, and cannot be put back."""
    return {number: signal.getsignal(number) for number in signal.Signals} if _is_main_thread() else {}


def _restore_handlers(handlers: dict[signal.Signals, Any]) -> Iterator[str]:
    for number, handler in handlers.items():
        if handler is not None and signal.getsignal(number) != handler:
            with suppress(OSError, ValueError):
                signal.signal(number, handler)
                yield f"handler of {number.name}"


def _directory() -> str | None:
    try:
        return os.getcwd()  # noqa: PTH109  # a Path would not tell a missing one
    except OSError:
        return None


def _restore_directory(directory: str | None) -> Iterator[str]:
    if directory is not None and _directory() != directory:
        with suppress(OSError):
            os.chdir(directory)
            yield "working directory"


@contextmanager
def stdout_to_stderr() -> Iterator[None]:
    """Also what libraries in C and child processes write."""
    with redirect_stdout(sys.stderr):
        try:
            saved = os.dup(1)
            os.dup2(2, 1)
        except OSError:  # one of them is closed
            yield
            return
        try:
            yield
        finally:
            os.dup2(saved, 1)
            os.close(saved)


def _is_main_thread() -> bool:
    return threading.current_thread() is threading.main_thread()
