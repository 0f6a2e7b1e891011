"""The worker processes: started, started again when they were killed, and judged by how they end."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from random import Random

import anyio
import anyio.abc

from codelupe.errors import DatabaseUnavailable
from tests.chaos.plugin import NEWER, OLDER

SIZE = 3
_OLDER_PLACE = 0
"""Where the older version of the plugin runs."""
_ROOT = Path(__file__).parents[2]
_PAUSE_SECONDS = 0.2
_LAST_LINES = 10
_LONGEST_LINE = 300


class WorkerFailed(AssertionError):
    """A daemon ended in a way that no fault of ours explains."""


@dataclass(kw_only=True)
class Member:
    """A process that runs."""

    process: anyio.abc.Process
    log: Path
    was_killed: bool = False
    is_frozen: bool = False

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def is_up(self) -> bool:
        return not (self.was_killed or self.is_frozen) and self.process.returncode is None

    def kill(self) -> None:
        self.was_killed = True
        self.process.kill()

    def freeze(self) -> None:
        self.is_frozen = True
        self.process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self.process.send_signal(signal.SIGCONT)
        self.is_frozen = False


class Fleet:
    """As many daemons as SIZE, each in a place with a way to the server and a state directory of its own."""

    def __init__(self, urls: Sequence[str], folder: Path, seed: int, options: Sequence[str] = ()) -> None:
        self._urls = urls
        self._folder = folder
        self._seed = seed
        self._options = options
        self._stopping = False
        self._members: dict[int, Member] = {}

    @property
    def pids(self) -> list[int]:
        """Of those that are up."""
        return sorted(member.pid for member in self._members.values() if member.is_up)

    @property
    def logs(self) -> list[Path]:
        return sorted(self._folder.glob("worker-*.log"))

    def last_words(self) -> list[str]:
        """How the logs of those that run end, and the last that they said otherwise, such as a thread's traceback."""
        words = []
        for member in self._members.values():
            lines = member.log.read_text(errors="replace").splitlines()
            unlogged = [line for line in lines if not line.startswith("{")]
            ends = (*lines[-_LAST_LINES:], *unlogged[-_LAST_LINES:])
            words += [f"{member.log.name} of {member.pid}: {line[:_LONGEST_LINE]}" for line in ends]
        return words

    def choose(self, random: Random) -> Member | None:
        """One that is up, if there is any."""
        members = [member for _, member in sorted(self._members.items()) if member.is_up]
        return random.choice(members) if members else None

    async def run(self) -> None:
        """Keep every place filled until :meth:`stop`, and then until all have ended by themselves.

        Raises:
            WorkerFailed: one ended otherwise than by our signals or for want of a database to start on, or had a
                thread that did.
        """
        async with anyio.create_task_group() as group:
            for place in range(SIZE):
                group.start_soon(self._fill, place)

    def stop(self) -> None:
        """Ask all to drain and end."""
        self._stopping = True
        for member in self._members.values():
            member.process.terminate()

    async def _fill(self, place: int) -> None:
        for life in count(1):
            log = self._folder / f"worker-{place}-{life:03}.log"
            async with await self._start(place, life, log) as process:
                member = self._members[place] = Member(process=process, log=log)
                code = await process.wait()
                del self._members[place]
            _judge(member, code, is_told_to=self._stopping)
            if self._stopping:
                return
            await anyio.sleep(_PAUSE_SECONDS)

    async def _start(self, place: int, life: int, log: Path) -> anyio.abc.Process:
        version = OLDER if place == _OLDER_PLACE else NEWER
        arguments = [self._urls[place], str(self._folder / f"state-{place}"), "--seed", f"{self._seed}/{place}/{life}"]
        arguments += ["--version", version]
        command = [sys.executable, "-m", "tests.chaos.worker", *arguments, *self._options]
        with log.open("wb") as output:
            return await anyio.open_process(
                command, cwd=_ROOT, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT
            )


def _judge(member: Member, code: int, *, is_told_to: bool) -> None:
    """A daemon ends when it is told to, dies of our SIGKILL, and gives up if it finds no database when it starts."""
    said = member.log.read_text(errors="replace")
    is_right = (
        (code == 0 and is_told_to)
        or (code == -signal.SIGKILL and member.was_killed)
        or (code == DatabaseUnavailable.exit_code and '"event": "started"' not in said)
    )
    if not is_right or "Exception in thread" in said:
        raise WorkerFailed(f"a worker ended with {code}; the end of {member.log}:\n{said[-6000:]}")
