"""Runs a job in a child process: torch stays out of the daemon, and a crash or a full memory costs only the job."""

from __future__ import annotations

import os
import shutil
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import suppress
from datetime import timedelta
from pathlib import Path

import anyio
import anyio.abc
import anyio.to_thread
from anyio.streams.text import TextReceiveStream

from codelupe import HandlerContext, RetryLater, write_file
from codelupe_trainer.jobs import (
    REPORT,
    Activity,
    AnyJob,
    BegunAgain,
    Done,
    Failed,
    OnReport,
    Paused,
    Result,
    Step,
    TrainJob,
)
from codelupe_trainer.setbacks import OUT_OF_MEMORY_ADVICE, read_setbacks, write_setbacks

JOB_FILE = "job.json"
LOG_FILE = "train.log"
_LOG_TAIL = 4000
_SHOWN = {"loss": "loss", "eval_loss": "eval_loss", "tokens_per_second": "tokens/s"}
"""The figures for which the live display has room, with their names there."""
_HOSTS_OWN = ("CODELUPE_", "NOTIFY_SOCKET", "WATCHDOG_", "LISTEN_", "CREDENTIALS_DIRECTORY")
_LAUNCHERS_OWN = ("RANK", "LOCAL_RANK", "WORLD_SIZE")


class ChildFailed(Exception):
    """The child ended without a result; another try may go better."""


class CannotSucceed(Exception):
    """The child found that no other try can go better."""


class NotInstalled(CannotSucceed):
    """It could, once a package is installed that is missing here."""


def shown_in(context: HandlerContext, unit: str) -> OnReport:
    """Feeds the live display, in the unit that the job's steps have."""

    def show(report: Activity | Step) -> None:
        if isinstance(report, Activity):
            context.activity(report.what)
        else:
            figures = {shown: report.figures[name] for name, shown in _SHOWN.items() if name in report.figures}
            context.progress(report.done, report.total, unit, **figures)

    return show


async def run_child(job: AnyJob, on_report: OnReport) -> Done:
    """Run the job to its end, in a new process after each setback. Cancelled, it asks the child to save its work, and
    kills it if that takes too long.

    Raises:
        CannotSucceed: for a reason that stays; :class:`NotInstalled` for one that an installation mends.
        ChildFailed: for any other, with the end of the child's log.
        RetryLater: the child was told to stop, not by this process, or others have what it needs.
    """
    while True:
        killed_before = _killed_for_memory()
        process, result = await _run_process(job, on_report)
        match result:
            case BegunAgain():
                on_report(Activity(what=result.why))
            case Paused():
                raise RetryLater(result.why, after=timedelta(seconds=result.seconds), counts=False)
            case Failed(is_installation=True):
                raise NotInstalled(result.error)
            case Failed(permanent=True):
                raise CannotSucceed(result.error)
            case Failed():
                raise ChildFailed(await _with_log(result.error, job))
            case None if isinstance(job, TrainJob) and _ran_out_of_memory(job, process, killed_before):
                _note_out_of_memory(job)
                on_report(Activity(what="the system was out of memory; going on with half the micro-batch"))
            case None:
                raise ChildFailed(await _with_log(_ending(process.returncode), job))
            case _:
                return result


async def _run_process(job: AnyJob, on_report: OnReport) -> tuple[anyio.abc.Process, Result | None]:
    process = await _start(job)
    result: Result | None = None
    try:
        async for report in _reports(process):
            if isinstance(report, Activity | Step):
                on_report(report)
            elif result is None:  # of several processes, the first to end has the cause
                result = report
    except BaseException:
        with suppress(ProcessLookupError):
            process.terminate()
        raise
    finally:
        with anyio.CancelScope(shield=True):
            await _end(process, job.settings.stop_timeout)
    return process, result


async def _start(job: AnyJob) -> anyio.abc.Process:
    try:
        write_file(job.folder / JOB_FILE, job.model_dump_json(indent=2))
        log = (job.folder / LOG_FILE).open("ab")
    except OSError as error:
        free = shutil.disk_usage(job.folder).free
        raise ChildFailed(f"cannot write to {job.folder}, which has {free:,} bytes free: {error}") from error
    with log:
        return await anyio.open_process(
            [sys.executable, "-P", "-m", "codelupe_trainer.child", str(job.folder / JOB_FILE)],
            stderr=log,
            env=_environment(job),
            start_new_session=True,
        )


def _ran_out_of_memory(job: TrainJob, process: anyio.abc.Process, killed_before: int) -> bool:
    """If there are several, the kernel kills one of them, and it is the launcher that fails."""
    killed = process.returncode == -signal.SIGKILL or (job.settings.processes > 1 and process.returncode == 1)
    return killed and _killed_for_memory() > killed_before


def _killed_for_memory() -> int:
    """How many processes the kernel has killed since it started because memory ran out; 0 if it does not say."""
    try:
        lines = Path("/proc/vmstat").read_text(encoding="ascii").splitlines()
    except OSError:
        return 0
    return sum(int(line.removeprefix("oom_kill ")) for line in lines if line.startswith("oom_kill "))


def _note_out_of_memory(job: TrainJob) -> None:
    """The child could not.

    Raises:
        CannotSucceed: it happened before.
    """
    setbacks = read_setbacks(job.folder)
    if setbacks.out_of_memory:
        raise CannotSucceed(f"the system ran out of memory and killed the child process: {OUT_OF_MEMORY_ADVICE}")
    write_setbacks(job.folder, setbacks.model_copy(update={"out_of_memory": True}))


def _environment(job: AnyJob) -> dict[str, str]:
    """The daemon's own, without its secrets and its ties to systemd."""
    foreign = (*_HOSTS_OWN, *_LAUNCHERS_OWN)
    environment = {name: value for name, value in os.environ.items() if not name.startswith(foreign)}
    environment |= {"TOKENIZERS_PARALLELISM": "false", "HF_HUB_DISABLE_TELEMETRY": "1", "PYTHONUNBUFFERED": "1"}
    # W&B's reports of its own use go out in offline runs, too, and the end of the process waits for them.
    environment["WANDB_ERROR_REPORTING"] = "false"
    # Sets have one order: peft writes the names of the adapted modules in it.
    environment["PYTHONHASHSEED"] = "0"
    # No more cards than processes: a single one would have transformers split every batch over all that it sees.
    cards = job.settings.processes if isinstance(job, TrainJob) else 1
    environment.setdefault("CUDA_VISIBLE_DEVICES", ",".join(map(str, range(cards))))
    # OpenMP's threads wait for one another by spinning; on a busy machine that made training five times slower.
    environment.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    if job.settings.threads is not None:
        environment["OMP_NUM_THREADS"] = str(job.settings.threads)
    return environment


async def _reports(process: anyio.abc.Process) -> AsyncIterator[Activity | Step | Result]:
    assert process.stdout is not None
    rest = ""
    async for text in TextReceiveStream(process.stdout):
        *lines, rest = (rest + text).split("\n")
        for line in lines:
            yield REPORT.validate_json(line)


async def _end(process: anyio.abc.Process, patience: timedelta) -> None:
    """After its result, or told to, the child ends by itself; its standard input stays open until then."""
    with anyio.move_on_after(patience.total_seconds()):
        await process.wait()
    if process.returncode is None:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
    await process.aclose()


def _ending(returncode: int | None) -> str:
    if returncode is not None and returncode < 0:
        name = signal.Signals(-returncode).name
        hint = "; the system may have run out of memory" if -returncode == signal.SIGKILL else ""
        return f"the child process was ended by {name}{hint}"
    return f"the child process ended with code {returncode} and without a result"


async def _with_log(cause: str, job: AnyJob) -> str:
    return f"{cause}\n{await anyio.to_thread.run_sync(_tail, job.folder / LOG_FILE)}"


def _tail(log: Path) -> str:
    """The cause is told, whether or not there is a log."""
    try:
        with log.open("rb") as file:
            file.seek(max(0, log.stat().st_size - _LOG_TAIL))
            return file.read().decode(errors="replace").strip()
    except OSError as error:
        return f"(its log cannot be read: {error})"
