"""Two processes train one model, over gloo on a CPU: what one of them learns alone, and its setbacks."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import Any

import anyio
import pytest
from safetensors.numpy import load_file

from codelupe import RetryLater, write_file
from codelupe_trainer import process
from codelupe_trainer.jobs import ADAPTER, CHECKPOINTS, FILES, Activity, Step, Trained, TrainJob
from codelupe_trainer.process import CannotSucceed, ChildFailed, run_child
from codelupe_trainer.setbacks import read_setbacks
from codelupe_trainer.settings import TrainerSettings
from tests.integration.test_trainer import children_of, code_files, train_job, write_files
from tests.tiny_qwen import make_tiny_qwen
from tests.training import byte_tokenizer, code_file

pytestmark = [pytest.mark.anyio, pytest.mark.slow, pytest.mark.timeout(600), pytest.mark.xdist_group("trainer")]

SMALL: dict[str, Any] = {
    "profile": "qwen2.5-coder-0.5b",
    "threads": 2,
    "max_length": 128,
    "packing": False,
    "samples_per_step": 5,
    "max_steps": 4,
    "max_validation_files": 3,
    "learning_rate": 1e-3,
    "eval_every": 2,
    "lora": {"rank": 16, "alpha": 32, "dropout": 0.1, "dtype": "float32"},
}
"""Five rows a step, which two processes cannot divide; 4 bits, gradient checkpointing, an 8-bit optimiser."""

MakeJob = Callable[..., TrainJob]


@pytest.fixture(scope="module")
def tiny_base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_qwen(tmp_path_factory.mktemp("bases") / "qwen")


@pytest.fixture
def make_job(tmp_path: Path, tiny_base: Path) -> MakeJob:
    def make(name: str = "work", **changes: Any) -> TrainJob:
        write_files(tmp_path / name, list(islice(code_files("rich"), 24)), validation=3)
        values = SMALL | {"base": str(tiny_base), "processes": 2} | changes
        return train_job(TrainerSettings.model_validate(values), tmp_path / name, tmp_path)

    return make


LEARNED = ("loss", "eval_loss", "learning_rate", "grad_norm")
"""What of a step's figures does not depend on how fast the machine is."""


class Run:
    """Trains, and keeps what is reported; ``on_step`` is called once for each step."""

    def __init__(self, job: TrainJob, on_step: Callable[[Step], object] = lambda _: None) -> None:
        self.job = job
        self.losses: dict[int, dict[str, float]] = {}
        self.whats: list[str] = []
        self.worlds: set[tuple[str, str]] = set()
        """Rank and size, as the processes at work have them in their environment."""
        self._on_step = on_step

    async def __call__(self) -> Trained:
        result = await run_child(self.job, self._listen)
        assert isinstance(result, Trained)
        return result

    def _listen(self, report: Activity | Step) -> None:
        if isinstance(report, Activity):
            self.whats.append(report.what)
            return
        if report.done not in self.losses:
            self.worlds |= {(rank, size) for rank, size, _ in ranks_of(self.job)}
            self._on_step(report)
        told = {name: report.figures[name] for name in LEARNED if name in report.figures}
        self.losses.setdefault(report.done, {}).update(told)


def ranks_of(job: TrainJob) -> list[tuple[str, str, int]]:
    """Rank, size of the world, and process id."""
    found = []
    for child in children_of(job):
        with suppress(OSError):
            lines = Path(f"/proc/{child}/environ").read_bytes().decode().split("\0")
            environment = dict(line.partition("=")[::2] for line in lines)
            if "RANK" in environment:
                found.append((environment["RANK"], environment["WORLD_SIZE"], child))
    return sorted(found)


def strike(job: TrainJob, number: signal.Signals) -> None:
    """Signal the second process alone."""
    [second] = [child for rank, _, child in ranks_of(job) if rank == "1"]
    os.kill(second, number)


def adapter(job: TrainJob) -> bytes:
    return (job.folder / ADAPTER / "adapter_model.safetensors").read_bytes()


async def test_two_processes_learn_what_one_does(make_job: MakeJob) -> None:
    """Also what is dropped out is the same, and a step that cannot be divided has no row twice."""
    alone, together = Run(make_job("alone", processes=1)), Run(make_job("together"))
    expected, result = await alone(), await together()
    assert (alone.worlds, together.worlds) == (set(), {("0", "2"), ("1", "2")})
    [checkpoint] = (together.job.folder / CHECKPOINTS).glob("checkpoint-4")
    assert {path.name for path in checkpoint.glob("rng_state*")} == {"rng_state_0.pth", "rng_state_1.pth"}
    assert result.rows_per_step == expected.rows_per_step == 5
    assert together.losses.keys() == alone.losses.keys() == {1, 2, 3, 4}
    for step, figures in alone.losses.items():
        assert together.losses[step] == pytest.approx(figures, rel=1e-5), step
    ours, theirs = (load_file(each.job.folder / ADAPTER / "adapter_model.safetensors") for each in (alone, together))
    for name, values in ours.items():
        assert abs(values - theirs[name]).max() < 1e-4, name


async def test_a_run_of_two_that_is_stopped_ends_with_the_same_bytes(make_job: MakeJob) -> None:
    """Both stop before the same micro-batch if one of them is told to, or if their files change; one that is killed
    ends the other."""
    alone, job = make_job("alone", max_steps=6), make_job("stopped", max_steps=6, checkpoint_every=0.000001)
    expected = await Run(alone)()
    files = job.folder / FILES

    def at(step: int, happens: Callable[[], object]) -> Run:
        return Run(job, lambda report: happens() if report.done == step else None)

    with pytest.raises(RetryLater, match="was told to stop"):
        await at(1, lambda: strike(job, signal.SIGTERM))()
    with pytest.raises(ChildFailed, match=r"(?s)ended with code 1 and without a result.*SIGKILL"):
        await at(2, lambda: strike(job, signal.SIGKILL))()
    with pytest.raises(RetryLater, match="was told to stop"):
        await at(3, lambda: write_file(files, files.read_bytes()))()
    result = await Run(job)()
    assert adapter(job) == adapter(alone)
    assert result.model_dump(exclude={"seconds"}) == expected.model_dump(exclude={"seconds"})


async def test_the_end_of_the_daemon_s_wait_stops_both(make_job: MakeJob) -> None:
    job = make_job(max_steps=1000, epochs=1000)
    async with anyio.create_task_group() as group:
        await group.start_soon(Run(job, lambda _: group.cancel_scope.cancel()))
    assert children_of(job) == []
    assert list((job.folder / CHECKPOINTS).glob("checkpoint-*"))


async def test_a_run_goes_on_with_another_number_of_processes(make_job: MakeJob) -> None:
    """With packed rows."""
    values: dict[str, Any] = {"packing": True, "samples_per_step": 4}
    job, expected = make_job("stopped", **values), Run(make_job("alone", processes=1, **values))
    await expected()

    def stop(report: Step) -> None:
        if report.done == 2:
            for _, _, child in ranks_of(job):
                os.kill(child, signal.SIGTERM)

    together = Run(job, stop)
    with pytest.raises(RetryLater):
        await together()
    alone = Run(job.model_copy(update={"settings": job.settings.model_copy(update={"processes": 1})}))
    await alone()
    assert {1, 2} <= together.losses.keys()
    assert min(alone.losses) > 1
    for step, figures in [*together.losses.items(), *alone.losses.items()]:
        assert figures == pytest.approx({name: expected.losses[step][name] for name in figures}, rel=1e-5), step


async def test_a_step_that_leads_one_of_two_astray_is_left_out_by_both(make_job: MakeJob, tmp_path: Path) -> None:
    [token] = byte_tokenizer()("\xff", add_special_tokens=False)["input_ids"][-1:]
    job = make_job(base=str(make_tiny_qwen(tmp_path / "broken", broken_token=token)))
    bad = code_file("value = 1\nname = 'ÿ'\n" * 9, path="bad/1.py", repository="local/bad")
    write_files(job.folder, [*islice(code_files("rich"), 9), bad, *islice(code_files("pluggy"), 6)], validation=3)
    run = Run(job)
    result = await run()
    [reason] = [what for what in run.whats if "training went astray" in what]
    assert "bad/1.py of local/bad" in reason
    assert result.skipped_steps == read_setbacks(job.folder).skipped_steps
    assert len(result.skipped_steps) == 1


OUT_OF_MEMORY_ON_THE_SECOND = """
import os, sys
if os.environ.get("RANK") == "1":
    import torch
    from codelupe_trainer.child.resumable import ResumableTrainer
    original = ResumableTrainer._seed
    def seed(self, rows):
        if self._micro_batch > 1:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        original(self, rows)
    ResumableTrainer._seed = seed
"""


async def test_memory_that_runs_out_on_one_card_halves_the_micro_batch_of_both(
    make_job: MakeJob, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The process that has the cause tells it, not the one that lost it. Then the kernel kills one of them, which the
    launcher survives."""
    write_file(tmp_path / "planted" / "sitecustomize.py", OUT_OF_MEMORY_ON_THE_SECOND)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "planted"), prepend=os.pathsep)
    job, kills = make_job(micro_batch=3), [0]
    monkeypatch.setattr(process, "_killed_for_memory", lambda: kills[0])

    def kill(_: Step) -> None:
        kills[0] = 1
        strike(job, signal.SIGKILL)

    run = Run(job, kill)
    with pytest.raises(CannotSucceed, match="the system ran out of memory and killed the child process: set `micro_"):
        await run()
    told = "CUDA out of memory. Tried to allocate 2.00 GiB; going on with half the micro-batch"
    assert told in run.whats
    assert run.losses.keys() == {1}
    assert read_setbacks(job.folder).out_of_memory
