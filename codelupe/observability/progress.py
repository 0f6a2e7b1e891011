"""What this process is doing right now, how far it is, and how long it will take."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from numbers import Real


@dataclass(frozen=True, kw_only=True)
class Progress:
    """How far a long piece of work has come: ``done`` of ``total`` in ``unit``, with a few figures beside it.

    ``total`` is None when it is not known. Where there is nothing to count, ``activity`` says in words what goes on.
    """

    done: float
    total: float | None
    unit: str
    figures: Mapping[str, float | str] = field(default_factory=dict)
    activity: str | None = None

    def __post_init__(self) -> None:
        """So that what cannot be shown is the failure of the code that reports it.

        Raises:
            TypeError: the count, the total or a figure is none.
        """
        counts: dict[str, object] = {"done": self.done, "total": 0 if self.total is None else self.total}
        texts: dict[str, object] = {"unit": self.unit, "activity": "" if self.activity is None else self.activity}
        figures: dict[str, object] = dict(self.figures)
        for values, types in ((counts, (Real,)), (texts, (str,)), (figures, (Real, str))):
            for name, value in values.items():
                if not isinstance(value, types):
                    raise TypeError(f"the progress has {name}={value!r}")


@dataclass(frozen=True, kw_only=True)
class Work:
    """A piece of work under way: for how many seconds, how far, and how many seconds it will still take, if known."""

    stream: str
    elapsed: float
    progress: Progress | None
    to_go: float | None


class ProgressTracker:
    """The latest progress of each piece of work under way, by subscription (or job) and stream."""

    def __init__(self) -> None:
        self._work: dict[tuple[str, str], _Tracked] = {}
        self.seconds: defaultdict[str, float] = defaultdict(float)
        """How long each subscription's handlers have run in this process, all together."""

    @contextmanager
    def working(self, name: str, stream: str) -> Iterator[None]:
        """Work on the stream goes on inside this block."""
        tracked = self._work[name, stream] = _Tracked(time.monotonic())
        try:
            yield
        finally:
            self.seconds[name] += time.monotonic() - tracked.began
            self._work.pop((name, stream), None)

    def report(self, name: str, stream: str, progress: Progress) -> None:
        """Take note, unless the work is over."""
        if (tracked := self._work.get((name, stream))) is not None:
            tracked.take(progress)

    def of(self, name: str) -> list[Work]:
        """The work under way, each with its latest progress."""
        return [tracked.as_work(stream) for (one, stream), tracked in self._work.items() if one == name]


class _Tracked:
    def __init__(self, began: float) -> None:
        self.began = began
        self._progress: Progress | None = None
        self._counting_since: tuple[float, float] | None = None
        """The time and the count at which the present counting began; its pace tells how long the rest takes."""

    def take(self, progress: Progress) -> None:
        before, self._progress = self._progress, progress
        if progress.activity is not None or progress.total is None:
            self._counting_since = None
        elif self._counting_since is None or before is None or _is_another_count(progress, before):
            self._counting_since = time.monotonic(), progress.done

    def as_work(self, stream: str) -> Work:
        now = time.monotonic()
        return Work(stream=stream, elapsed=now - self.began, progress=self._progress, to_go=self._to_go(now))

    def _to_go(self, now: float) -> float | None:
        if self._progress is None or self._progress.total is None or self._counting_since is None:
            return None
        since, first = self._counting_since
        gained = self._progress.done - first
        return None if gained <= 0 else (now - since) * (self._progress.total - self._progress.done) / gained


def _is_another_count(progress: Progress, before: Progress) -> bool:
    """A total may be an estimate, which each report betters."""
    return progress.unit != before.unit or progress.done < before.done
