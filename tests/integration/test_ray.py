"""The executor on a real local Ray of two workers: the same promises as those of the pool of processes."""

from __future__ import annotations

import os
import shutil
import signal
import sys
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

import anyio
import pytest

import codelupe_ray
from codelupe import Executor, WorkerLost
from codelupe.contracts.boundary import ContributionFailed, Part, used_parts
from codelupe.contracts.guards import guard_scorer
from codelupe.daemon import Daemon
from codelupe_ray.executor import RayExecutor, RayUnavailable
from codelupe_ray.settings import RaySettings
from tests.processes import read_pid, wait_until_gone
from tests.unit.codelupe.executor import functions

pytestmark = [pytest.mark.anyio, pytest.mark.slow, pytest.mark.xdist_group("ray"), pytest.mark.timeout(600)]
BAD = functions.BAD
TOOK_TOO_LONG = ("it took more than 1 s of CPU time", "it took more than 4 s")
"""The second if the machine has four times as much to do as it can."""


@pytest.fixture(scope="module")
def ray_folder() -> Iterator[Path]:
    """Where Ray puts its files; its sockets' names leave no room for pytest's own folders.

    Ray reads its token once in a process, so all tests have the same one.
    """
    folder = Path(tempfile.mkdtemp(prefix="ray-"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_TMPDIR", str(folder))
        patch.setenv("RAY_AUTH_MODE", "token")
        patch.setenv("RAY_AUTH_TOKEN", "0" * 64)
        yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="module")
async def executor(ray_folder: Path, anyio_backend: str) -> AsyncIterator[Executor]:
    async with RayExecutor(RaySettings(workers=2, file_seconds=1, worker_mib=512)) as it:
        yield it


def kill_the_actor_once(item: int, mark: str) -> int:
    """As when a machine of the cluster goes away."""
    if item == BAD and not Path(mark).exists():
        Path(mark).touch()
        os.kill(os.getppid(), signal.SIGKILL)
        functions.sleep()
    return item


async def test_a_call_runs_elsewhere(executor: Executor) -> None:
    assert await executor.run(pow, 2, 10) == 1024
    assert await executor.run(os.getpid) != os.getpid()


async def test_ten_thousand_items_come_back_in_order_from_two_workers(executor: Executor) -> None:
    items = list(range(10_000))
    assert await executor.map(functions.square, items) == [item * item for item in items]
    assert len(set(await executor.map(functions.where, items))) == 2


async def test_no_items_are_no_work(executor: Executor) -> None:
    assert await executor.map(functions.square, []) == []


@pytest.mark.parametrize(
    ("how", "reasons"),
    [
        (functions.segfault, ["its process died of SIGSEGV"]),
        (functions.leave_at_once, ["its process ended with status 0"]),
        (functions.spin, TOOK_TOO_LONG),
        (functions.sleep, ["it took more than 4 s"]),
        (functions.eat_memory, ["it needed more than 512 MiB of memory"]),
    ],
)
async def test_an_item_that_ruins_its_process_costs_only_itself(
    executor: Executor, how: Callable[[], None], reasons: Sequence[str], tmp_path: Path
) -> None:
    items = list(range(100))
    outcomes: list[int | WorkerLost]
    outcomes = await executor.map(functions.die_on_bad, items, how, (BAD,), str(tmp_path / "seen"))
    lost = outcomes.pop(BAD)
    assert isinstance(lost, WorkerLost)
    assert lost.reason in reasons
    assert outcomes == [item * item for item in items if item != BAD]


async def test_a_call_that_ruins_its_process_is_lost(executor: Executor) -> None:
    with pytest.raises(WorkerLost, match="status 3"):
        await executor.run(os._exit, 3)


async def test_an_actor_that_dies_costs_nothing(executor: Executor, tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    assert await executor.map(kill_the_actor_once, range(200), str(mark)) == list(range(200))
    assert mark.exists()


async def test_what_the_function_raises_reaches_the_caller_as_it_is(executor: Executor) -> None:
    with pytest.raises(ValueError, match="is no good") as caught:
        await executor.map(functions.raise_value_error, range(500))
    assert type(caught.value) is ValueError
    assert "in raise_value_error" in caught.value.__notes__[0]
    with pytest.raises(RuntimeError, match="Stubborn: this and that"):
        await executor.run(functions.raise_stubborn, 5)


async def test_what_cannot_be_pickled_is_the_caller_s_error(executor: Executor) -> None:
    with pytest.raises((AttributeError, TypeError), match="pickle"):
        await executor.map(functions.return_a_lambda, [1])
    with pytest.raises(TypeError, match="this cannot be pickled"):
        await executor.map(type, [1, functions.CannotBePickled()])
    assert await executor.map(functions.square, [3]) == [9]


@pytest.mark.parametrize("on_arrival", [functions.leave_at_once, functions.raise_on_arrival, lambda: None])
async def test_a_contribution_that_cannot_be_sent_is_the_offering_plugin_s(
    executor: Executor, on_arrival: Callable[[], None]
) -> None:
    """The last is one that Ray's own pickler would take; actors have worker processes, which would not."""
    contributions = [
        guard_scorer("fine", functions.Contribution("fine")),
        guard_scorer("acme", functions.Contribution("bad", on_arrival)),
    ]
    for call in (
        partial(executor.map, functions.count, range(100), contributions),
        partial(executor.map, functions.names_of, [[], contributions]),
        partial(executor.run, functions.names_of, contributions),
    ):
        with pytest.raises(ContributionFailed, match="failed on being sent to a worker process") as failed:
            await call()
        assert failed.value.part == Part("acme", "scorer", "bad")
    assert await executor.map(functions.count, [1], contributions[:1]) == [1]


async def test_what_was_sent_was_used(executor: Executor) -> None:
    with used_parts() as used:
        await executor.map(functions.count, [1], [guard_scorer("acme", functions.Contribution("it"))])
    assert used == {Part("acme", "scorer", "it")}


async def test_cancelling_the_caller_stops_the_work(executor: Executor, tmp_path: Path) -> None:
    async with anyio.create_task_group() as group:
        group.start_soon(executor.run, functions.write_pid_and_spin, str(tmp_path / "pid"))
        pid = await read_pid(tmp_path / "pid")
        group.cancel_scope.cancel()
    await wait_until_gone(pid)
    assert await executor.map(functions.square, range(200)) == [item * item for item in range(200)]


async def test_a_cluster_that_is_not_there_is_named() -> None:
    with pytest.raises(RayUnavailable, match="Ray at nowhere"):
        async with RayExecutor(RaySettings(address="nowhere")):
            pytest.fail("it is there")


async def test_without_ray_the_daemon_says_which_extra_is_missing(
    make_daemon: Callable[..., Daemon], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.RaisesGroup(pytest.RaisesExc(ContributionFailed, match=r"codelupe\[ray\]")):
        await make_daemon({"ray": codelupe_ray}, executor="ray").run()


async def test_ray_may_be_missing_while_nobody_chooses_it(
    make_daemon: Callable[..., Daemon], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    outcome = await make_daemon({"ray": codelupe_ray}).run()
    assert not outcome.interrupted
