from __future__ import annotations

from pathlib import Path

import pytest

from codelupe_trainer.jobs import JOB, REPORT, Failed, Measured, Step, Trained, TrainJob
from codelupe_trainer.process import _LOG_TAIL, _ending, _environment, _tail
from codelupe_trainer.settings import TrainerSettings
from tests.training import BASE, TOTALS


def job(**settings: object) -> TrainJob:
    return TrainJob(
        settings=TrainerSettings.model_validate(settings),
        folder=Path("work"),
        bases=Path("bases"),
        draw="1/42",
        formats="",
    )


def test_the_child_gets_no_secret_and_no_tie_to_systemd(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (
        "CODELUPE_DATABASE_URL",
        "NOTIFY_SOCKET",
        "WATCHDOG_USEC",
        "LISTEN_FDS",
        "CREDENTIALS_DIRECTORY",
        "RANK",
    ):
        monkeypatch.setenv(name, "x")
    monkeypatch.setenv("HF_HOME", "/models")
    environment = _environment(job())
    assert "x" not in environment.values()
    assert environment["HF_HOME"] == "/models"


def test_threads_and_devices_are_chosen_unless_the_user_did(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert _environment(job(threads=3))["OMP_NUM_THREADS"] == "3"
    assert "OMP_NUM_THREADS" not in _environment(job())
    assert _environment(job())["CUDA_VISIBLE_DEVICES"] == "0"
    assert _environment(job(processes=3))["CUDA_VISIBLE_DEVICES"] == "0,1,2"
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2")
    assert _environment(job())["CUDA_VISIBLE_DEVICES"] == "2"


@pytest.mark.parametrize(
    ("returncode", "words"),
    [
        (-9, "was ended by SIGKILL; the system may have run out of memory"),
        (-11, "was ended by SIGSEGV"),
        (3, "ended with code 3 and without a result"),
        (0, "ended with code 0 and without a result"),
    ],
)
def test_an_ending_without_a_result_is_put_in_words(returncode: int, words: str) -> None:
    assert _ending(returncode) == f"the child process {words}"


def test_the_end_of_a_log_is_quoted_whatever_its_bytes(tmp_path: Path) -> None:
    log = tmp_path / "train.log"
    log.write_bytes(b"x" * 5000 + b"\xff the end\n")
    assert _tail(log).endswith("x\N{REPLACEMENT CHARACTER} the end")
    assert len(_tail(log)) <= _LOG_TAIL
    log.write_bytes(b"")
    assert _tail(log) == ""


def test_jobs_and_reports_survive_the_way() -> None:
    trained = Trained(
        base=BASE,
        totals=TOTALS,
        rows_per_step=4,
        steps=1,
        samples=2,
        validation_samples=3,
        unused=frozenset({"a"}),
        train_loss=2.0,
        validation_loss=1.5,
        stopped_early=False,
        seconds=3.0,
    )
    assert JOB.validate_json(job(max_steps=7).model_dump_json()) == job(max_steps=7)
    for report in (Step(done=1, total=2, figures={"loss": 1.0}), trained, Measured(), Failed(error="\n\N{SNOWMAN}")):
        line = report.model_dump_json()
        assert "\n" not in line
        assert REPORT.validate_json(line) == report
