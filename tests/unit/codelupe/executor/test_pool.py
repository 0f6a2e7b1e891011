"""The pool of worker processes: results, errors, death, limits, cancellation.

The pool lives and dies with its event loop, so each test has a loop of its own.
"""

from __future__ import annotations

import functools
import mmap
import os
import signal
import subprocess
import sys
import time
import types
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import anyio
import pytest

from codelupe import Executor, WorkerLost
from codelupe.contracts.boundary import ContributionFailed, Part
from codelupe.contracts.guards import guard_scorer
from codelupe.executor import ProcessExecutor, process
from codelupe.executor.child import Position
from tests.loop_clock import LoopClock
from tests.processes import children, read_pid, wait_until_gone
from tests.unit.codelupe.executor.functions import (
    BAD,
    MIB,
    CannotBePickled,
    CannotBeRead,
    Contribution,
    CountsItsReaders,
    KillsItsReader,
    abort,
    be_killed,
    be_killed_once,
    count,
    die_on_bad,
    eat_memory,
    eat_memory_bit_by_bit,
    ignore_constant,
    interrupt,
    kill_own_worker_once,
    leak_and_tell_pid,
    leave,
    leave_at_once,
    names_of,
    note_and_sleep,
    raise_on_arrival,
    raise_stubborn,
    raise_value_error,
    return_a_lambda,
    segfault,
    sleep,
    spin,
    spin_for,
    spin_in_c,
    square,
    start_a_child_and_sleep,
    wait_for_file,
    where,
    write_and_read,
    write_pid_and_sleep,
)

Test = Callable[..., Coroutine[Any, Any, None]]
Started = Callable[[], set[int]]


@pytest.fixture
def started() -> Started:
    """The processes that the test has started, beside the servers of tests before it."""
    before = children()
    return lambda: children() - before


def in_own_loop(test: Test) -> Callable[..., None]:
    @functools.wraps(test)
    def run(**fixtures: Any) -> None:
        anyio.run(functools.partial(test, **fixtures))

    return run


# --- one call ---


@in_own_loop
async def test_a_function_runs_in_another_process() -> None:
    async with ProcessExecutor(1) as pool:
        executor: Executor = pool
        assert await executor.run(pow, 2, 10) == 1024
        assert await executor.run(os.getpid) != os.getpid()


@in_own_loop
async def test_a_process_serves_again() -> None:
    async with ProcessExecutor(1) as executor:
        assert await executor.run(os.getpid) == await executor.run(os.getpid)


@in_own_loop
async def test_what_the_function_raises_reaches_the_caller_with_its_traceback() -> None:
    async with ProcessExecutor(1) as executor:
        pid = await executor.run(os.getpid)
        with pytest.raises(ValueError, match="5 is no good") as caught:
            await executor.run(raise_value_error, 5)
        assert "in raise_value_error" in caught.value.__notes__[0]
        assert await executor.run(os.getpid) == pid


@in_own_loop
async def test_an_error_that_cannot_be_pickled_still_says_what_happened() -> None:
    async with ProcessExecutor(1) as executor:
        with pytest.raises(RuntimeError, match="Stubborn: this and that") as caught:
            await executor.run(raise_stubborn, 5)
        assert "in raise_stubborn" in caught.value.__notes__[0]


@in_own_loop
async def test_a_call_has_no_time_limit() -> None:
    async with ProcessExecutor(1, item_seconds=0.05) as executor:
        assert await executor.run(spin_for, 0.5) >= 0.5
        await executor.run(time.sleep, 0.5)


@in_own_loop
async def test_a_process_that_dies_costs_one_call_only() -> None:
    async with ProcessExecutor(2) as executor:
        with pytest.raises(WorkerLost, match="its process ended with status 3"):
            await executor.run(os._exit, 3)
        assert await executor.run(pow, 3, 2) == 9


@in_own_loop
async def test_a_process_that_is_killed_costs_its_own_call_only(tmp_path: Path) -> None:
    outcomes = []
    (tmp_path / "fine").mkdir()
    async with ProcessExecutor(2) as executor:

        async def doomed() -> None:
            with pytest.raises(WorkerLost, match="SIGKILL"):
                await executor.run(write_pid_and_sleep, str(tmp_path / "pid"))
            outcomes.append("lost")

        async def fine() -> None:
            outcomes.append(await executor.run(wait_for_file, str(tmp_path / "fine")))

        async with anyio.create_task_group() as group:
            group.start_soon(doomed)
            group.start_soon(fine)
            await read_pid(tmp_path / "fine" / "pid")
            pid = await read_pid(tmp_path / "pid")
            os.kill(pid, signal.SIGKILL)
            await wait_until_gone(pid)
            (tmp_path / "fine" / "go on").touch()
    assert sorted(outcomes) == ["lost", "went on"]


@in_own_loop
async def test_a_process_that_was_killed_while_idle_costs_nothing() -> None:
    async with ProcessExecutor(1) as executor:
        pid = await executor.run(os.getpid)
        os.kill(pid, signal.SIGKILL)
        assert await executor.run(os.getpid) != pid


@in_own_loop
async def test_requests_to_stop_are_the_daemon_s_business() -> None:
    """Both a terminal and systemd may send them to every process."""
    async with ProcessExecutor(1) as executor:
        pid = await executor.run(os.getpid)
        os.kill(pid, signal.SIGINT)
        os.kill(pid, signal.SIGTERM)
        assert await executor.run(os.getpid) == pid
        assert await executor.run(os.getpgid, 0) != os.getpgid(0)


@in_own_loop
async def test_no_more_calls_run_at_once_than_there_are_workers(tmp_path: Path, started: Started) -> None:
    ended: list[float] = []
    async with ProcessExecutor(2) as executor:

        async def call() -> None:
            await executor.run(time.sleep, 0.3)
            ended.append(time.monotonic())

        await executor.run(os.getpid)
        start = time.monotonic()
        async with anyio.create_task_group() as group:
            for _ in range(4):
                group.start_soon(call)
        assert len(started()) == 2
    assert max(ended) - start >= 0.6


# --- many items ---


@in_own_loop
async def test_ten_thousand_items_come_back_in_order_from_all_workers() -> None:
    async with ProcessExecutor(2) as executor:
        items = list(range(10_000))
        assert await executor.map(square, items) == [item * item for item in items]
        assert len(set(await executor.map(where, items))) == 2


@in_own_loop
async def test_there_is_a_worker_for_each_cpu_that_this_process_may_use() -> None:
    usable = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(usable)})
    try:
        executor = ProcessExecutor()
    finally:
        os.sched_setaffinity(0, usable)
    async with executor:
        assert len(set(await executor.map(where, range(500)))) == 1


@in_own_loop
async def test_no_items_need_no_process(started: Started) -> None:
    async with ProcessExecutor(2) as executor:
        assert await executor.map(square, []) == []
        assert started() == set()


@in_own_loop
async def test_large_items_travel_in_chunks_of_their_own() -> None:
    async with ProcessExecutor(1, memory_mib=256) as executor:
        items = [bytes([number]) * 30 * MIB for number in range(6)]
        assert await executor.map(len, items) == [30 * MIB] * 6


@in_own_loop
async def test_constants_are_unpickled_once_in_each_process(tmp_path: Path) -> None:
    notes = tmp_path / "readers"
    async with ProcessExecutor(2) as executor:
        items = list(range(1000))
        for _ in range(3):
            assert await executor.map(ignore_constant, items, CountsItsReaders(str(notes))) == items
    readers = notes.read_text().split()
    assert len(readers) == len(set(readers)) == 2


@in_own_loop
async def test_a_function_that_prints_does_not_speak_to_the_daemon() -> None:
    async with ProcessExecutor(1) as executor:
        assert await executor.map(write_and_read, [1, 2]) == ["", ""]


# --- items that cost only themselves ---


@pytest.mark.parametrize(
    ("how", "reason"),
    [
        (segfault, "its process died of SIGSEGV"),
        (abort, "its process died of SIGABRT"),
        (be_killed, "its process died of SIGKILL"),
        (leave, "its process ended with status 3"),
        (leave_at_once, "its process ended with status 0"),
        (interrupt, "its process died of SIGINT"),
        (eat_memory, "it needed more than 512 MiB of memory"),
        (eat_memory_bit_by_bit, "it needed more than 512 MiB of memory"),
        (spin, "it took more than 0.5 s of CPU time"),
        (spin_in_c, "it took more than 0.5 s of CPU time"),
        (sleep, "it took more than 2 s"),
    ],
)
@in_own_loop
async def test_an_item_that_ruins_its_process_costs_only_itself(
    how: Callable[[], None], reason: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = tmp_path / "seen"
    seconds = 0.5 if how in {spin, spin_in_c, sleep} else 30
    if how is not sleep:  # on a busy machine the limit on its sleep could be the first to be reached
        LoopClock(monkeypatch, pace=0.01)
    async with ProcessExecutor(2, item_seconds=seconds, memory_mib=512) as executor:
        items = list(range(40))
        outcomes = await executor.map(die_on_bad, items, how, (BAD,), str(seen))
    assert [item for item, outcome in enumerate(outcomes) if isinstance(outcome, WorkerLost)] == [BAD]
    assert [lost.reason for lost in outcomes if isinstance(lost, WorkerLost)] == [reason]
    assert [outcome for outcome in outcomes if not isinstance(outcome, WorkerLost)] == [
        n * n for n in items if n != BAD
    ]
    calls = [int(line) for line in seen.read_text().split()]
    assert set(calls) == set(items) - {BAD}
    assert max(map(calls.count, items)) <= 2
    assert max(calls.count(item) for item in items if item > BAD) == 1


@in_own_loop
async def test_every_second_item_may_be_bad(tmp_path: Path) -> None:
    async with ProcessExecutor(2) as executor:
        bad = tuple(range(0, 12, 2))
        outcomes = await executor.map(die_on_bad, range(12), be_killed, bad, str(tmp_path / "seen"))
    assert [isinstance(outcome, WorkerLost) for outcome in outcomes] == [True, False] * 6
    assert outcomes[1::2] == [n * n for n in range(1, 12, 2)]


@in_own_loop
async def test_an_item_is_lost_only_if_it_fails_alone(tmp_path: Path) -> None:
    async with ProcessExecutor(1) as executor:
        assert await executor.map(kill_own_worker_once, range(20), str(tmp_path / "mark")) == list(range(20))
    assert (tmp_path / "mark").exists()


@in_own_loop
async def test_an_item_that_kills_the_process_while_it_is_unpickled_costs_only_itself() -> None:
    async with ProcessExecutor(1) as executor:
        first, bad, last = await executor.map(type, [1, KillsItsReader(), "x"])
    assert (first, last) == (int, str)
    assert isinstance(bad, WorkerLost)
    assert bad.reason == "its process ended with status 9"


@in_own_loop
async def test_cpu_time_counts_for_each_item_anew() -> None:
    async with ProcessExecutor(1, item_seconds=1) as executor:
        outcomes = await executor.map(spin_for, [0.1] * 15)
    used = [outcome for outcome in outcomes if not isinstance(outcome, WorkerLost)]
    assert len(used) == 15
    assert sum(used) > 1


@in_own_loop
async def test_a_process_that_has_grown_is_replaced_between_chunks(started: Started) -> None:
    async with ProcessExecutor(1, memory_mib=512) as executor:
        [first] = await executor.map(leak_and_tell_pid, [1])
        [second] = await executor.map(leak_and_tell_pid, [300])
        [third] = await executor.map(leak_and_tell_pid, [1])
        assert first == second != third
        assert started() == {third}


# --- what is the caller's own error ---


@in_own_loop
async def test_an_error_in_the_function_is_raised_and_the_processes_live_on() -> None:
    async with ProcessExecutor(2) as executor:
        before = set(await executor.map(where, range(500)))
        with pytest.raises(ValueError, match="is no good") as caught:
            await executor.map(raise_value_error, range(500))
        assert "in raise_value_error" in caught.value.__notes__[0]
        assert set(await executor.map(where, range(500))) == before


@in_own_loop
async def test_a_result_that_cannot_be_pickled_is_the_caller_s_error() -> None:
    async with ProcessExecutor(1) as executor:
        with pytest.raises((AttributeError, TypeError), match="pickle") as caught:
            await executor.map(return_a_lambda, [1])
        assert "worker process" in caught.value.__notes__[0]
        assert await executor.map(square, [3]) == [9]


@in_own_loop
async def test_an_item_that_cannot_be_pickled_is_the_caller_s_error() -> None:
    async with ProcessExecutor(1) as executor:
        with pytest.raises(TypeError, match="this cannot be pickled"):
            await executor.map(type, [1, CannotBePickled()])
        assert await executor.map(square, [3]) == [9]


@in_own_loop
async def test_a_constant_that_cannot_be_read_says_so_every_time() -> None:
    async with ProcessExecutor(1) as executor:
        for _ in range(2):
            with pytest.raises(ValueError, match="no number"):
                await executor.map(ignore_constant, [1], CannotBeRead())
        assert await executor.map(square, [3]) == [9]


@in_own_loop
async def test_a_constant_that_kills_its_readers_is_nobody_s_item() -> None:
    async with ProcessExecutor(1) as executor:
        with pytest.raises(WorkerLost, match="status 9"):
            await executor.map(ignore_constant, [1, 2], KillsItsReader())
        assert await executor.map(square, [3]) == [9]


# --- what is the failure of a plugin that contributes to it ---

BY = Part("acme", "scorer", "bad")


async def failed_on_the_way(executor: Executor, contributions: list[Any]) -> None:
    """Among the constants, among the items and among the arguments."""
    with pytest.raises(ContributionFailed, match="failed on being sent to a worker process") as in_constants:
        await executor.map(count, range(200), contributions)
    with pytest.raises(ContributionFailed, match="failed on being sent to a worker process") as in_item:
        await executor.map(names_of, [[], contributions, []])
    with pytest.raises(ContributionFailed, match="failed on being sent to a worker process") as in_arguments:
        await executor.run(names_of, contributions)
    assert [failed.value.part for failed in (in_constants, in_item, in_arguments)] == [BY] * 3


def among_others(bad: Contribution) -> list[Any]:
    return [guard_scorer("fine", Contribution("fine")), guard_scorer("acme", bad), guard_scorer("z", Contribution("z"))]


@pytest.mark.parametrize(
    "on_arrival",
    [raise_on_arrival, leave, interrupt, segfault, be_killed, leave_at_once, eat_memory, spin_in_c, sleep],
)
@in_own_loop
async def test_a_contribution_that_ends_or_holds_up_its_process_on_arrival_is_named(
    on_arrival: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    if on_arrival in {spin_in_c, sleep}:
        monkeypatch.setattr(process, "_LOAD_SECONDS", 2.0)
    async with ProcessExecutor(2, item_seconds=2, memory_mib=512) as executor:
        await failed_on_the_way(executor, among_others(Contribution("bad", on_arrival)))
        assert await executor.map(count, range(5), among_others(Contribution("bad"))) == [3] * 5
        assert await executor.run(names_of, among_others(Contribution("bad"))) == ["fine", "bad", "z"]


def killed_once(folder: Path, *names: str) -> list[Any]:
    """Contributions during whose arrival the process is killed from outside, at first."""
    folder.mkdir()
    return [
        guard_scorer("acme", Contribution(name, functools.partial(be_killed_once, str(folder / name))))
        for name in names
    ]


@in_own_loop
async def test_a_process_that_is_killed_while_a_contribution_arrives_is_started_again(tmp_path: Path) -> None:
    async with ProcessExecutor(1) as executor:
        assert await executor.map(count, [1, 2], killed_once(tmp_path / "constants", "a", "b")) == [2, 2]
        items = [[], killed_once(tmp_path / "item", "a", "b"), []]
        assert await executor.map(names_of, items) == [[], ["a", "b"], []]
        assert await executor.run(names_of, killed_once(tmp_path / "arguments", "a")) == ["a"]


@in_own_loop
async def test_processes_that_are_killed_while_different_contributions_arrive_are_lost(tmp_path: Path) -> None:
    async with ProcessExecutor(1) as executor:
        with pytest.raises(WorkerLost, match="SIGKILL"):
            await executor.map(count, [1], killed_once(tmp_path / "constants", "a", "b", "c"))
        with pytest.raises(WorkerLost, match="SIGKILL"):
            await executor.run(names_of, killed_once(tmp_path / "arguments", "a", "b", "c"))


@in_own_loop
async def test_a_contribution_that_hangs_on_arrival_is_not_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(process, "_LOAD_SECONDS", 1.0)
    notes = tmp_path / "notes"
    async with ProcessExecutor(1, item_seconds=2) as executor:
        with pytest.raises(ContributionFailed, match="it took more than 1 s"):
            await executor.run(
                names_of, [guard_scorer("acme", Contribution("bad", functools.partial(note_and_sleep, str(notes))))]
            )
    assert len(notes.read_text().split()) == 1


class ReadAtEachStep(mmap.mmap):
    """The memory of a position, which is read as soon as its names are written."""

    position: Position
    seen: list[Part | None]

    def __setitem__(self, at: Any, value: Any) -> None:
        super().__setitem__(at, value)
        self.seen.append(self.position.loading)


@pytest.mark.parametrize("before", ["x", "b" * 100, "ä" * 100, "ää"])
def test_a_position_has_no_contribution_while_its_names_change(before: str) -> None:
    descriptor = os.memfd_create("position")
    os.ftruncate(descriptor, Position.SIZE)
    position = Position(descriptor)
    position.set(7)
    position.set_loading(Part("acme", "scorer", before))
    position._memory = memory = ReadAtEachStep(descriptor, Position.SIZE)
    os.close(descriptor)
    memory.position, memory.seen = position, []
    other = Part("another", "file rule", "other")
    position.set_loading(other)
    assert (memory.seen, position.loading, position.get()) == ([None], other, 7)
    position.set_loading(Part("x" * Position.SIZE, "", ""))
    assert (position.loading, position.get()) == (None, 7)


@pytest.mark.parametrize("names", [b"\xff\0a\0b", b"a\0b", b"a\0b\0c\0d", b"a"])
def test_a_position_whose_names_cannot_be_read_has_no_contribution(names: bytes) -> None:
    descriptor = os.memfd_create("position")
    os.ftruncate(descriptor, Position.SIZE)
    os.write(descriptor, Position._HEAD.pack(7, len(names)) + names)
    position = Position(descriptor)
    os.close(descriptor)
    assert (position.loading, position.get()) == (None, 7)


@in_own_loop
async def test_a_contribution_that_cannot_be_pickled_is_named() -> None:
    async with ProcessExecutor(1) as executor:
        await failed_on_the_way(executor, among_others(Contribution("bad", lambda: None)))
        assert await executor.map(square, [3]) == [9]


@in_own_loop
async def test_a_contribution_whose_module_is_not_there_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    module = types.ModuleType("only_here")
    monkeypatch.setitem(sys.modules, "only_here", module)
    module.OnlyHere = type("OnlyHere", (Contribution,), {"__module__": "only_here"})  # type: ignore[attr-defined]
    async with ProcessExecutor(1) as executor:
        await failed_on_the_way(executor, among_others(module.OnlyHere("bad")))
        with pytest.raises(ContributionFailed, match="ModuleNotFoundError: No module named 'only_here'"):
            await executor.map(count, [1], among_others(module.OnlyHere("bad")))


@in_own_loop
async def test_a_file_that_kills_the_process_is_no_contribution_s_failure() -> None:
    async with ProcessExecutor(1) as executor:
        outcomes = await executor.map(count, [1, KillsItsReader(), 2], among_others(Contribution("bad")))
    assert [isinstance(outcome, WorkerLost) for outcome in outcomes] == [False, True, False]


@in_own_loop
async def test_a_name_of_any_length_and_script_is_told() -> None:
    async with ProcessExecutor(1) as executor:
        for name in ("ä語", "x" * 2000):
            with pytest.raises(ContributionFailed) as failed:
                await executor.map(count, [1], [guard_scorer("acme", Contribution(name, be_killed))])
            assert failed.value.part.name == name
        with pytest.raises(WorkerLost):
            await executor.map(count, [1], [guard_scorer("acme", Contribution("x" * 100_000, be_killed))])


# --- ends ---


@in_own_loop
async def test_cancelling_the_caller_kills_the_process_and_what_it_started(tmp_path: Path, started: Started) -> None:
    async with ProcessExecutor(1) as executor:
        async with anyio.create_task_group() as group:
            group.start_soon(executor.map, start_a_child_and_sleep, [str(tmp_path / "pid")])
            pid = await read_pid(tmp_path / "pid")
            group.cancel_scope.cancel()
        await wait_until_gone(pid)
        assert started() == set()
        assert await executor.run(pow, 3, 2) == 9


@pytest.mark.parametrize("seconds", [0, 0.01, 0.1, 0.3])
@in_own_loop
async def test_a_caller_that_is_cancelled_while_a_process_starts_leaves_none(seconds: float, started: Started) -> None:
    async with ProcessExecutor(2) as executor:
        with anyio.move_on_after(seconds):
            await executor.map(die_on_bad, [BAD] * 500, sleep, (BAD,), os.devnull)
        assert started() == set()


@in_own_loop
async def test_leaving_the_executor_leaves_no_process(started: Started) -> None:
    async with ProcessExecutor(2) as executor:
        await executor.map(square, range(500))
        assert len(started()) == 2
    assert started() == set()


@in_own_loop
async def test_a_machine_that_stands_still_rejects_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Time goes on meanwhile, several times the limit, and the answer comes only after the daemon runs again."""
    outcomes: list[object] = []
    async with ProcessExecutor(1, item_seconds=100) as executor:
        clock = LoopClock(monkeypatch)

        async def call() -> None:
            outcomes.extend(await executor.map(wait_for_file, [str(tmp_path)]))

        async with anyio.create_task_group() as group:
            group.start_soon(call)
            await read_pid(tmp_path / "pid")
            await clock.pass_in_steps(40, 40)
            await clock.stand_still(2000)
            assert outcomes == []
            (tmp_path / "go on").touch()
    assert outcomes == ["went on"]


@in_own_loop
async def test_an_item_that_waits_longer_than_its_limit_is_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with ProcessExecutor(1, item_seconds=100) as executor:
        clock = LoopClock(monkeypatch)
        outcomes: list[object] = []

        async def call() -> None:
            outcomes.extend(await executor.map(wait_for_file, [str(tmp_path)]))

        async with anyio.create_task_group() as group:
            group.start_soon(call)
            await read_pid(tmp_path / "pid")
            await clock.pass_in_steps(390, 400)
            assert outcomes == []
            await clock.pass_in_steps(60, 60)  # each of the forty beats may be a step late
    assert [str(outcome) for outcome in outcomes] == ["it took more than 400 s"]


@in_own_loop
async def test_time_asleep_counts_for_each_item_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Four items of one chunk, each of which waits for most of its limit."""
    folders = [tmp_path / name for name in "abcd"]
    outcomes: list[object] = []
    async with ProcessExecutor(1, item_seconds=100) as executor:
        clock = LoopClock(monkeypatch)

        async def call() -> None:
            outcomes.extend(await executor.map(wait_for_file, list(map(str, folders))))

        for folder in folders:
            folder.mkdir()
        async with anyio.create_task_group() as group:
            group.start_soon(call)
            for folder in folders:
                await read_pid(folder / "pid")
                await clock.pass_in_steps(300, 300)
                (folder / "go on").touch()
    assert outcomes == ["went on"] * 4


def test_workers_die_with_the_process_that_started_them_even_in_the_middle_of_work(tmp_path: Path) -> None:
    program = f"""
import anyio
from codelupe.executor import ProcessExecutor
from tests.unit.codelupe.executor.functions import write_pid_and_spin

async def main() -> None:
    async with ProcessExecutor(2) as executor:
        await executor.run(int)
        await executor.map(write_pid_and_spin, [{str(tmp_path / "one")!r}, {str(tmp_path / "two")!r}])

anyio.run(main)
"""
    with subprocess.Popen([sys.executable, "-c", program], cwd=Path(__file__).parents[3]) as daemon:
        pids = [anyio.run(read_pid, tmp_path / name) for name in ("one", "two")]
        daemon.kill()
    for pid in pids:
        anyio.run(wait_until_gone, pid)
