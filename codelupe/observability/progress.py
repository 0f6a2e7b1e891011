"""What this process is doing right now, and how far it is."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field


@dataclass(frozen=True, kw_only=True)
class Progress:
    """How far a long piece of work has come: ``done`` of ``total`` in ``unit``, with a few figures beside it.

    ``total`` is None when it is not known.
    """

    done: float
    total: float | None
    unit: str
    figures: Mapping[str, float | str] = field(default_factory=dict)


class ProgressTracker:
    """The latest progress of each piece of work under way, by subscription (or job) and stream."""

    def __init__(self) -> None:
        self._work: dict[tuple[str, str], Progress | None] = {}
        self.seconds: defaultdict[str, float] = defaultdict(float)
        """How long each subscription's handlers have run in this process, all together."""

    @contextmanager
    def working(self, name: str, stream: str) -> Iterator[None]:
        """Work on the stream goes on inside this block."""
        self._work[name, stream] = None
        began = time.monotonic()
        try:
            yield
        finally:
            self.seconds[name] += time.monotonic() - began
            self._work.pop((name, stream), None)

    def report(self, name: str, stream: str, progress: Progress) -> None:
        """Take note, unless the work is over."""
        if (name, stream) in self._work:
            self._work[name, stream] = progress

    def of(self, name: str) -> list[tuple[str, Progress | None]]:
        """The streams under way, each with its latest progress."""
        return [(stream, progress) for (one, stream), progress in self._work.items() if one == name]
