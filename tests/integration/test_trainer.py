"""Training, stopping, resuming and comparing with the real small model; batches and events on a real Postgres."""

from __future__ import annotations

import hashlib
import json
import math
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from importlib.util import find_spec
from itertools import islice
from pathlib import Path
from typing import Any

import anyio
import pytest
import xxhash

import codelupe_trainer
from codelupe import Database, RetryLater, write_file
from codelupe.work.dead_letters import Selection, retry_dead_letters
from codelupe_events import (
    BatchReady,
    Event,
    ModelPromoted,
    ModelRejected,
    TaskDeadLettered,
    TrainingCompleted,
    TrainingFailed,
    TrainingStarted,
)
from codelupe_trainer.exports import read_files
from codelupe_trainer.gate.measurements import Key, Measurement, measurement_path, read_measurements
from codelupe_trainer.jobs import (
    ADAPTER,
    FILES,
    Activity,
    AnyJob,
    Measured,
    MeasureJob,
    OnReport,
    Step,
    Trained,
    TrainJob,
)
from codelupe_trainer.process import LOG_FILE, CannotSucceed, ChildFailed, NotInstalled, run_child
from codelupe_trainer.samples.files import CodeFile
from codelupe_trainer.settings import TrainerSettings
from tests.conftest import RunUntilIdle
from tests.training import own_evaluators, own_formats

pytestmark = [pytest.mark.anyio, pytest.mark.slow, pytest.mark.timeout(600), pytest.mark.xdist_group("trainer")]

SMALL: dict[str, Any] = {
    "profile": "smollm2-135m-cpu",
    "max_length": 128,
    "samples_per_step": 1,
    "max_steps": 6,
    "learning_rate": 1e-3,
    "eval_every": 2,
    "max_validation_files": 2,
    "threads": 1,  # tests run beside each other
    "lora": {"rank": 4, "alpha": 8, "dropout": 0.1},
    "gate": {"min_groups": 1, "min_windows": 1, "max_files": 6, "generations": 2, "generated_tokens": 8},
}


def settings(**changes: Any) -> TrainerSettings:
    return TrainerSettings.model_validate(SMALL | changes)


def code_files(package: str) -> Iterator[CodeFile]:
    """Real Python files of a package that is installed beside CodeLupe."""
    spec = find_spec(package)
    assert spec is not None
    assert spec.submodule_search_locations is not None
    root = Path(spec.submodule_search_locations[0])
    for path in sorted(root.rglob("*.py")):
        content = path.read_text(encoding="utf-8")
        if 200 <= len(content) <= 8000:
            yield CodeFile(
                repository_id=f"local:{package}",
                repository=f"local/{package}",
                commit=hashlib.sha1(package.encode()).hexdigest(),
                licence="MIT",
                path=str(path.relative_to(root)),
                language="Python",
                content_hash=xxhash.xxh3_128_hexdigest(content.encode()),
                split="train",
                content=content,
            )


def write_files(folder: Path, files: Sequence[CodeFile], validation: int = 0) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    split = [
        file.model_copy(update={"split": "validation" if index < validation else "train"})
        for index, file in enumerate(files)
    ]
    (folder / FILES).write_text("".join(f"{file.model_dump_json()}\n" for file in split), encoding="utf-8")


def train_job(settings: TrainerSettings, folder: Path, bases: Path) -> TrainJob:
    return TrainJob(settings=settings, folder=folder, bases=bases, draw="1/42", formats=own_formats())


MakeJob = Callable[..., TrainJob]


@pytest.fixture
def make_job(tmp_path: Path, base_models: Path) -> MakeJob:
    def make(name: str = "work", **changes: Any) -> TrainJob:
        folder = tmp_path / name
        write_files(folder, list(islice(code_files("rich"), 16)), validation=2)
        return train_job(settings(**changes), folder, base_models)

    return make


class Recorder:
    """Keeps what a child reports."""

    def __init__(self) -> None:
        self.steps: list[Step] = []

    def __call__(self, report: Activity | Step) -> None:
        if isinstance(report, Step):
            self.steps.append(report)

    @property
    def done(self) -> list[int]:
        return sorted({step.done for step in self.steps})


def losses(recorder: Recorder) -> dict[int, float]:
    return {step.done: step.figures["loss"] for step in recorder.steps if "loss" in step.figures}


# --- the child ---


@pytest.fixture(scope="module")
async def trained(base_models: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[TrainJob, Trained, Recorder]:
    """An undisturbed run."""
    folder = tmp_path_factory.mktemp("undisturbed")
    write_files(folder, list(islice(code_files("rich"), 16)), validation=2)
    job, recorder = train_job(settings(), folder, base_models), Recorder()
    result = await run_child(job, recorder)
    assert isinstance(result, Trained)
    return job, result, recorder


async def test_training_leaves_the_best_adapter(trained: tuple[TrainJob, Trained, Recorder]) -> None:
    """transformers#36201: the best checkpoint is not found."""
    job, result, recorder = trained
    assert recorder.done == [1, 2, 3, 4, 5, 6]
    assert (result.steps, result.samples, result.validation_samples) == (6, 6, 2)
    assert len(result.unused) == 16 - 6 - 2
    evaluated = {step.done: step.figures.get("eval_loss", 0.0) for step in recorder.steps if step.done in {2, 4, 6}}
    assert result.validation_loss == min(evaluated.values())
    best = job.folder / "checkpoints" / f"checkpoint-{min(evaluated, key=evaluated.__getitem__)}"
    weights = "adapter_model.safetensors"
    assert (job.folder / ADAPTER / weights).read_bytes() == (best / weights).read_bytes()
    assert result.train_loss == pytest.approx(sum(losses(recorder).values()) / 6)
    assert 0.5 < result.train_loss < 5
    for name in ("adapter_model.safetensors", "adapter_config.json", "tokenizer.json", "chat_template.jinja"):
        assert (job.folder / ADAPTER / name).stat().st_size > 100


async def test_a_stopped_training_goes_on_from_its_step_and_ends_the_same(
    trained: tuple[TrainJob, Trained, Recorder], make_job: MakeJob
) -> None:
    _, undisturbed, undisturbed_recorder = trained
    job, first, second = make_job(), Recorder(), Recorder()
    async with anyio.create_task_group() as group:

        def stop_after_three(report: Activity | Step) -> None:
            first(report)
            if isinstance(report, Step) and report.done == 3:
                group.cancel_scope.cancel()

        group.start_soon(run_child, job, stop_after_three)
    checkpoints = {path.name for path in (job.folder / "checkpoints").glob("checkpoint-*")}
    assert checkpoints & {"checkpoint-3", "checkpoint-4"}
    result = await run_child(job, second)
    assert isinstance(result, Trained)
    assert second.done[0] > 3
    assert second.done[-1] == 6
    expected = losses(undisturbed_recorder)
    assert losses(second).items() <= expected.items()
    assert result.model_dump(exclude={"seconds"}) == undisturbed.model_dump(exclude={"seconds"})


async def test_a_child_that_takes_too_long_to_stop_is_killed(make_job: MakeJob) -> None:
    job = make_job(stop_timeout=0.01)
    async with anyio.create_task_group() as group:

        def stop(report: Activity | Step) -> None:
            if isinstance(report, Step):
                group.cancel_scope.cancel()

        group.start_soon(run_child, job, stop)
    assert children_of(job) == []
    assert not list((job.folder / "checkpoints").glob("checkpoint-*"))


async def test_a_finished_training_that_lost_its_result_is_not_repeated(
    trained: tuple[TrainJob, Trained, Recorder],
) -> None:
    """Only its last evaluation is, which came after its last checkpoint. A damaged one does not mislead it."""
    job, result, _ = trained
    run = job.folder / "checkpoints"
    whole = sorted(run.glob("checkpoint-*"))
    (run / "checkpoint-9").mkdir()
    (run / "checkpoint-9" / "trainer_state.json").write_text('{"best_metric": ')
    recorder = Recorder()
    again = await run_child(job, recorder)
    assert isinstance(again, Trained)
    assert losses(recorder) == {}
    assert again.skipped_checkpoints == (f"checkpoint-9: {run / 'checkpoint-9' / 'manifest.json'} is missing or cut",)
    changed = {"seconds", "skipped_checkpoints"}
    assert again.model_dump(exclude=changed) == result.model_dump(exclude=changed)
    assert sorted(run.glob("checkpoint-*")) == whole


async def test_the_child_of_a_killed_daemon_saves_its_work_and_goes_before_another_begins(make_job: MakeJob) -> None:
    job = make_job(max_steps=7, eval_every=100)
    script = (
        "import sys, anyio\n"
        "from codelupe_trainer.jobs import JOB\n"
        "from codelupe_trainer.process import run_child\n"
        "job = JOB.validate_json(sys.stdin.read())\n"
        "anyio.run(run_child, job, lambda report: print(report.model_dump_json(), flush=True))\n"
    )
    with subprocess.Popen([sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as daemon:
        assert daemon.stdin is not None
        assert daemon.stdout is not None
        daemon.stdin.write(job.model_dump_json().encode())
        daemon.stdin.close()
        for line in daemon.stdout:
            if json.loads(line).get("done") == 2:
                daemon.kill()
                break
    [orphan] = children_of(job)
    recorder = Recorder()
    result = await run_child(job, recorder)
    assert isinstance(result, Trained)
    assert not Path(f"/proc/{orphan}").exists()
    assert min(losses(recorder)) > 2
    assert recorder.done[-1] == 7


def children_of(job: AnyJob) -> list[int]:
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if str(job.folder / "job.json").encode() in (folder / "cmdline").read_bytes():
                found.append(int(folder.name))
    return found


async def test_checkpoints_of_other_settings_are_not_taken_up(
    trained: tuple[TrainJob, Trained, Recorder], tmp_path: Path
) -> None:
    job, _, _ = trained
    folder = tmp_path / "copy"
    shutil.copytree(job.folder, folder)
    other = job.model_copy(update={"folder": folder, "settings": settings(max_steps=1, learning_rate=1e-4)})
    recorder = Recorder()
    result = await run_child(other, recorder)
    assert isinstance(result, Trained)
    assert recorder.done == [1]
    assert [one.partition(": ")[2] for one in result.skipped_checkpoints] == ["it belongs to another run"] * 2


async def test_a_training_goes_on_from_its_parent(
    trained: tuple[TrainJob, Trained, Recorder], make_job: MakeJob
) -> None:
    parent, result, from_base = trained
    job = make_job(max_steps=2).model_copy(update={"parent": parent.folder / ADAPTER, "parent_base": result.base})
    recorder = Recorder()
    again = await run_child(job, recorder)
    assert isinstance(again, Trained)
    assert again.base == result.base
    assert again.validation_loss < min(step.figures.get("eval_loss", 9.0) for step in from_base.steps if step.done <= 2)
    assert again.validation_loss == pytest.approx(result.validation_loss, abs=0.1)


async def test_an_adapter_of_another_base_is_not_gone_on_from(
    trained: tuple[TrainJob, Trained, Recorder], make_job: MakeJob
) -> None:
    """Also where its matrices have the same shape."""
    parent, result, _ = trained
    other = result.base.model_copy(update={"fingerprint": "0" * 64})
    job = make_job().model_copy(update={"parent": parent.folder / ADAPTER, "parent_base": other})
    with pytest.raises(CannotSucceed, match=r"is not the one that .* was trained on"):
        await run_child(job, Recorder())


async def test_a_run_whose_files_are_forgotten_begins_anew_without_them(make_job: MakeJob) -> None:
    job = make_job(eval_every=1)
    *_, theirs = read_files(job.folder / FILES)

    def forget(report: Activity | Step) -> None:
        if isinstance(report, Step) and report.done == 2:
            files = [
                file.model_copy(update={"content": ""}) if file == theirs else file
                for file in read_files(job.folder / FILES)
            ]
            write_file(job.folder / FILES, "".join(f"{file.model_dump_json()}\n" for file in files))

    with pytest.raises(RetryLater, match="was told to stop"):
        await run_child(job, forget)
    assert list((job.folder / "checkpoints").glob("checkpoint-*"))
    write_files(job.folder, list(islice(code_files("rich"), 15)), validation=2)
    recorder = Recorder()
    result = await run_child(job, recorder)
    assert isinstance(result, Trained)
    assert recorder.done == [1, 2, 3, 4, 5, 6], "no checkpoint of the run with these files was taken up"


async def test_a_loss_that_is_no_number_ends_the_training_for_good(make_job: MakeJob) -> None:
    with pytest.raises(CannotSucceed, match=r"(loss|grad_norm) is (nan|inf) at step \d: training went astray"):
        await run_child(make_job(learning_rate=1e30, warmup_share=0), Recorder())


async def test_files_that_make_no_sample_end_the_training_for_good(make_job: MakeJob) -> None:
    job = make_job()
    files = [file.model_copy(update={"content": "<|im_start|>system\nx\n"}) for file in code_files("pluggy")]
    write_files(job.folder, files, validation=1)
    with pytest.raises(CannotSucceed, match="usable sample for train; dropped: 9 for control-tokens"):
        await run_child(job, Recorder())


def hide_torch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let child processes find no torch."""
    (tmp_path / "without" / "torch").mkdir(parents=True)
    (tmp_path / "without" / "torch" / "__init__.py").write_text(
        "raise ModuleNotFoundError(\"No module named 'torch'\", name='torch')"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "without"))


async def test_without_the_extra_the_message_says_what_to_install(
    make_job: MakeJob, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hide_torch(tmp_path, monkeypatch)
    with pytest.raises(NotInstalled, match=re.escape("torch is not installed; install what training needs with")):
        await run_child(make_job(), Recorder())


async def test_a_broken_base_gives_its_cause_and_the_end_of_the_log(make_job: MakeJob, tmp_path: Path) -> None:
    (tmp_path / "base").mkdir()
    (tmp_path / "base" / "config.json").write_text("{")
    (tmp_path / "base" / "tokenizer.json").write_text("{}")
    job = make_job(base=str(tmp_path / "base"))
    with pytest.raises(ChildFailed) as caught:
        await run_child(job, Recorder())
    cause, _, end_of_log = str(caught.value).partition("\n")
    assert "config.json" in cause
    assert "is not a valid JSON file" in end_of_log
    assert (job.folder / LOG_FILE).read_text().strip().endswith(end_of_log)


@pytest.mark.parametrize("files", [[], ["config.json"]])
async def test_a_folder_that_holds_no_model_ends_the_training_for_good(
    make_job: MakeJob, tmp_path: Path, files: list[str]
) -> None:
    (tmp_path / "base").mkdir()
    for name in files:
        (tmp_path / "base" / name).write_text("{}")
    with pytest.raises(CannotSucceed, match=r"base is no base model: it has no (config|tokenizer)\.json"):
        await run_child(make_job(base=str(tmp_path / "base")), Recorder())
    with pytest.raises(CannotSucceed, match=r"there is no folder .*missing, where the base model is to be"):
        await run_child(make_job(base=str(tmp_path / "missing")), Recorder())


async def test_a_child_that_is_killed_is_reported_as_such(make_job: MakeJob) -> None:
    job = make_job()

    def kill(_: Activity | Step) -> None:
        for child in children_of(job):
            os.kill(child, signal.SIGKILL)

    with pytest.raises(ChildFailed, match="ended by SIGKILL; the system may have run out of memory"):
        await run_child(job, kill)


def measure_job(folder: Path, bases: Path, models: dict[str, Path | None]) -> MeasureJob:
    return MeasureJob(settings=settings(), folder=folder, bases=bases, models=models, evaluators=own_evaluators())


async def measured(job: MeasureJob, on_report: OnReport = lambda _: None) -> dict[str, dict[Key, Measurement]]:
    assert await run_child(job, on_report) == Measured()
    return {name: read_measurements(measurement_path(job.folder, name)) for name in job.models}


def bits_per_byte(measurements: dict[Key, Measurement], measure: str) -> float:
    values = [one.values for one in measurements.values() if one.by == measure]
    return sum(one["nats"] for one in values) / sum(one["bytes"] for one in values) / math.log(2)


async def test_the_trained_model_does_better_on_files_it_never_saw(
    trained: tuple[TrainJob, Trained, Recorder], base_models: Path, tmp_path: Path
) -> None:
    job, _, _ = trained
    held_out = [*islice(code_files("pluggy"), 3), *islice(code_files("packaging"), 3)]
    write_files(tmp_path, [file.model_copy(update={"content": file.content[:1500]}) for file in held_out])
    models = {"base": None, "candidate": job.folder / ADAPTER, "again": job.folder / ADAPTER}
    recorder = Recorder()
    found = await measured(measure_job(tmp_path, base_models, models), recorder)
    assert recorder.done[-1] == recorder.steps[-1].total == 3 * (6 + 6 + 2)
    assert found["again"] == found["candidate"]
    assert 0.3 < bits_per_byte(found["candidate"], "chat") < bits_per_byte(found["base"], "chat") < 3
    assert 0.3 < bits_per_byte(found["candidate"], "plain") < bits_per_byte(found["base"], "plain") < 3
    generations = [one.values for one in found["base"].values() if one.by == "generation"]
    assert len(generations) == 2
    assert all(one.keys() == {"next_line", "edit_similarity", "ends", "syntax_valid"} for one in generations)


async def test_a_measurement_that_was_stopped_goes_on_where_it_was(base_models: Path, tmp_path: Path) -> None:
    write_files(tmp_path, [file.model_copy(update={"content": file.content[:400]}) for file in code_files("pluggy")])
    job = measure_job(tmp_path, base_models, {"base": None})
    path = measurement_path(tmp_path, "base")

    def stop(report: Activity | Step) -> None:
        if isinstance(report, Step) and report.done == 3:
            [child] = children_of(job)
            os.kill(child, signal.SIGTERM)

    with pytest.raises(RetryLater):
        await run_child(job, stop)
    first = read_measurements(path)
    assert 3 <= len(first) < 20
    path.write_bytes(path.read_bytes().replace(b'"nats":', b'"nats":1', 1))
    changed = read_measurements(path)
    assert changed != first
    whole = (await measured(job))["base"]
    assert whole.items() > changed.items(), "what was measured is not measured again"


# --- on Postgres ---


async def store(database: Database, files: Sequence[CodeFile], score: float = 80) -> None:
    for repository in sorted({(file.repository_id, file.repository, file.commit) for file in files}):
        await database.execute(
            "insert into repositories (id, full_name, commit, source, url, revision, state)"
            " values ($1, $2, $3, 'local', 'file:///', '1', 'scored') on conflict do nothing",
            *repository,
        )
    for file in files:
        await database.execute(
            "insert into processed_files (repository_id, commit, file_path, language, licence, content, content_hash,"
            " size_bytes, characters, quality_score) values ($1, $2, $3, $4, $5, $6, decode($7, 'hex'), 1, $8, $9)",
            *(file.repository_id, file.commit, file.path, file.language, file.licence, file.content),
            *(file.content_hash, len(file.content), score),
        )


async def held_out_share(database: Database, held_out: str, trained_on: str) -> float:
    """A share at which one repository is held out and the other is not."""
    for share in range(1, 100):
        row = await database.fetchrow(
            "select is_held_out($1, $3) as wanted, is_held_out($2, $3) as other",
            f"local:{held_out}",
            f"local:{trained_on}",
            share / 100,
        )
        assert row is not None
        if row["wanted"] and not row["other"]:
            return share / 100
    pytest.fail("choose the packages the other way round")


def of_type(events: Sequence[Event], *types: type[Event]) -> list[Any]:
    return [event for event in events if isinstance(event, types)]


@pytest.fixture
async def models(base_models: Path, tmp_path: Path) -> Path:
    """The models' folder of the test's daemon, with the converted base."""
    folder = tmp_path / "state" / "models"
    folder.mkdir(parents=True)
    (folder / "base").symlink_to(base_models, target_is_directory=True)
    return folder


async def test_files_become_a_model_that_is_compared_and_recorded(
    run_until_idle: RunUntilIdle, database: Database, models: Path
) -> None:
    share = await held_out_share(database, "pluggy", "rich")
    held_out, others = list(code_files("pluggy")), list(islice(code_files("rich"), 20))
    await store(database, held_out + others)
    trainer = SMALL | {"min_files": 20, "held_out_share": share, "every": 1}
    events = await run_until_idle({"trainer": codelupe_trainer}, {"trainer": trainer})

    [batch] = of_type(events, BatchReady)
    assert (batch.files, batch.repositories) == (20, 1)
    [started], [completed] = of_type(events, TrainingStarted), of_type(events, TrainingCompleted)
    assert started.model_id == completed.model_id == completed.path == f"smollm2-135m-instruct-{batch.batch_id:04d}"
    [judged] = of_type(events, ModelPromoted, ModelRejected)
    assert judged.evaluation_set == 1
    assert set(judged.metrics) == {"current", "candidate"}
    assert judged.metrics["candidate"].keys() >= {"plain", "chat", "ends", "next_line", "edit_similarity"}
    rows = {(row.measure, row.over): row for row in judged.table}
    assert rows.keys() == {(measure, over) for measure in ("plain", "chat") for over in ("all", "Python")}
    assert rows["plain", "all"].candidate == pytest.approx(judged.metrics["candidate"]["plain"])

    row = await database.fetchrow("select * from models")
    assert row is not None
    assert row["state"] == ("promoted" if isinstance(judged, ModelPromoted) else "rejected")
    assert row["losses"] == {"train": completed.train_loss, "validation": completed.validation_loss}
    assert (row["metrics"], len(row["evaluation"])) == (judged.metrics, len(judged.table))
    folder = models / row["path"]
    provenance = [json.loads(line) for line in (folder / "provenance.jsonl").read_text().splitlines()]
    known = {(file.path, file.content_hash) for file in others}
    assert {(one["path"], one["content_hash"]) for one in provenance} <= known
    assert [one["split"] for one in provenance].count("train") == completed.samples == 6
    card = (folder / "README.md").read_text()
    assert "## Comparison\n\n" + ("Promoted" if row["state"] == "promoted" else "Rejected") in card
    assert (models / "current").exists() == (row["state"] == "promoted")
    evidence = [json.loads(line) for line in (folder / "evaluation.jsonl").read_text().splitlines()]
    assert {one["measure"] for one in evidence} == {"plain", "chat"}
    assert [path.name for path in (models.parent / "work").iterdir()] == ["gate-set-1"]

    assert await run_until_idle({"trainer": codelupe_trainer}, {"trainer": trainer}) == events


async def test_a_missing_package_leaves_a_dead_letter_that_a_retry_takes_up(
    run_until_idle: RunUntilIdle,
    database: Database,
    models: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    await store(database, list(islice(code_files("rich"), 20)))
    trainer = SMALL | {"min_files": 20, "max_steps": 1, "held_out_share": 0, "every": 1}
    hide_torch(tmp_path, monkeypatch)
    events = await run_until_idle({"trainer": codelupe_trainer}, {"trainer": trainer})
    [dead_letter] = of_type(events, TaskDeadLettered)
    assert "pip install 'codelupe[train]'" in dead_letter.error
    assert not of_type(events, TrainingFailed)
    monkeypatch.delenv("PYTHONPATH")
    assert len(await retry_dead_letters(database, Selection())) == 1
    events = await run_until_idle({"trainer": codelupe_trainer}, {"trainer": trainer})
    assert of_type(events, TrainingCompleted)


async def test_a_model_of_a_lost_database_is_not_taken_for_this_one(
    run_until_idle: RunUntilIdle, database: Database, models: Path
) -> None:
    """Batch numbers begin again in a new database; the folder of an earlier batch 1 must not pass for its model."""
    await store(database, list(islice(code_files("rich"), 20)))
    folder = models / "smollm2-135m-instruct-0001"
    folder.mkdir()
    record = {
        "model_id": folder.name,
        "key": "of another training",
        "batch_id": 1,
        "settings": json.loads(settings().model_dump_json()),
        "steps": 1,
        "samples": 1,
        "validation_samples": 1,
        "unused_files": 0,
        "train_loss": 1.0,
        "validation_loss": 1.0,
        "stopped_early": False,
        "seconds": 1.0,
    }
    (folder / "training.json").write_text(json.dumps(record))
    events = await run_until_idle({"trainer": codelupe_trainer}, {"trainer": SMALL | {"min_files": 20, "every": 1}})
    [dead_letter] = of_type(events, TaskDeadLettered)
    assert str(folder) in dead_letter.error
    assert not of_type(events, TrainingCompleted)


async def test_a_batch_takes_the_best_files_once_and_leaves_held_out_ones(
    run_until_idle: RunUntilIdle, database: Database, models: Path
) -> None:
    """No package holds this base, so that training fails at once, for good."""
    share = await held_out_share(database, "pluggy", "rich")
    rich = list(islice(code_files("rich"), 30))
    await store(database, rich[:10], score=90)
    await store(database, [*rich[10:25], *code_files("pluggy")], score=75)
    await store(database, rich[25:], score=69)
    trainer = SMALL | {"base": "package:no_such_model", "min_files": 8, "max_files": 12, "held_out_share": share}
    events = await run_until_idle({"trainer": codelupe_trainer}, {"trainer": trainer})

    assert [event.files for event in of_type(events, BatchReady)] == [12, 12]
    rows = await database.fetch(
        "select batch_id, split, repository_id, quality_score from batch_files join processed_files on id = file_id"
    )
    assert {row["repository_id"] for row in rows} == {"local:rich"}
    first, second = sorted({row["batch_id"] for row in rows})
    assert sorted(row["quality_score"] for row in rows if row["batch_id"] == first) == [75] * 2 + [90] * 10
    for batch in (first, second):
        assert [row["split"] for row in rows if row["batch_id"] == batch].count("validation") == 1

    failed = of_type(events, TrainingFailed)
    assert [event.model_id for event in failed] == [f"no-such-model-{batch:04d}" for batch in (first, second)]
    assert "pip install --no-deps no-such-model" in failed[0].error
    states = await database.fetch("select state, reasons from models")
    assert [row["state"] for row in states] == ["failed", "failed"]
    assert "no-such-model" in states[0]["reasons"][0]["detail"]


async def test_too_few_files_make_no_batch(run_until_idle: RunUntilIdle, database: Database, models: Path) -> None:
    await store(database, list(islice(code_files("rich"), 9)))
    trainer = SMALL | {"min_files": 10, "held_out_share": 0}
    assert await run_until_idle({"trainer": codelupe_trainer}, {"trainer": trainer}) == []


async def test_a_model_that_cannot_be_compared_waits(
    run_until_idle: RunUntilIdle, database: Database, models: Path
) -> None:
    await store(database, list(islice(code_files("rich"), 20)))
    trainer = SMALL | {"min_files": 20, "max_steps": 1, "held_out_share": 0}
    events = await run_until_idle({"trainer": codelupe_trainer}, {"trainer": trainer})
    assert len(of_type(events, TrainingCompleted)) == 1
    assert not of_type(events, ModelPromoted, ModelRejected)
    row = await database.fetchrow("select state, reasons from models")
    assert row is not None
    assert row["state"] == "trained"
    assert [reason["rule"] for reason in row["reasons"]] == ["held-out"]
    assert not (models / "current").exists()
