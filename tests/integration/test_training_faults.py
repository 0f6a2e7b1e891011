"""What goes wrong in a training, planted into a tiny one: memory, numbers, types, stops in the middle of a step."""

from __future__ import annotations

import math
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from itertools import islice
from pathlib import Path
from typing import Any

import anyio
import pytest

torch = pytest.importorskip("torch")

from peft import LoraConfig, PeftModel  # noqa: E402 - after the extra was found
from peft.tuners.lora import LoraLayer  # noqa: E402
from safetensors.torch import load_file  # noqa: E402
from transformers import AutoModelForCausalLM, EarlyStoppingCallback  # noqa: E402
from trl.trainer.sft_trainer import SFTTrainer  # noqa: E402

from codelupe_trainer import process  # noqa: E402
from codelupe_trainer.child.checkpoints import Manifest  # noqa: E402
from codelupe_trainer.child.errors import BeginAgain, Unusable  # noqa: E402
from codelupe_trainer.child.resumable import ResumableTrainer  # noqa: E402
from codelupe_trainer.child.stop import Stopped  # noqa: E402
from codelupe_trainer.child.training import train  # noqa: E402
from codelupe_trainer.child.watch import AdapterDtype  # noqa: E402
from codelupe_trainer.jobs import ADAPTER, CHECKPOINTS, Activity, Step, Trained, TrainJob  # noqa: E402
from codelupe_trainer.process import CannotSucceed, ChildFailed, run_child  # noqa: E402
from codelupe_trainer.setbacks import read_setbacks  # noqa: E402
from codelupe_trainer.settings import TrainerSettings  # noqa: E402
from tests.integration.test_trainer import children_of, code_files, train_job, write_files  # noqa: E402
from tests.tiny_qwen import make_tiny_qwen  # noqa: E402
from tests.training import byte_tokenizer, code_file  # noqa: E402

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(600),
    pytest.mark.xdist_group("trainer"),
    pytest.mark.filterwarnings("ignore"),  # of the libraries, which here run in the process of the tests
]

SMALL: dict[str, Any] = {
    "profile": "qwen2.5-coder-0.5b",
    "formats": {"completion": 1, "infill": 0, "repository-infill": 0},
    "threads": 1,
    "max_length": 128,
    "samples_per_step": 4,
    "max_steps": 6,
    "max_validation_files": 2,
    "learning_rate": 1e-3,
    "eval_every": 2,
    "lora": {"rank": 8, "alpha": 16, "dropout": 0.1, "dtype": "float32"},
}

MakeJob = Callable[..., TrainJob]


class Stop:
    """A request to stop that comes when the test wants it."""

    def __init__(self, when: Callable[[], bool] = lambda: False) -> None:
        self.when = when

    def __bool__(self) -> bool:
        return self.when()

    def postponed(self) -> Any:
        return nullcontext()


@pytest.fixture(scope="session")
def tiny_base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_qwen(tmp_path_factory.mktemp("bases") / "qwen")


@pytest.fixture
def make_job(tmp_path: Path, tiny_base: Path) -> MakeJob:
    def make(name: str = "work", files: int = 30, **changes: Any) -> TrainJob:
        write_files(tmp_path / name, list(islice(code_files("rich"), files)), validation=2)
        values = SMALL | {"base": str(tiny_base)} | changes
        return train_job(TrainerSettings.model_validate(values), tmp_path / name, tmp_path)

    return make


def train_here(job: TrainJob, stop: Stop | None = None) -> tuple[Trained, list[str], dict[int, float]]:
    """The result, why the run began again, and the loss of each step."""
    reasons: list[str] = []
    losses: dict[int, float] = {}
    request: Any = Stop() if stop is None else stop

    def listen(report: Activity | Step) -> None:
        if isinstance(report, Step) and "loss" in report.figures:
            losses[report.done] = report.figures["loss"]

    while True:
        try:
            return train(job, listen, request), reasons, losses
        except BeginAgain as again:
            reasons.append(str(again))


def adapter(job: TrainJob) -> bytes:
    return (job.folder / ADAPTER / "adapter_model.safetensors").read_bytes()


@contextmanager
def counted(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[tuple[int, int]]]:
    """The step and the micro-batch size of each micro-batch that is really computed."""
    done: list[tuple[int, int]] = []
    original: Any = SFTTrainer.training_step

    def training_step(self: Any, *given: Any, **named: Any) -> Any:
        loss = original(self, *given, **named)
        done.append((self.state.global_step + 1, self.args.per_device_train_batch_size))
        return loss

    with monkeypatch.context() as patch:
        patch.setattr(SFTTrainer, "training_step", training_step)
        yield done


# --- little data, and the adapter's scale ---


@pytest.mark.parametrize("packing", [True, False])
def test_one_sample_to_learn_from_and_one_to_watch_are_enough(make_job: MakeJob, *, packing: bool) -> None:
    """axolotl#1638: too few rows to pack for an evaluation."""
    job = make_job(packing=packing, max_steps=None)
    write_files(job.folder, [code_file("def one():\n    return 1\n\n\nprint(one())\n") for _ in range(2)], validation=1)
    result, _, losses = train_here(job)
    assert (result.samples, result.validation_samples, result.steps) == (1, 1, 1)
    assert math.isfinite(losses[1])
    assert math.isfinite(result.validation_loss)


def test_the_adapter_s_scale_is_alpha_by_rank(make_job: MakeJob) -> None:
    """unsloth#577: scaled by the root of the rank (rsLoRA), a rank of 256 makes the loss jump at these rates."""
    job = make_job(max_steps=1, lora={"rank": 64, "alpha": 128})
    train_here(job)
    config = LoraConfig.from_pretrained(str(job.folder / ADAPTER))
    assert (config.r, config.lora_alpha, config.use_rslora) == (64, 128, False)
    model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(job.settings.base), job.folder / ADAPTER)
    scales = {module.scaling["default"] for module in model.modules() if isinstance(module, LoraLayer)}
    assert scales == {2.0}


# --- stopping ---


def test_a_stop_between_micro_batches_loses_none(make_job: MakeJob, monkeypatch: pytest.MonkeyPatch) -> None:
    alone = make_job("alone", packing=False)
    expected, _, _ = train_here(alone)
    job = make_job("stopped", packing=False)
    with counted(monkeypatch) as done:
        for stop_after in (1, 6, 7, 12):
            with pytest.raises(Stopped):
                train_here(job, Stop(lambda after=stop_after: len(done) >= after))  # type: ignore[misc]
            assert len(done) == stop_after
        result, _, _ = train_here(job)
        assert [step for step, _ in done] == [step for step in range(1, 7) for _ in range(4)]
    assert adapter(job) == adapter(alone)
    assert result.model_dump(exclude={"seconds"}) == expected.model_dump(exclude={"seconds"})


def test_an_evaluation_that_is_stopped_is_done_once_when_the_run_goes_on(
    make_job: MakeJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Early stopping counts it once, and ends the run without another step."""
    counts: list[tuple[int, int]] = []
    original: Any = EarlyStoppingCallback.on_evaluate

    def on_evaluate(self: Any, args: Any, state: Any, control: Any, **given: Any) -> None:
        given["metrics"]["eval_loss"] = 1.0 + state.global_step
        original(self, args, state, control, **given)
        counts.append((state.global_step, self.early_stopping_patience_counter))

    monkeypatch.setattr(EarlyStoppingCallback, "on_evaluate", on_evaluate)
    evaluated: list[int] = []
    predict: Any = SFTTrainer.prediction_step

    def prediction_step(self: Any, *given: Any, **named: Any) -> Any:
        evaluated.append(self.state.global_step)
        return predict(self, *given, **named)

    monkeypatch.setattr(SFTTrainer, "prediction_step", prediction_step)
    job = make_job("stopped", patience=1)
    with pytest.raises(Stopped):
        train_here(job, Stop(lambda: 4 in evaluated))
    assert counts == [(2, 0)]
    result, _, losses = train_here(job)
    assert counts == [(2, 0), (4, 1)]
    assert losses.keys() <= {4}
    assert (result.steps, result.stopped_early, result.validation_loss) == (4, True, 3.0)


def test_checkpoints_come_by_the_clock_too(make_job: MakeJob) -> None:
    """A process that is killed goes on from the last one, which here is before each micro-batch."""
    job = make_job(eval_every=100, max_steps=2, checkpoint_every=0.000001, packing=False)
    seen = []

    def look() -> bool:
        for manifest in (job.folder / CHECKPOINTS).glob("checkpoint-*/manifest.json"):
            saved = Manifest.model_validate_json(manifest.read_bytes())
            seen.append((saved.step, saved.rows))
        return False

    train_here(job, Stop(look))
    assert {(0, 0), (0, 1), (0, 2), (0, 3), (1, 0), (1, 1), (1, 2)} <= set(seen)


# --- numbers ---


@pytest.mark.parametrize("optimizer", ["adamw", "adamw_8bit"])
def test_a_bfloat16_adapter_stays_one_when_its_run_is_resumed(
    make_job: MakeJob, monkeypatch: pytest.MonkeyPatch, optimizer: str
) -> None:
    """peft#2421, llamafactory#6486: float32 after resuming, and out of memory."""
    lora = SMALL["lora"] | {"dtype": "bfloat16"}
    alone = make_job("alone", lora=lora, optimizer=optimizer, max_steps=4)
    train_here(alone)
    job = make_job("stopped", lora=lora, optimizer=optimizer, max_steps=4)
    with counted(monkeypatch) as done, pytest.raises(Stopped):
        train_here(job, Stop(lambda: len(done) >= 3))
    train_here(job)
    assert {one.dtype for one in load_file(job.folder / ADAPTER / "adapter_model.safetensors").values()} == {
        torch.bfloat16
    }
    assert adapter(job) == adapter(alone)


def test_a_parameter_of_another_type_is_named(make_job: MakeJob, monkeypatch: pytest.MonkeyPatch) -> None:
    """llamafactory#6486"""
    monkeypatch.setattr(AdapterDtype, "apply", lambda *_: None)
    with pytest.raises(
        Unusable, match=r"layers\.0\.\S*lora_A\S* is trained in torch.bfloat16 instead of torch.float32"
    ):
        train_here(make_job())


def broken_files(broken: int) -> list[Any]:
    """Python files, of which the last ones hold a letter whose embedding is no number."""
    files = list(islice(code_files("rich"), 30 - broken))
    bad = [
        code_file(f"value = {number}\nname = 'ÿ'\n" * 9, path=f"bad/{number}.py", repository="local/bad")
        for number in range(broken)
    ]
    return [*files, *bad]


@pytest.fixture
def broken_base(tmp_path: Path) -> Path:
    [token] = byte_tokenizer()("\xff", add_special_tokens=False)["input_ids"][-1:]
    return make_tiny_qwen(tmp_path / "broken", broken_token=token)


def test_a_step_whose_loss_is_no_number_is_left_out(make_job: MakeJob, broken_base: Path) -> None:
    """llamafactory#7263, #8088, #7388: loss 0 and gradients that are no number on Qwen2.5."""
    job = make_job(base=str(broken_base), max_steps=7)
    write_files(job.folder, broken_files(1), validation=2)
    result, [reason], losses = train_here(job)
    assert "loss is nan at step" in reason
    assert "bad/0.py of local/bad" in reason
    [step] = result.skipped_steps
    assert losses.keys() >= set(range(1, result.steps + 1)) - {step}
    values = load_file(job.folder / ADAPTER / "adapter_model.safetensors").values()
    assert all(torch.isfinite(one).all() for one in values)


def test_the_second_step_that_leads_astray_ends_the_run(make_job: MakeJob, broken_base: Path) -> None:
    """llamafactory#7388"""
    job = make_job(base=str(broken_base), max_steps=7)
    write_files(job.folder, broken_files(20), validation=2)
    with pytest.raises(Unusable) as caught:
        train_here(job)
    assert "is nan at step" in str(caught.value)
    assert "bad/" in str(caught.value)
    assert "it did before, at step" in str(caught.value)


def test_a_spike_is_seen_before_the_optimiser_takes_it(make_job: MakeJob, monkeypatch: pytest.MonkeyPatch) -> None:
    original: Any = SFTTrainer.compute_loss

    def compute_loss(self: Any, *given: Any, **named: Any) -> Any:
        loss = original(self, *given, **named)
        return loss * 1000 if self.model.training and self.state.global_step == 11 else loss

    job = make_job(max_steps=14, samples_per_step=1, packing=False, eval_every=100)
    calm = make_job("calm", max_steps=14, samples_per_step=1, packing=False, eval_every=100, spike_factor=0)
    monkeypatch.setattr(SFTTrainer, "compute_loss", compute_loss)
    result, [reason], losses = train_here(job)
    assert reason.startswith("loss is ")
    assert "times its median, at step 12: training went astray; in it were " in reason
    assert result.skipped_steps == (12,)
    assert losses.keys() - {12} == set(range(1, 15)) - {12}
    assert max(losses.values()) < 10
    result, reasons, losses = train_here(calm)
    assert (result.skipped_steps, reasons) == ((), [])
    assert losses[12] > 1000


# --- memory ---


def test_out_of_memory_halves_the_micro_batch_at_equal_rows_a_step(
    make_job: MakeJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    lora = SMALL["lora"] | {"dropout": 0}
    values: dict[str, Any] = {"lora": lora, "packing": False, "optimizer": "adamw", "micro_batch": 4}
    roomy, tight = make_job("roomy", **values), make_job("tight", **values)
    expected, _, expected_losses = train_here(roomy)
    original = ResumableTrainer._seed

    def seed(self: Any, rows: int) -> None:
        if self.state.global_step == 3 and self.args.per_device_train_batch_size > 2:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        original(self, rows)

    monkeypatch.setattr(ResumableTrainer, "_seed", seed)
    with counted(monkeypatch) as done:
        result, [reason], losses = train_here(tight)
    assert "CUDA out of memory. Tried to allocate 2.00 GiB; going on with half the micro-batch" in reason
    assert done == [(step, 4) for step in (1, 2, 3)] + [(step, 2) for step in (3, 3, 4, 4, 5, 5, 6, 6)]
    assert result.rows_per_step == expected.rows_per_step == 4
    assert losses == pytest.approx(expected_losses, rel=1e-3)
    assert result.validation_loss == pytest.approx(expected.validation_loss, rel=1e-3)


@pytest.mark.parametrize("error", [MemoryError("none"), RuntimeError("DefaultCPUAllocator: can't allocate memory")])
def test_out_of_memory_in_an_evaluation_too_but_once(
    make_job: MakeJob, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    """axolotl#1813, transformers#8476, trl#893: evaluation needs more memory than training."""
    sizes: set[int] = set()

    def prediction_step(_: Any, __: Any, inputs: Any, *___: Any, **____: Any) -> Any:
        sizes.add(len(inputs["input_ids"]))
        raise error

    monkeypatch.setattr(SFTTrainer, "prediction_step", prediction_step)
    job = make_job(micro_batch=4, packing=False)
    with pytest.raises(Unusable, match="memory ran out for the second time: set `micro_batch` to 1"):
        train_here(job)
    assert sizes == {1}
    assert read_setbacks(job.folder).out_of_memory


@pytest.mark.anyio
async def test_the_kernel_s_killer_halves_the_micro_batch(make_job: MakeJob, monkeypatch: pytest.MonkeyPatch) -> None:
    job, kills, whats = make_job(micro_batch=4, max_steps=2, packing=False), [0], []
    monkeypatch.setattr(process, "_killed_for_memory", lambda: kills[0])

    def kill_once(report: Activity | Step) -> None:
        if isinstance(report, Activity):
            whats.append(report.what)
        elif kills[0] == 0:
            kills[0] += 1
            [child] = children_of(job)
            os.kill(child, signal.SIGKILL)

    result = await run_child(job, kill_once)
    assert isinstance(result, Trained)
    assert "the system was out of memory; going on with half the micro-batch" in whats
    assert read_setbacks(job.folder).out_of_memory


@pytest.mark.anyio
async def test_the_kernel_s_killer_comes_twice(make_job: MakeJob, monkeypatch: pytest.MonkeyPatch) -> None:
    job, kills = make_job(), [0]
    monkeypatch.setattr(process, "_killed_for_memory", lambda: kills[0])

    def kill(_: Activity | Step) -> None:
        for child in children_of(job):
            kills[0] += 1
            os.kill(child, signal.SIGKILL)

    with pytest.raises(CannotSucceed, match="the system ran out of memory and killed the child process: set `micro_"):
        await run_child(job, kill)


# --- through the child process ---


@pytest.mark.anyio
async def test_a_stop_that_meets_an_evaluation_is_no_kill(make_job: MakeJob) -> None:
    """A hundred times as much is evaluated as is trained in a step."""
    job = make_job(files=600, max_validation_files=500, max_steps=2, eval_every=1, stop_timeout=20)
    write_files(job.folder, list(islice(code_files("pip"), 300)), validation=280)
    steps = 0

    def count(report: Activity | Step) -> None:
        nonlocal steps
        steps += isinstance(report, Step)

    async with anyio.create_task_group() as group:
        group.start_soon(run_child, job, count)
        while not list((job.folder / CHECKPOINTS).glob("checkpoint-1")):
            await anyio.sleep(0.05)
        group.cancel_scope.cancel()
    assert steps == 1
    assert "Stopped" not in (job.folder / "train.log").read_text()
    result = await run_child(job, count)
    assert isinstance(result, Trained)
    assert (result.steps, steps) == (2, 4)


@pytest.mark.anyio
async def test_a_full_disk_is_told_although_its_log_has_no_room(make_job: MakeJob, tmp_path: Path) -> None:
    """It showed as "ended with code 1"."""
    folder = tmp_path / "small"
    folder.mkdir()
    mounted = await anyio.run_process(["mount", "-t", "tmpfs", "-o", "size=2m", "none", str(folder)], check=False)
    if mounted.returncode != 0:
        pytest.skip("this user cannot mount a small file system")
    try:
        job = make_job("small", files=12)
        fill = folder / "other"

        def fill_up(report: Activity | Step) -> None:
            if isinstance(report, Activity) and not fill.exists():
                with fill.open("wb", buffering=0) as file:
                    try:
                        while True:
                            file.write(bytes(4096))
                    except OSError:
                        pass

        with pytest.raises(ChildFailed) as caught:
            await run_child(job, fill_up)
        assert f"the disk is full: {job.folder / CHECKPOINTS} needs " in str(caught.value)
        assert " bytes for checkpoints, and 0 are free" in str(caught.value)
        with pytest.raises(ChildFailed, match=r"cannot write to \S*small, which has 0 bytes free: .*No space left"):
            await run_child(job, lambda _: None)
    finally:
        await anyio.run_process(["umount", str(folder)])
