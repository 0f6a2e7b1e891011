"""What tasks that plugin code starts may do to the loop and to its task groups.

A ``SystemExit`` or ``KeyboardInterrupt`` in any task ends asyncio's loop, and with it the daemon. And anyio takes a
child that ends by a ``CancelledError`` for one that it cancelled itself: its group ends early and says nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Generator, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any

import anyio

_ANYIO = str(Path(anyio.__file__).parent)
_MISUNDERSTOOD = (KeyboardInterrupt, SystemExit, asyncio.CancelledError)
_of_plugin_code: ContextVar[bool] = ContextVar("of_plugin_code", default=False)


class PluginRaised(Exception):
    """Stands for what plugin code raised that is no ``Exception``, such as ``SystemExit`` or a Rust panic."""

    def __init__(self, error: BaseException) -> None:
        super().__init__(error)
        self.error = error


@contextmanager
def of_plugin_code() -> Iterator[None]:
    """Tasks that are started inside the block, and those that they start, are the plugin's."""
    _of_plugin_code.set(True)
    try:
        yield
    finally:
        _of_plugin_code.set(False)  # not reset(): a coroutine that is torn down may be in another context by now


def contain_child_tasks() -> None:
    """From now on, what a plugin's task on the running loop raises reaches the plugin that started it, and no more."""
    loop = asyncio.get_running_loop()
    if loop.get_task_factory() is None:
        loop.set_task_factory(_make_task)


def _make_task(
    loop: asyncio.AbstractEventLoop, coroutine: Coroutine[Any, Any, Any] | Generator[Any, None, Any], **options: Any
) -> asyncio.Task[Any]:
    if _of_plugin_code.get() and isinstance(coroutine, Coroutine):
        coroutine = _Contained(coroutine)
    return asyncio.Task(coroutine, loop=loop, **options)


class _Contained(Coroutine[Any, Any, Any]):
    """A task's coroutine which raises :class:`PluginRaised` instead of what asyncio or anyio would misunderstand."""

    def __init__(self, coroutine: Coroutine[Any, Any, Any]) -> None:
        self._coroutine = coroutine
        code = getattr(coroutine, "cr_code", None)
        self._is_in_group = code is not None and code.co_filename.startswith(_ANYIO)

    def send(self, value: Any) -> Any:
        try:
            return self._coroutine.send(value)
        except _MISUNDERSTOOD as error:
            if self._is_misunderstood(error):
                raise PluginRaised(error) from error
            raise

    def throw(self, *error: Any) -> Any:
        try:
            return self._coroutine.throw(*error)
        except _MISUNDERSTOOD as raised:
            if self._is_misunderstood(raised):
                raise PluginRaised(raised) from raised
            raise

    def close(self) -> None:
        self._coroutine.close()

    def __await__(self) -> Generator[Any, Any, Any]:
        return self._coroutine.__await__()

    def __getattr__(self, name: str) -> Any:
        """As those see it that ask a coroutine whether it runs, and where."""
        return getattr(self._coroutine, name)

    def _is_misunderstood(self, error: BaseException) -> bool:
        """Of cancellations, that is one which came by itself, in a group of anyio's."""
        if not isinstance(error, asyncio.CancelledError):
            return True
        task = asyncio.current_task()
        return self._is_in_group and task is not None and not task.cancelling()
