"""``python -m codelupe_trainer.child JOB.json``: does one job, reports by JSON lines on standard output.

Whatever else is printed goes to standard error.
"""

from __future__ import annotations

import gc
import io
import os
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from codelupe_trainer.base_models import NoSuchModel
from codelupe_trainer.child.errors import BeginAgain, DiskFull, Unusable, Waiting
from codelupe_trainer.child.locks import exclusive
from codelupe_trainer.child.stop import Stopped, StopRequest
from codelupe_trainer.jobs import (
    JOB,
    AnyJob,
    BegunAgain,
    CompareJob,
    CompleteJob,
    Done,
    ExportJob,
    Failed,
    Message,
    OnReport,
    Paused,
    Result,
    TrainJob,
)
from codelupe_trainer.samples.encoding import UnfitBase

_TRAIN = ("accelerate", "bitsandbytes", "datasets", "gguf", "peft", "torch", "transformers", "trl")
_EXTRAS = dict.fromkeys(_TRAIN, "train") | {name: name for name in ("tensorboard", "wandb")}
"""Which extra of ours brings a package."""

_UNTIL_OTHERS_MAY_BE_DONE = 300


def main() -> None:
    """Do the job named on the command line."""
    job = JOB.validate_json(Path(sys.argv[1]).read_bytes())
    say = _take_over_output()
    say(_result(job, say))


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


def _take_over_output() -> Callable[[Message], None]:
    reports = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8", errors="replace")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    sys.stdout = sys.stderr = io.TextIOWrapper(_Log(), encoding="utf-8", errors="replace", write_through=True)

    def say(message: Message) -> None:
        # A daemon that is gone asks for nothing more, and the end of standard input says so.
        with suppress(BrokenPipeError):
            reports.write(message.model_dump_json() + "\n")
            reports.flush()

    return say


def _result(job: AnyJob, on_report: OnReport) -> Result:
    try:
        stop = StopRequest(job.settings.stop_timeout.total_seconds())
        with exclusive(job.folder / "lock"):
            return _do(job, on_report, stop)
    except Stopped:
        return Paused(why="the child process was told to stop")
    except Waiting as error:
        return Paused(why=str(error), seconds=_UNTIL_OTHERS_MAY_BE_DONE)
    except Exception as error:  # noqa: BLE001 - the daemon tells it on
        traceback.print_exc()
        return _failure(error)


def _do(job: AnyJob, on_report: OnReport, stop: StopRequest) -> Done:
    match job:
        case TrainJob():
            with _without_collection():
                from codelupe_trainer.child.training import train
            return train(job, on_report, stop)
        case CompareJob():
            with _without_collection():
                from codelupe_trainer.child.comparing import compare
            return compare(job, on_report)
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
        case ModuleNotFoundError() if extra := _EXTRAS.get((error.name or "").partition(".")[0]):
            hint = f"install what training needs with `pip install 'codelupe[{extra}]'`"
            text = f"the Python package {error.name} is not installed; {hint}"
            return Failed(error=text, permanent=True, is_installation=True)
        case _:
            return Failed(error=f"{type(error).__name__}: {error}")


if __name__ == "__main__":
    main()
