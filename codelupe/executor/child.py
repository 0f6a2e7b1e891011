"""What runs in a worker process: chunks of work come in at its standard input, answers go out at its standard output.

A chunk is a list of pickled items for one task, a function and its constant arguments. The kernel keeps the limits, by
signals without a handler and by failing allocations, so that they hold for code in C, too.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import mmap
import os
import pickle
import resource
import signal
import struct
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from codelupe.contracts.boundary import Part, loading_at_once

OUT_OF_MEMORY = errno.ENOMEM
"""The exit status for it."""
MIB = 1024 * 1024
_PR_SET_PDEATHSIG = 1
_PAGE = os.sysconf("SC_PAGE_SIZE")
_MORE_KILLABLE = "500"
"""The kernel, when memory is short, takes workers before the daemon and its database; from 0 to 1000."""


class Request(NamedTuple):
    task: bytes | None
    """A pickled function and its constant arguments; None when they are those of the request before."""
    items: list[bytes]
    seconds: float
    """CPU time for each item; 0 is no limit."""


class Answer(NamedTuple):
    results: list[bytes]
    error: bytes | None
    """What the function raised; the results are those before it."""
    resident: int
    """Bytes of memory that the process holds."""


class Position:
    """Where a worker is, in memory that the parent reads even when the worker is dead.

    It is at an item of its chunk, and may be unpickling what a plugin has contributed.
    """

    SIZE = 64 * 1024
    NOWHERE = -1
    _HEAD = struct.Struct("qq")
    """The index of the item, and the length of the contribution's plugin, kind and name, which follow."""

    def __init__(self, descriptor: int) -> None:
        self._memory = mmap.mmap(descriptor, self.SIZE)

    def set(self, index: int) -> None:
        self._HEAD.pack_into(self._memory, 0, index, 0)

    def get(self) -> int:
        index: int = self._HEAD.unpack_from(self._memory)[0]
        return index

    def set_loading(self, part: Part | None) -> None:
        """Names that find no room are left out. There are none while they change."""
        names = b"" if part is None else f"{part.plugin}\0{part.kind}\0{part.name}".encode()
        end = self._HEAD.size + len(names)
        self.set(self.get())
        if end <= self.SIZE:
            self._memory[self._HEAD.size : end] = names
            self._HEAD.pack_into(self._memory, 0, self.get(), len(names))

    @property
    def loading(self) -> Part | None:
        """The contribution that is being unpickled; None, too, if its names changed while they were read."""
        length = self._HEAD.unpack_from(self._memory)[1]
        names = self._memory[self._HEAD.size : self._HEAD.size + length]
        try:
            plugin, kind, name = names.decode().split("\0")
        except ValueError:
            return None
        return Part(plugin, kind, name)


def call(arguments: tuple[object, ...], function: Callable[..., object]) -> object:
    """Spread the arguments: the task of a call that stands alone."""
    return function(*arguments)


def main(descriptor: int, memory_mib: int) -> None:
    """Answer requests until standard input ends."""
    _limit(memory_mib)
    requests, answers = _take_streams()
    position = Position(descriptor)
    worker = _Worker(position)
    try:
        with loading_at_once(position.set_loading):
            for request in _read(requests):
                payload = pickle.dumps(worker.answer(request), pickle.HIGHEST_PROTOCOL)
                answers.write(struct.pack("Q", len(payload)))
                answers.write(payload)
                answers.flush()
    except MemoryError:
        os._exit(OUT_OF_MEMORY)


def _limit(memory_mib: int) -> None:
    """Die with the parent, not with its terminal; leave no core behind; hold no more memory than this."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    # Not RLIMIT_AS: runtimes such as Go's reserve gigabytes of addresses that they never use.
    resource.setrlimit(resource.RLIMIT_DATA, (memory_mib * MIB, memory_mib * MIB))
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text(_MORE_KILLABLE)


def _take_streams() -> tuple[BinaryIO, BinaryIO]:
    """Both streams, out of reach of functions that read standard input or print."""
    requests, answers = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    nothing = os.open(os.devnull, os.O_RDWR)
    os.dup2(nothing, 0)
    os.dup2(nothing, 1)
    return requests, answers


def _read(requests: BinaryIO) -> Iterator[Request]:
    with contextlib.suppress(EOFError):
        while True:
            yield pickle.load(requests)  # noqa: S301 - from the parent


class _Worker:
    """Keeps the task between chunks."""

    def __init__(self, position: Position) -> None:
        self._position = position
        self._function: Callable[..., object]
        self._constants: tuple[object, ...]

    def answer(self, request: Request) -> Answer:
        results: list[bytes] = []
        error = None
        try:
            if request.task is not None:
                self._function, self._constants = pickle.loads(request.task)  # noqa: S301 - from the parent
            for index, item in enumerate(request.items):
                self._position.set(index)
                signal.setitimer(signal.ITIMER_PROF, request.seconds)
                results.append(self._result(item))
        except MemoryError:
            raise
        except Exception as raised:  # noqa: BLE001 - it belongs to the caller
            error = _pickled_error(raised)
        signal.setitimer(signal.ITIMER_PROF, 0)
        self._position.set(Position.NOWHERE)
        return Answer(results, error, _resident())

    def _result(self, item: bytes) -> bytes:
        result = self._function(pickle.loads(item), *self._constants)  # noqa: S301 - from the parent
        return pickle.dumps(result, pickle.HIGHEST_PROTOCOL)


def _pickled_error(error: Exception) -> bytes:
    """The error with the worker's traceback as a note; a stand-in for one that cannot be pickled."""
    note = f"In the worker process:\n{traceback.format_exc()}"
    error.add_note(note)
    try:
        pickled = pickle.dumps(error, pickle.HIGHEST_PROTOCOL)
        pickle.loads(pickled)  # noqa: S301 - our own
    except Exception:  # noqa: BLE001 - whatever its class does
        stand_in: Any = RuntimeError(f"{type(error).__name__}: {error}")
        stand_in.add_note(note)
        return pickle.dumps(stand_in, pickle.HIGHEST_PROTOCOL)
    return pickled


def _resident() -> int:
    return int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1]) * _PAGE
