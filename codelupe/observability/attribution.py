"""Whose work the event loop is doing, told from another thread.

Two things say so. The context of what runs, which tasks and callbacks inherit from where they were started, knows the
subscription, job or service. The innermost frame that lies in a plugin's package knows the plugin, also where one
calls what another has contributed. A handler that merely waits is in neither.
"""

from __future__ import annotations

import asyncio
import sys
import traceback
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from types import FrameType

_HOST = "codelupe"
_LONGEST_STACK = 20_000

_work: ContextVar[tuple[str | None, str | None]] = ContextVar("work", default=(None, None))

_Frames = Sequence[tuple[FrameType, int]]
"""With the line that each is at; the innermost first."""


@contextmanager
def attributed_to(stage: str, stream: str | None = None) -> Iterator[None]:
    """What runs inside the block, and what it starts, is the work of this subscription, job or service."""
    token = _work.set((stage, stream))
    try:
        yield
    finally:
        _work.reset(token)


@dataclass(frozen=True, kw_only=True)
class Running:
    """What a loop runs: code of this plugin, for this subscription, job or service and stream, and where it is.

    The host's own code is that of ``codelupe``. The stack begins where the loop called.
    """

    plugin: str
    stage: str | None
    stream: str | None
    stack: str


def what_runs(loop: asyncio.AbstractEventLoop, thread: int, packages: Mapping[str, str]) -> Running | None:
    """What the loop in this thread is running now; None while it waits for something to do.

    ``packages`` says which plugin a Python package belongs to.
    """
    frames = _frames(thread)
    calls = [number for number, (frame, _) in enumerate(frames) if frame.f_code is asyncio.Handle._run.__code__]  # noqa: SLF001
    if not calls:
        return None
    called, handle = frames[: calls[-1]], frames[calls[-1]][0].f_locals["self"]
    stage, stream = _work_of(handle, loop)
    return Running(
        plugin=_plugin_of(called, packages) or (stage or _HOST).partition(".")[0],
        stage=stage,
        stream=stream,
        stack="".join(traceback.StackSummary.extract(reversed(called)).format())[-_LONGEST_STACK:],
    )


def _frames(thread: int) -> _Frames:
    frame = sys._current_frames().get(thread)  # noqa: SLF001 - documented, in spite of its name
    return list(traceback.walk_stack(frame)) if frame is not None else []


def _work_of(handle: asyncio.Handle, loop: asyncio.AbstractEventLoop) -> tuple[str | None, str | None]:
    """By the context; that of a connection's callbacks says who opened it, not who uses it now."""
    is_task = asyncio.current_task(loop) is not None
    called = getattr(handle._callback, "__module__", None) or ""  # type: ignore[attr-defined]  # noqa: SLF001
    if not is_task and called.startswith("asyncio."):
        return None, None
    found: tuple[str | None, str | None] = handle._context.get(_work, (None, None))  # type: ignore[attr-defined]  # noqa: SLF001
    return found


def _plugin_of(frames: _Frames, packages: Mapping[str, str]) -> str | None:
    """The plugin in whose package the innermost such frame lies."""
    for frame, _ in frames:
        module = str(frame.f_globals.get("__name__", ""))
        while module:
            if module in packages:
                return packages[module]
            module = module.rpartition(".")[0]
    return None
