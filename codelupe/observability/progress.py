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

    ``total`` is None when nobody knows it.
    """

    done: float
    total: float | None
    unit: str
    figures: Mapping[str, float | str] = field(default_factory=dict)


class ProgressTracker:
    """The latest progress of each piece of work under way, by stage and stream."""

    def __init__(self) -> None:
        self._work: dict[tuple[str, str], Progress | None] = {}
        self.seconds: defaultdict[str, float] = defaultdict(float)
        """How long each stage's handlers have run in this process, all together."""

    @contextmanager
    def working(self, stage: str, stream: str) -> Iterator[None]:
        """The stage works on the stream inside this block."""
        self._work[stage, stream] = None
        began = time.monotonic()
        try:
            yield
        finally:
            self.seconds[stage] += time.monotonic() - began
            self._work.pop((stage, stream), None)

    def report(self, stage: str, stream: str, progress: Progress) -> None:
        """Take note, unless the work is over."""
        if (stage, stream) in self._work:
            self._work[stage, stream] = progress

    def of_stage(self, stage: str) -> list[tuple[str, Progress | None]]:
        """The streams that the stage works on, each with its latest progress."""
        return [(stream, progress) for (name, stream), progress in self._work.items() if name == stage]
