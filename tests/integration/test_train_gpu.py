"""The benchmark of a card, as far as it runs without one."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from benchmarks.train_gpu.__main__ import Result, main  # noqa: E402 - after the extra was found
from benchmarks.train_gpu.lengths import recorded_lengths  # noqa: E402
from benchmarks.train_gpu.random_base import random_base  # noqa: E402
from benchmarks.train_gpu.runs import Measured  # noqa: E402
from codelupe_trainer.child.models import load_model  # noqa: E402
from codelupe_trainer.plan.bases import known_models  # noqa: E402
from codelupe_trainer.plan.memory import GIB, TrainingShape, memory_of  # noqa: E402
from codelupe_trainer.plan.model_shape import ModelShape  # noqa: E402
from codelupe_trainer.plan.time import flops_per_token  # noqa: E402
from codelupe_trainer.settings import TrainerSettings  # noqa: E402
from tests.tiny_qwen import make_tiny_qwen  # noqa: E402

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300), pytest.mark.xdist_group("trainer")]

LARGE = known_models()["qwen2.5-coder-14b"].shape
SHAPE = TrainingShape(adapter_dtype="float32")
RUN = Measured(
    micro_batch=1,
    adapter_dtype="float32",
    steps=10,
    tokens=4000,
    seconds=1,
    allocated=memory_of(LARGE, SHAPE).tensors,
    reserved=24 * GIB,
)
MET = Result(
    model=LARGE,
    shape=SHAPE,
    product=RUN,
    plain=replace(RUN, tokens=2500),
    peak_flops=4000 * flops_per_token(LARGE, SHAPE) / 0.35,
    beside_tensors=GIB // 2,
)


def test_a_dry_run_goes_through_every_line(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "benchmarks.train_gpu", "--dry-run", "--json", str(tmp_path / "figures.json")]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    assert result.stdout.count("| dry |") == 4
    assert "no figure means anything" in result.stdout
    figures = json.loads((tmp_path / "figures.json").read_text())
    product, plain = figures["product"], figures["plain"]
    assert (product["adapter_dtype"], plain["adapter_dtype"]) == ("float32", "bfloat16")
    assert (product["micro_batch"], plain["micro_batch"]) == (1, 4)
    assert min(product["steps"], plain["steps"]) >= 2
    assert 0 < product["tokens"] < sum(tokens // 32 for tokens, _ in recorded_lengths()[::5])


def test_without_a_card_it_says_what_to_do(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(sys, "argv", ["train_gpu"])
    with pytest.raises(SystemExit, match="2"):
        main()
    assert "there is no card; --dry-run does without one" in capsys.readouterr().err


def test_the_recorded_lengths_are_those_of_200_samples() -> None:
    lengths = recorded_lengths()
    assert len(lengths) == 200
    assert all(0 < learned < tokens <= 4096 for tokens, learned in lengths)


def kinds(model: Any) -> Iterator[tuple[object, ...]]:
    for name, parameter in model.named_parameters():
        state = getattr(parameter, "quant_state", None)
        quantised = state and (state.quant_type, state.blocksize, state.nested, tuple(state.shape), state.dtype)
        yield name, type(parameter).__name__, tuple(parameter.shape), parameter.dtype, quantised


def test_the_random_base_is_made_of_what_the_product_loads(tmp_path: Path) -> None:
    folder = make_tiny_qwen(tmp_path / "qwen")
    shape = ModelShape.from_config(json.loads((folder / "config.json").read_text()))
    loaded: Any = load_model(str(folder), TrainerSettings())
    made: Any = random_base(shape, torch.device("cpu"), torch.float32)
    assert list(kinds(made)) == list(kinds(loaded))
    assert [type(module) for module in made.modules()] == [type(module) for module in loaded.modules()]
    assert made.model.rotary_emb.inv_freq.tolist() == loaded.model.rotary_emb.inv_freq.tolist()


@pytest.mark.parametrize(
    ("changes", "missed"),
    [
        ({}, None),
        ({"beside_tensors": 9 * GIB}, "rank 256 in less than 32 GiB"),
        ({"plain": RUN}, "1.6 times as fast as plain TRL"),
        ({"peak_flops": 2 * MET.peak_flops}, "35% of the measured bfloat16 peak"),
        ({"product": replace(RUN, allocated=2 * RUN.allocated)}, "the plan within 10% of the peak"),
    ],
)
def test_a_bar_is_met_or_missed(changes: dict[str, Any], missed: str | None) -> None:
    bars = list(replace(MET, **changes).bars())
    assert [bar.what for bar in bars if not bar.met] == ([missed] if missed else [])
