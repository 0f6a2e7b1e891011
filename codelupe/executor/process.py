"""One worker process, seen from the daemon."""

from __future__ import annotations

import contextlib
import json
import math
import os
import pickle
import signal
import struct
import subprocess
import sys
from dataclasses import dataclass
from typing import Self, cast

import anyio
from anyio.abc import ByteReceiveStream, ByteSendStream, Process
from anyio.streams.buffered import BufferedByteReceiveStream

from codelupe.contracts.boundary import Part
from codelupe.executor.child import OUT_OF_MEMORY, Answer, Position, Request

_WALL_TIMES = 4
_BEATS = 40
_START_SECONDS = 120.0
"""For the interpreter, the imports and the constant arguments, on a busy machine."""
_LOAD_SECONDS = 120.0
"""For one contribution to be unpickled, with what it imports."""
_END_SECONDS = 5.0
_PROGRAM = (
    "import json, sys; sys.path[:] = json.loads(sys.argv[1]);"
    " from codelupe.executor.child import main; main(int(sys.argv[2]), int(sys.argv[3]))"
)


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What one item may use, and one process may hold."""

    item_seconds: float
    memory_mib: int

    @property
    def wall_seconds(self) -> float:
        """The limit for an item that sleeps: it uses no CPU time."""
        return _WALL_TIMES * self.item_seconds


class Died(Exception):
    """The process is gone.

    ``position`` is the index of the item that it was at, or None if it was at none; ``loading`` is the contribution
    that it was unpickling.
    """

    def __init__(self, reason: str, position: int | None, loading: Part | None) -> None:
        super().__init__(reason)
        self.reason = reason
        self.position = position
        self.loading = loading


class Hung(Died):
    """The process lives, but has been in one place for too long."""


class WorkerProcess:
    """Answers one request at a time. After :class:`Died` or a cancellation nothing is left but to kill it."""

    def __init__(self, process: Process, position: Position, limits: Limits) -> None:
        self._process = process
        self._requests = cast("ByteSendStream", process.stdin)
        self._answers = BufferedByteReceiveStream(cast("ByteReceiveStream", process.stdout))
        self._position = position
        self._limits = limits
        self._task: bytes | None = None

    @classmethod
    async def start(cls, limits: Limits) -> Self:
        descriptor = os.memfd_create("codelupe-position")
        try:
            os.ftruncate(descriptor, Position.SIZE)
            position = Position(descriptor)
            position.set(Position.NOWHERE)
            arguments = [json.dumps(sys.path), str(descriptor), str(limits.memory_mib)]
            with anyio.CancelScope(shield=True):
                process = await anyio.open_process(
                    [sys.executable, "-P", "-c", _PROGRAM, *arguments],
                    stderr=subprocess.DEVNULL,
                    start_new_session=True,
                    pass_fds=[descriptor],
                )
        finally:
            os.close(descriptor)
        return cls(process, position, limits)

    async def answer(self, task: bytes, items: list[bytes], *, limited: bool) -> Answer:
        """The task for these items; ``limited`` is its time.

        Raises:
            Died: the process ended before it answered.
            Hung: an item hangs, or a contribution while it is unpickled.
        """
        seconds = self._limits.item_seconds if limited else 0
        request = Request(None if task == self._task else task, items, seconds)
        try:
            await self._requests.send(pickle.dumps(request, pickle.HIGHEST_PROTOCOL))
            answer = await self._receive(limited=limited)
        except (anyio.BrokenResourceError, anyio.ClosedResourceError, anyio.EndOfStream, anyio.IncompleteRead):
            raise Died(await self._cause(), self._at(), self._position.loading) from None
        self._task = task if answer.error is None else None  # the task itself may be what could not be loaded
        return answer

    async def kill(self) -> None:
        """End it and all that it has started."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        with anyio.CancelScope(shield=True):
            await self._process.aclose()

    async def _receive(self, *, limited: bool) -> Answer:
        """The answer, unless one place takes too many beats: a machine that stood still has missed them all but one."""
        beat, beats, place = self._limits.wall_seconds / _BEATS, 0, self._place()
        while True:
            with anyio.move_on_after(beat):
                (length,) = struct.unpack("Q", await self._answers.receive_exactly(8))
                break
            beats, place = (beats + 1, place) if self._place() == place else (0, self._place())
            patience = self._patience(*place, limited=limited)
            if beats * beat >= patience:
                raise Hung(f"it took more than {patience:g} s", *place)
        answer: Answer = pickle.loads(await self._answers.receive_exactly(length))  # noqa: S301 - from our own process
        return answer

    def _patience(self, at: int | None, loading: Part | None, *, limited: bool) -> float:
        if loading is not None:
            return _LOAD_SECONDS
        if not limited:
            return math.inf
        return self._limits.wall_seconds if at is not None else _START_SECONDS

    def _place(self) -> tuple[int | None, Part | None]:
        return self._at(), self._position.loading

    def _at(self) -> int | None:
        position = self._position.get()
        return None if position == Position.NOWHERE else position

    async def _cause(self) -> str:
        """Why it ended; it has closed its streams, and has a moment to end by itself."""
        with anyio.move_on_after(_END_SECONDS):
            await self._process.wait()
        await self.kill()
        status = self._process.returncode or 0
        if status == -signal.SIGPROF:
            return f"it took more than {self._limits.item_seconds:g} s of CPU time"
        if status == OUT_OF_MEMORY:
            return f"it needed more than {self._limits.memory_mib} MiB of memory"
        if status < 0:
            return f"its process died of {_signal_name(-status)}"
        return f"its process ended with status {status}"


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
