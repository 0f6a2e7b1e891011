"""What the tests' worker processes run; they import this module, so it costs no more than the standard library."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

MIB = 1024 * 1024
HOG = 2048
BAD = 7


def write_pid_and_sleep(path: str) -> None:
    Path(path).write_text(str(os.getpid()))
    time.sleep(3600)


def start_a_child_and_sleep(path: str) -> None:
    child = subprocess.Popen(["sleep", "3600"])
    Path(path).write_text(str(child.pid))
    time.sleep(3600)


def square(item: int) -> int:
    return item * item


def where(item: int) -> int:
    return os.getpid()


def write_and_read(item: int) -> str:
    sys.stdout.write("not an answer")
    sys.stdout.flush()
    os.write(1, b"not an answer either")
    return sys.stdin.read()


def spin() -> None:
    while True:
        pass


def spin_for(seconds: float) -> float:
    """Returns how much CPU time it used."""
    began = time.process_time()
    while (used := time.process_time() - began) < seconds:
        pass
    return used


def spin_in_c() -> None:
    sum(iter(int, 1))


def sleep() -> None:
    time.sleep(3600)


def eat_memory() -> None:
    bytearray(HOG * MIB)


def eat_memory_bit_by_bit() -> None:
    pages = []
    while True:
        pages.append(bytearray(MIB))


def segfault() -> None:
    os.kill(os.getpid(), signal.SIGSEGV)


def abort() -> None:
    os.abort()


def be_killed() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def be_killed_once(mark: str) -> None:
    if not Path(mark).exists():
        Path(mark).touch()
        be_killed()


def note_and_sleep(path: str) -> None:
    with Path(path).open("a", encoding="ascii") as notes:
        notes.write(f"{os.getpid()}\n")
    sleep()


def leave() -> None:
    sys.exit(3)


def leave_at_once() -> None:
    os._exit(0)


def interrupt() -> None:
    raise KeyboardInterrupt


def die_on_bad(item: int, how: Callable[[], None], bad: tuple[int, ...], seen: str) -> int:
    """Does it for bad items; notes every completed item in the file ``seen``."""
    if item in bad:
        how()
    with Path(seen).open("a", encoding="ascii") as notes:
        notes.write(f"{item}\n")
    return item * item


def kill_own_worker_once(item: int, mark: str) -> int:
    """As the kernel does when memory is short for reasons that are not this item's."""
    if item == BAD and not Path(mark).exists():
        Path(mark).touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return item


def raise_value_error(item: int) -> None:
    raise ValueError(f"{item} is no good")


def raise_on_arrival() -> None:
    raise ValueError("no arrival")


class Stubborn(Exception):
    """Cannot be made again from its arguments."""

    def __init__(self, one: str, other: str) -> None:
        super().__init__(f"{one} and {other}")


def raise_stubborn(item: int) -> None:
    raise Stubborn("this", "that")


def return_a_lambda(item: int) -> object:
    return lambda: item


class CannotBePickled:
    def __reduce__(self) -> str:
        raise TypeError("this cannot be pickled")


class KillsItsReader:
    """An item whose unpickling ends the process."""

    def __reduce__(self) -> tuple[object, ...]:
        return os._exit, (9,)


class CannotBeRead:
    """A constant whose unpickling fails."""

    def __reduce__(self) -> tuple[object, ...]:
        return int, ("no number",)


class Contribution:
    """A scorer that does something when it is unpickled."""

    version = 1
    weight = 1.0

    def __init__(self, name: str, on_arrival: Callable[[], None] | None = None) -> None:
        self.name = name
        self.on_arrival = on_arrival

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        if self.on_arrival is not None:
            self.on_arrival()

    def score(self, file: object) -> None: ...


def names_of(contributions: Sequence[Any]) -> list[str]:
    return [one.name for one in contributions]


def count(item: object, contributions: Sequence[Any]) -> int:
    return len(contributions)


class CountsItsReaders:
    """A constant that notes each process that has unpickled it."""

    def __init__(self, path: str) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, ...]:
        return note_reader, (self.path,)


def note_reader(path: str) -> CountsItsReaders:
    with Path(path).open("a", encoding="ascii") as notes:
        notes.write(f"{os.getpid()}\n")
    return CountsItsReaders(path)


def ignore_constant(item: int, constant: object) -> int:
    return item


_leak: list[bytes] = []


def leak_and_tell_pid(item: int) -> int:
    _leak.append(b"x" * (MIB * item))
    return os.getpid()


def write_pid_and_spin(path: str) -> None:
    Path(path).write_text(str(os.getpid()))
    spin()


def wait_for_file(folder: str) -> str:
    """Says that it is there by the file ``pid``, and ends when there is a file ``go on``."""
    Path(folder, "pid").write_text(str(os.getpid()))
    while not Path(folder, "go on").exists():
        time.sleep(0.01)
    return "went on"
