"""``python -m benchmarks.train_gpu``: what a training of the 14B shape takes on a card, beside TRL's defaults.

The base has the true shape and random weights in NF4, and the card, whatever it is, plays one of 32 GB. The product's
own rows and trainer and plain TRL learn the same 200 samples, as long as real ones are. Ends with 1 if a bar is missed.
``--dry-run`` runs it all on a CPU, tiny: that shows that it runs, and nothing else.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch

from benchmarks.machine import describe_machine, describe_packages
from benchmarks.train_gpu.lengths import recorded_lengths
from benchmarks.train_gpu.memory import in_gib, play_card, taken_beside_tensors
from benchmarks.train_gpu.runs import Measured, Scene, run_plain, run_product
from codelupe_trainer.plan.bases import known_models
from codelupe_trainer.plan.memory import GIB, TrainingShape, memory_of
from codelupe_trainer.plan.model_shape import ModelShape
from codelupe_trainer.plan.time import flops_per_token
from codelupe_trainer.settings import TrainerSettings

_PACKAGES = ("torch", "transformers", "peft", "trl", "bitsandbytes")
_CARD = 32 * GIB
_SECONDS = 150
"""For each run: with bases made twice and kernels compiled, all is done in eight minutes."""
_MATRIX = 8192
_TINY = 32
"""By how much a dry run's samples and rows are shorter."""
_FEW = 5
"""Of so many samples it takes one."""


@dataclass(frozen=True)
class Bar:
    """What is to be reached."""

    what: str
    figure: str
    met: bool


@dataclass(frozen=True, kw_only=True)
class Result:
    """All that was measured."""

    model: ModelShape
    shape: TrainingShape
    product: Measured
    plain: Measured
    peak_flops: float
    """Of a product of two large bfloat16 matrices, a second."""
    beside_tensors: int

    @property
    def utilisation(self) -> float:
        """The share of that peak which the product reached; what is computed twice counts twice."""
        return self.product.speed * flops_per_token(self.model, self.shape) / self.peak_flops

    @property
    def planned(self) -> int:
        """Bytes of tensors."""
        return memory_of(self.model, self.shape).tensors

    def bars(self) -> Iterator[Bar]:
        taken = self.product.reserved + self.beside_tensors
        yield Bar("rank 256 in less than 32 GiB", f"{in_gib(taken)} GiB", taken < _CARD)
        ratio = self.product.speed / self.plain.speed
        yield Bar("1.6 times as fast as plain TRL", f"{ratio:.2f} times", ratio >= 1.6)
        yield Bar("35% of the measured bfloat16 peak", f"{self.utilisation:.1%}", self.utilisation >= 0.35)
        error = self.planned / self.product.allocated - 1
        yield Bar("the plan within 10% of the peak", f"{error:+.1%}", abs(error) <= 0.1)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.train_gpu", description=__doc__)
    parser.add_argument("--dry-run", action="store_true", help="run every line on a CPU, tiny")
    parser.add_argument("--json", type=Path, help="write the figures there")
    arguments = parser.parse_args()
    if not arguments.dry_run and not torch.cuda.is_available():
        parser.error("there is no card; --dry-run does without one")
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="codelupe-train-gpu-") as folder:
        result = measure(_scene(Path(folder), dry=arguments.dry_run))
    bars = list(result.bars())
    print("\n".join(report(result, bars, time.monotonic() - began, dry=arguments.dry_run)))
    if arguments.json:
        data = asdict(result) | {"bars": [asdict(bar) for bar in bars], "dry_run": arguments.dry_run}
        arguments.json.write_text(json.dumps(data, indent=2) + "\n", encoding="utf-8")
    sys.exit(not arguments.dry_run and not all(bar.met for bar in bars))


def _scene(folder: Path, *, dry: bool) -> Scene:
    settings, model, lengths = TrainerSettings(), known_models()["qwen2.5-coder-14b"].shape, recorded_lengths()
    device, dtype = torch.device("cuda", 0), torch.bfloat16
    if dry:
        torch.set_num_threads(1)
        device, dtype = torch.device("cpu"), torch.float32
        model = replace(model, vocabulary=512, layers=2, hidden=64, intermediate=128, heads=4, kv_heads=2, head_dim=16)
        settings = TrainerSettings.model_validate(
            {"max_length": settings.max_length // _TINY, "lora": {"rank": 8, "alpha": 16}}
        )
        lengths = [(max(2, tokens // _TINY), max(1, learned // _TINY)) for tokens, learned in lengths[::_FEW]]
    return Scene(
        model=model,
        settings=settings,
        lengths=lengths,
        card=play_card(device, _CARD),
        device=device,
        dtype=dtype,
        seconds=_SECONDS,
        folder=folder,
    )


def measure(scene: Scene) -> Result:
    """The peak of the card, then the product, then plain TRL."""
    peak_flops = matrix_flops(scene.device, scene.dtype, 64 if scene.device.type == "cpu" else _MATRIX)
    product, shape = run_product(scene)
    beside_tensors = taken_beside_tensors(scene.device)
    return Result(
        model=scene.model,
        shape=replace(shape, micro_batch=product.micro_batch),
        product=product,
        plain=run_plain(scene),
        peak_flops=peak_flops,
        beside_tensors=beside_tensors,
    )


def matrix_flops(device: torch.device, dtype: torch.dtype, size: int, repeats: int = 20) -> float:
    """Operations a second of products of two random square matrices, after as many to warm up."""
    one, other = (torch.randn((size, size), dtype=dtype, device=device) for _ in range(2))
    for _ in range(2):
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        began = time.monotonic()
        for _ in range(repeats):
            one @ other
        if device.type == "cuda":
            torch.cuda.synchronize(device)
    return 2.0 * size**3 * repeats / (time.monotonic() - began)


def report(result: Result, bars: Sequence[Bar], seconds: float, *, dry: bool) -> list[str]:
    """Lines of Markdown."""
    card = "a dry run on a CPU: no figure means anything" if dry else torch.cuda.get_device_name(0)
    runs = {"product": result.product, "plain TRL": result.plain}
    return [
        describe_machine(),
        describe_packages(*_PACKAGES),
        f"- {card}, {result.peak_flops / 1e12:.0f} TFLOP/s in a bfloat16 matrix product; {seconds:.0f} s in all",
        f"- planned are {in_gib(result.planned)} GiB of tensors",
        "",
        "| | micro-batch | adapter | steps | tokens/s, no padding | tensors, GiB | allocator, GiB |",
        "| --- | --- | --- | --- | --- | --- | --- |",
        *(
            f"| {name} | {run.micro_batch} | {run.adapter_dtype} | {run.steps} | {run.speed:,.0f} | "
            f"{in_gib(run.allocated)} | {in_gib(run.reserved)} |"
            for name, run in runs.items()
        ),
        "",
        "| bar | measured | |",
        "| --- | --- | --- |",
        *(f"| {bar.what} | {bar.figure} | {'dry' if dry else 'met' if bar.met else 'missed'} |" for bar in bars),
    ]


if __name__ == "__main__":
    main()
