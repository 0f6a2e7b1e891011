"""How a run goes on after a setback: once. The second time it fails, and says why."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NoReturn

from codelupe_trainer.child.checkpoints import Checkpoints, Manifest
from codelupe_trainer.child.errors import BeginAgain, Unusable
from codelupe_trainer.child.guard import Astray
from codelupe_trainer.child.locks import exclusive
from codelupe_trainer.jobs import Activity, OnReport, TrainJob
from codelupe_trainer.samples.files import CodeFile
from codelupe_trainer.setbacks import OUT_OF_MEMORY_ADVICE, read_setbacks, write_setbacks

_NAMED = 5
_OUT_OF_MEMORY = ("out of memory", "can't allocate memory")
"""What CUDA and torch's allocator for the CPU say."""


class Recovery:
    """What one run has met with, and what follows from it."""

    def __init__(self, job: TrainJob, run: str, on_report: OnReport) -> None:
        self._job = job
        self._on_report = on_report
        self.setbacks = read_setbacks(job.folder).of_run(run)

    def newest(self, checkpoints: Checkpoints) -> Manifest | None:
        """The checkpoint to go on from; says which others cannot be used."""
        manifest, skipped = checkpoints.newest()
        for one in skipped:
            self._on_report(Activity(what=f"cannot go on from {one}"))
        if skipped:
            self._add(skipped_checkpoints=(*self.setbacks.skipped_checkpoints, *skipped))
        return manifest

    def micro_batch(self, rows: int, most: int) -> int:
        """Rows that pass through the model at a time: they divide a rank's of a step, and are no more than ``most``."""
        wanted = min(most, self._job.micro_batch or most)
        fitting = _largest_divisor(rows, wanted)
        return _largest_divisor(rows, fitting // 2) if self.setbacks.out_of_memory else fitting

    def leave_out(self, astray: Astray, files: Sequence[CodeFile]) -> NoReturn:
        """Go back one checkpoint and on without the step's rows.

        Raises:
            BeginAgain: the first time.
            Unusable: the second time.
        """
        cause = f"{astray}; in it were {_named(files)}"
        if self.setbacks.skipped_steps:
            raise Unusable(f"{cause}; it did before, at step {self.setbacks.skipped_steps[0]}") from astray
        self._add(skipped_steps=(astray.step,))
        raise BeginAgain(f"{cause}; going back one checkpoint, and on without these") from astray

    def halve_micro_batch(self, error: Exception) -> NoReturn:
        """Go on from the last checkpoint with half as many rows at a time, in as many more parts of a step.

        Raises:
            BeginAgain: the first time.
            Unusable: the second time.
        """
        if self.setbacks.out_of_memory:
            raise Unusable(f"{error}; memory ran out for the second time: {OUT_OF_MEMORY_ADVICE}") from error
        self._add(out_of_memory=True)
        raise BeginAgain(f"{error}; going on with half the micro-batch") from error

    def _add(self, **fields: object) -> None:
        self.setbacks = self.setbacks.model_copy(update=fields)
        with exclusive(self._job.folder / "setbacks.lock"):
            write_setbacks(self._job.folder, self.setbacks)


def is_out_of_memory(error: Exception) -> bool:
    """Whether there was too little memory, on the card or on the machine."""
    text = str(error).lower()
    return isinstance(error, MemoryError) or (
        isinstance(error, RuntimeError) and any(words in text for words in _OUT_OF_MEMORY)
    )


def _largest_divisor(number: int, limit: int) -> int:
    return max(one for one in range(1, max(1, min(limit, number)) + 1) if number % one == 0)


def _named(files: Sequence[CodeFile]) -> str:
    names = ", ".join(f"{file.path} of {file.repository}" for file in files[:_NAMED])
    more = len(files) - _NAMED
    return f"{names} and {more} more files" if more > 0 else names or "no file of the batch"
