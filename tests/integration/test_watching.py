"""A training that is watched: by the status and Prometheus, TensorBoard and W&B, on a tiny model.

W&B runs offline: there is no server of theirs here. TensorBoard's files are read by its own reader. W&B's reader is
inside its program for uploads, so its files are read here: records of its own protocol in LevelDB's framing.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import struct
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import anyio
import pytest

import codelupe_trainer
from codelupe import Database, EventLog, RetryLater
from codelupe_dataset.forgetting import forget
from codelupe_events import TrainingCompleted
from codelupe_trainer.jobs import ADAPTER, Activity, Step, Trained, TrainJob
from codelupe_trainer.process import NotInstalled, run_child
from codelupe_trainer.progress_views import progress_metrics
from codelupe_trainer.settings import TrainerSettings
from codelupe_trainer.views import read_training
from tests.conftest import RunUntilIdle
from tests.integration.stored_files import add_batch, add_file, add_repository
from tests.integration.test_trainer import children_of, code_files, of_type, store, train_job, write_files
from tests.integration.test_training_survives import QWEN
from tests.nvml import H200, Nvml
from tests.processes import HANGS
from tests.tiny_qwen import make_tiny_qwen

pytestmark = [pytest.mark.anyio, pytest.mark.slow, pytest.mark.timeout(600), pytest.mark.xdist_group("trainer")]

WATCHED = QWEN | {"epochs": 1, "max_steps": 6, "max_validation_files": 12, "max_length": 256}
FOLLOWED = {"tensorboard": True, "wandb": "offline", "wandb_project": "tests"}
KEY = "5ec12e7" * 6


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_qwen(tmp_path_factory.mktemp("base"))


def watched_job(base: Path, folder: Path, **changes: Any) -> TrainJob:
    write_files(folder / "work", list(islice(code_files("rich"), 60)), validation=12)
    settings = TrainerSettings.model_validate(WATCHED | {"base": str(base)} | changes)
    return train_job(settings, folder / "work", folder).model_copy(update={"tracked": folder / "runs" / "m-1"})


@dataclass
class Reports:
    """What a child tells, and its figures by step."""

    warnings: list[str] = field(default_factory=list)
    steps: dict[int, dict[str, float]] = field(default_factory=dict)
    listen: Callable[[int], None] = lambda _: None

    def __call__(self, report: Activity | Step) -> None:
        if isinstance(report, Step):
            self.steps[report.done] = report.figures
            self.listen(report.done)
        elif report.is_warning:
            self.warnings.append(report.what)

    def of(self, name: str) -> dict[int, float]:
        return {step: figures[name] for step, figures in self.steps.items()}


def adapter(job: TrainJob) -> bytes:
    return (job.folder / ADAPTER / "adapter_model.safetensors").read_bytes()


@pytest.fixture(scope="module")
async def alone(base: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[bytes, dict[int, float]]:
    """The adapter and the losses of a training that nothing follows."""
    job, reports = watched_job(base, tmp_path_factory.mktemp("alone")), Reports()
    await run_child(job, reports)
    return adapter(job), reports.of("loss")


@pytest.fixture
def silent_server(monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    """Where W&B is to be, with a key for it; it answers nothing. Accepting fails unless somebody has called."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.setblocking(False)
        monkeypatch.setenv("WANDB_BASE_URL", f"http://127.0.0.1:{server.getsockname()[1]}")
        monkeypatch.setenv("WANDB_API_KEY", KEY)
        yield server


def scalars(folder: Path) -> dict[str, dict[int, float]]:
    """What TensorBoard would show, by name and step."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder), size_guidance={"scalars": 0})
    events.Reload()
    found = {name: events.Scalars(name) for name in events.Tags()["scalars"]}
    for name in ("train/loss", "eval/loss"):
        assert len({one.step for one in found[name]}) == len(found[name]), f"{name} shows a step twice"
    return {name: {one.step: one.value for one in series} for name, series in found.items()}


_BLOCK = 32_768


def wandb_records(path: Path) -> Iterator[Any]:
    import wandb.proto.wandb_internal_pb2

    protocol: Any = wandb.proto.wandb_internal_pb2
    data, at, record = path.read_bytes(), 7, b""
    while at + 7 <= len(data):
        if (left := _BLOCK - at % _BLOCK) < 7:
            at += left
            continue
        _, size, kind = struct.unpack("<IHB", data[at : at + 7])
        record += data[at + 7 : at + 7 + size]
        at += 7 + size
        if kind in {1, 4}:  # whole, or the last part
            yield protocol.Record.FromString(record)
            record = b""


@dataclass
class WandbRun:
    """What is in the files of one attempt."""

    id: str
    config: dict[str, Any]
    history: dict[int, dict[str, Any]]


def read_wandb(folder: Path) -> WandbRun:
    [path] = folder.glob("*.wandb")
    records = list(wandb_records(path))
    run = next(record.run for record in records if record.WhichOneof("record_type") == "run")
    rows = [
        {(item.key or item.nested_key[0]): json.loads(item.value_json) for item in record.history.item}
        for record in records
        if record.WhichOneof("record_type") == "history"
    ]
    assert any(record.WhichOneof("record_type") == "stats" for record in records), "it measures the machine itself"
    return WandbRun(
        id=run.run_id,
        config={item.key: json.loads(item.value_json) for item in run.config.update},
        history={row["_step"]: row for row in rows},
    )


def predictions(folder: Path) -> list[list[list[str]]]:
    """The rows of each table, in the order of steps."""
    paths = folder.glob("offline-run-*/files/media/table/*.json")
    in_order = sorted(paths, key=lambda path: int(path.name.split("_")[1]))
    return [json.loads(path.read_text())["data"] for path in in_order]


async def stop_after(step: int, job: TrainJob, reports: Reports) -> None:
    def listen(done: int) -> None:
        if done == step:
            for child in children_of(job):
                os.kill(child, signal.SIGTERM)

    reports.listen = listen
    with pytest.raises(RetryLater):
        await run_child(job, reports)
    reports.listen = lambda _: None


async def test_a_followed_training_ends_with_the_bytes_of_one_that_is_not_though_it_was_stopped(
    alone: tuple[bytes, dict[int, float]], base: Path, silent_server: socket.socket, tmp_path: Path
) -> None:
    """wandb/wandb#4217, #2701: an offline run waits for the network."""
    job, reports = watched_job(base, tmp_path, **FOLLOWED), Reports()
    await stop_after(3, job, reports)
    result = await run_child(job, reports)
    assert isinstance(result, Trained)
    assert (adapter(job), reports.of("loss")) == alone
    assert reports.warnings == []
    assert job.tracked is not None

    shown = scalars(job.tracked / "tensorboard")
    steps, evaluated = [*range(1, result.steps + 1)], [2, 4, result.steps]
    assert shown["train/loss"] == pytest.approx(reports.of("loss"))
    for name in ("learning_rate", "grad_norm", "tokens_per_second", "learned_tokens_per_second", "padding", "memory"):
        assert [*shown[f"train/{name}"]] == steps
    assert [*shown["eval/loss"]] == evaluated

    first, second = (read_wandb(folder) for folder in sorted((job.tracked / "wandb").glob("offline-run-*")))
    assert first.id == second.id
    assert (first.config["learning_rate"], first.config["lora"]["rank"]) == (1e-3, 16)
    history = first.history | second.history
    assert {step: row["train/loss"] for step, row in history.items()} == reports.of("loss")
    assert [step for step, row in history.items() if "eval/loss" in row] == evaluated

    tables = predictions(job.tracked / "wandb")
    assert len(tables) == 3
    assert {tuple((prompt, author) for prompt, author, _ in table) for table in tables} == {
        tuple((prompt, author) for prompt, author, _ in tables[0])
    }
    assert len(tables[0]) == 10
    assert all(text for table in tables for _, _, text in table)

    with pytest.raises(BlockingIOError):
        silent_server.accept()
    files = [path for path in tmp_path.rglob("*") if path.is_file() and not path.is_socket()]
    assert not [path for path in files if KEY.encode() in path.read_bytes()]


async def test_wandb_that_refuses_to_begin_leaves_the_training_as_it_is(
    alone: tuple[bytes, dict[int, float]], base: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """For want of a key."""
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    job, reports = watched_job(base, tmp_path, wandb="online"), Reports()
    await run_child(job, reports)
    [warning] = reports.warnings
    assert warning.startswith("going on without W&B: UsageError: No API key configured")
    assert (adapter(job), reports.of("loss")) == alone


@pytest.mark.parametrize(
    ("package", "asked"), [("wandb", {"wandb": "offline"}), ("tensorboard", {"tensorboard": True})]
)
async def test_without_its_extra_a_tracker_that_is_asked_for_ends_the_start(
    base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, package: str, asked: dict[str, Any]
) -> None:
    (tmp_path / "sitecustomize.py").write_text(f"import sys\nsys.modules[{package!r}] = None\n")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), *os.environ.get("PYTHONPATH", "").split(":")]))
    with pytest.raises(NotInstalled, match=rf"{package} is not installed; .*pip install 'codelupe\[{package}\]'"):
        await run_child(watched_job(base, tmp_path, **asked), Reports())


# --- on Postgres ---


@pytest.fixture
async def progress(database: Database) -> AsyncIterator[list[dict[str, Any]]]:
    """What the status tells of trainings under way, again and again."""
    told: list[dict[str, Any]] = []

    async def look() -> None:
        while True:
            training = await read_training(database)
            if training["progress"] is not None:
                told.append(training["progress"])
            await anyio.sleep(0.1)

    async with anyio.create_task_group() as group:
        group.start_soon(look)
        yield told
        group.cancel_scope.cancel()


async def test_status_and_prometheus_tell_of_a_training_while_it_goes_on(
    run_until_idle: RunUntilIdle,
    database: Database,
    base: Path,
    progress: list[dict[str, Any]],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    """With a stand-in for the library that reads cards: there is none here."""
    monkeypatch.setitem(sys.modules, "pynvml", Nvml())
    await store(database, list(islice(code_files("rich"), 30)))
    trainer = WATCHED | {"base": str(base), "min_files": 30, "held_out_share": 0, "tensorboard": True, "epochs": 2}
    events = await run_until_idle({"trainer": codelupe_trainer}, {"trainer": trainer})
    [completed] = of_type(events, TrainingCompleted)

    with_loss = [one for one in progress if "loss" in one["figures"]]
    assert with_loss
    told = with_loss[-1]
    assert told["model"] == completed.model_id
    assert 1 <= told["step"] <= told["steps"] == completed.steps
    assert told["figures"].keys() >= {"learning_rate", "grad_norm", "tokens_per_second", "padding", "memory_peak"}
    assert told["gpus"][0] == {
        "number": 0,
        "name": H200.name,
        "used": 0.75,
        "memory_used": H200.memory_used,
        "memory_total": H200.memory_total,
        "celsius": 55,
        "watts": 412.5,
    }
    gauges = {metric.name: metric.samples for metric in progress_metrics(told)}
    assert gauges["step_loss"][0] == ({"of": "train"}, told["figures"]["loss"])
    assert any(one["activity"] == "loading the base model" for one in progress)

    after = await read_training(database)
    assert after["progress"] is None
    assert (after["config"]["base"], after["config"]["learning_rate"]) == (str(base), 1e-3)
    assert scalars(tmp_path / "state" / "runs" / completed.model_id / "tensorboard")["train/loss"]


async def test_a_process_that_is_gone_tells_nothing(database: Database) -> None:
    file = await add_file(database, await add_repository(database, "a/one"), "one.py")
    await add_batch(database, [file], "m-1", "training")
    told: dict[str, Any] = {"activity": None, "step": 3, "steps": 9, "figures": {"loss": 1.0}, "gpus": []}
    for age, expected in (("0 seconds", "m-1"), ("16 seconds", None)):
        await database.execute(
            "update models set progress = $1::jsonb || jsonb_build_object('at', now() - $2::text::interval)", told, age
        )
        progress = (await read_training(database))["progress"]
        assert (progress and progress["model"]) == expected


async def test_predictions_of_a_forgotten_repository_go(
    run_until_idle: RunUntilIdle, database: Database, tmp_path: Path
) -> None:
    """They show beginnings of its files."""
    tables = {}
    for model, repository in (("m-1", "a/theirs"), ("m-2", "a/other")):
        await add_batch(database, [await add_file(database, await add_repository(database, repository), "x.py")], model)
        folder = tmp_path / "state" / "runs" / model / "wandb" / "offline-run-1-x" / "files" / "media" / "table"
        folder.mkdir(parents=True)
        tables[model] = folder / "predictions_2_0.table.json"
        tables[model].write_text("{}")
    await forget(EventLog(database), "a/theirs", by="me", reason="asked")
    await run_until_idle({"trainer": codelupe_trainer})
    assert [model for model, table in tables.items() if table.exists()] == ["m-2"]


async def test_a_training_goes_on_while_nothing_can_be_recorded(
    run_until_idle: RunUntilIdle, database: Database, base: Path
) -> None:
    await database.execute("alter table models add constraint none check (progress is null)")
    await store(database, list(islice(code_files("rich"), 12)))
    trainer = WATCHED | {"base": str(base), "min_files": 12, "held_out_share": 0, "max_steps": 1}
    with anyio.fail_after(2 * HANGS):
        events = await run_until_idle({"trainer": codelupe_trainer}, {"trainer": trainer})
    assert of_type(events, TrainingCompleted)
