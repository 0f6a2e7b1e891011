"""``make bench-plan``: the memory of trainings by the plan's formulas, beside a trace of their true shape."""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from datetime import timedelta
from pathlib import Path

from benchmarks.machine import describe_machine, describe_packages
from codelupe_trainer.plan.bases import known_models
from codelupe_trainer.plan.memory import GIB, TrainingShape, memory_of
from codelupe_trainer.plan.tracing import run_traces

_PACKAGES = ("torch", "transformers", "peft", "trl", "bitsandbytes")
_CPU = TrainingShape(
    rank=16,
    row_tokens=512,
    compute_dtype="float32",
    adapter_dtype="float32",
    quantised=False,
    checkpointing=False,
    optimizer="adamw",
    head="torch",
)


@dataclass(frozen=True)
class Row:
    """One shape, by both ways, in bytes."""

    model: str
    what: str
    shape: TrainingShape
    formula: int
    traced: int
    at: str
    """The moment of the peak, by the formula."""

    @property
    def difference(self) -> float:
        return self.formula / self.traced - 1


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.plan", description="Compare plans with traces.")
    parser.add_argument("--json", type=Path, help="write the figures there")
    parser.add_argument("--markdown", type=Path, help="write the table there")
    arguments = parser.parse_args()
    began = time.monotonic()
    rows = compare(list(shapes()))
    lines = report(rows, time.monotonic() - began)
    print("\n".join(lines))
    if arguments.markdown:
        arguments.markdown.write_text("\n".join(lines) + "\n", encoding="utf-8")
    if arguments.json:
        data = [asdict(row) | {"difference": row.difference} for row in rows]
        arguments.json.write_text(json.dumps(data, indent=2) + "\n", encoding="utf-8")


def shapes() -> Iterator[tuple[str, str, TrainingShape]]:
    """The 14B shape by rank and micro-batch, what changes its memory, and other models."""
    large = "qwen2.5-coder-14b"
    for rank in (256, 64):
        for micro_batch in (1, 2, 4):
            yield large, f"r={rank}, micro-batch {micro_batch}", TrainingShape(rank=rank, micro_batch=micro_batch)
    yield large, "float32 adapter", TrainingShape(adapter_dtype="float32")
    yield large, "float32 adapter, autocast's cache on", TrainingShape(adapter_dtype="float32", cast_cache=True)
    yield large, "dropout", TrainingShape(dropout=True)
    yield large, "float32 adapter, dropout", TrainingShape(adapter_dtype="float32", dropout=True)
    yield large, "no mask, keys and values not repeated", TrainingShape(attention="varlen")
    yield large, "head without Triton", TrainingShape(head="torch")
    yield "qwen2.5-coder-7b", "rows of 8,192", TrainingShape(row_tokens=8192)
    yield "qwen2.5-coder-0.5b", "r=64, micro-batch 4", TrainingShape(rank=64, micro_batch=4, adapter_dtype="float32")
    yield "smollm2-135m", "on a CPU, r=16, rows of 512", _CPU


def compare(asked: Sequence[tuple[str, str, TrainingShape]]) -> list[Row]:
    """Both ways for each shape."""
    models = [known_models()[model].shape for model, _, _ in asked]
    traces = run_traces(
        [(model, shape) for model, (_, _, shape) in zip(models, asked, strict=True)], timedelta(hours=1)
    )
    plans = [memory_of(model, shape) for model, (_, _, shape) in zip(models, asked, strict=True)]
    return [
        Row(name, what, shape, plan.tensors, traced.peak, plan.peak_at)
        for (name, what, shape), plan, traced in zip(asked, plans, traces, strict=True)
    ]


def report(rows: Sequence[Row], seconds: float) -> list[str]:
    """Lines of Markdown; both figures are of tensors, without what the framework takes."""
    return [
        describe_machine(),
        describe_packages(*_PACKAGES),
        f"- {len(rows)} traces in {seconds:.0f} s",
        "",
        "| model | shape | trace, GiB | formula, GiB | difference | peak at the |",
        "| --- | --- | --- | --- | --- | --- |",
        *(
            f"| {row.model} | {row.what} | {row.traced / GIB:.2f} | {row.formula / GIB:.2f} | {row.difference:+.1%} | "
            f"{row.at} |"
            for row in rows
        ),
    ]


if __name__ == "__main__":
    main()
