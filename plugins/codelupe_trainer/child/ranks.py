"""The processes that train one model together under torch's launcher, each on a card of its own (DDP).

Whatever is asked here is asked by all of them, in the same order; who is alone is answered at once.
"""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Callable
from pathlib import Path
from statistics import fmean
from typing import Any, NoReturn, TypeVar, cast

import torch
import torch.distributed

from codelupe_trainer.child.errors import Unusable
from codelupe_trainer.child.stop import StopRequest

_T = TypeVar("_T")
_CONSEQUENCES = ("by peer", "gloo", "nccl")
"""What errors of collective operations have in their text: another process has ended, and tells why."""


def launch(job_file: Path, processes: int, patience_seconds: float) -> NoReturn:
    """Become torch's launcher, which starts this program once for each process, and ends all when one has failed.

    Raises:
        Unusable: there are fewer cards.
    """
    cards = torch.cuda.device_count()
    if torch.cuda.is_available() and cards < processes:
        raise Unusable(
            f"`processes` is {processes}, and training may use {cards} card{'s' if cards > 1 else ''} here: lower it, "
            "or see what CUDA_VISIBLE_DEVICES says where the daemon runs"
        )
    os.environ["OMP_NUM_THREADS"] = str(_threads_of_each(processes))
    os.environ["PYTHONSAFEPATH"] = "1"
    launcher = [sys.executable, "-P", "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
    launcher += ["--shutdown-timeout", str(math.ceil(patience_seconds)), "--log-dir", str(job_file.parent / "ranks")]
    os.execv(launcher[0], [*launcher, "-m", "codelupe_trainer.child", str(job_file)])  # noqa: S606 - a fixed program


def _threads_of_each(processes: int) -> int:
    threads = int(os.environ.get("OMP_NUM_THREADS", "0")) or len(os.sched_getaffinity(0))
    return max(1, threads // processes)


def is_consequence(error: Exception) -> bool:
    """Whether this process has failed only because another one has ended."""
    text = str(error).lower()
    return isinstance(error, torch.distributed.DistError) or (
        isinstance(error, RuntimeError) and any(words in text for words in _CONSEQUENCES)
    )


class Ranks:
    """This process among those that train together. Its constructor waits for all of them."""

    def __init__(self) -> None:
        self.rank = int(os.environ.get("RANK", "0"))
        self.size = int(os.environ.get("WORLD_SIZE", "1"))
        self._group: Any = None
        if self.size > 1:
            self._join()

    def _join(self) -> None:
        on_card = torch.cuda.is_available()
        if on_card:
            torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
        torch.distributed.init_process_group("nccl" if on_card else "gloo")
        # Beside NCCL: what is agreed on here needs no card, and a process that waits for others is seen to end.
        self._group = torch.distributed.new_group(backend="gloo")

    @property
    def is_first(self) -> bool:
        """Whether this is the one that reports, and keeps the run's folder."""
        return self.rank == 0

    def gather(self, value: _T) -> list[_T]:
        """The values of all, by rank."""
        if self.size == 1:
            return [value]
        values: list[_T | None] = [None] * self.size
        torch.distributed.all_gather_object(values, value, group=self._group)
        return cast("list[_T]", values)

    def any(self, flag: object) -> bool:
        """Whether it is true for one of them."""
        return any(self.gather(bool(flag)))

    def mean(self, value: float) -> float:
        return fmean(self.gather(value))

    def from_first(self, make: Callable[[], _T]) -> _T:
        """What the first one makes."""
        return self.gather(make() if self.is_first else cast("_T", None))[0]

    def wait(self) -> None:
        """Until all are here."""
        self.gather(None)


class AgreedStop:
    """A request to stop as all ranks see it: true for each of them once one was asked to."""

    def __init__(self, stop: StopRequest, ranks: Ranks) -> None:
        self._stop = stop
        self._ranks = ranks

    def __bool__(self) -> bool:
        return self._ranks.any(self._stop)
