"""How the child is told to stop: SIGTERM, or the end of the daemon, which closes the child's standard input."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Protocol


class Stopped(BaseException):
    """Work ends here, because it was asked to stop. Not an Exception: no library should take it for an error."""


class Stop(Protocol):
    """True once work is to end."""

    def __bool__(self) -> bool: ...


class StopRequest:
    """Raises :class:`Stopped` in the main thread, at once or, inside :meth:`postponed`, when the work asks."""

    def __init__(self, patience_seconds: float) -> None:
        self._patience_seconds = patience_seconds
        self._requested = False
        self._postponed = False
        signal.signal(signal.SIGTERM, self._on_signal)
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        threading.Thread(target=self._watch_parent, name="parent-watch", daemon=True).start()

    def __bool__(self) -> bool:
        return self._requested

    @contextmanager
    def postponed(self) -> Iterator[None]:
        """Inside, a request only turns this object true."""
        self._postponed = True
        try:
            if self._requested:
                raise Stopped
            yield
        finally:
            self._postponed = False

    def _on_signal(self, _signal: int, _frame: FrameType | None) -> None:
        self._requested = True
        if not self._postponed:
            raise Stopped

    def _watch_parent(self) -> None:
        while os.read(sys.stdin.fileno(), 1024):
            pass
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(self._patience_seconds)
        os._exit(1)
