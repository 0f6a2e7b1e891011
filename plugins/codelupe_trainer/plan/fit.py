"""Makes a training fit the memory that is free, or says what to change."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Literal

from codelupe import CodelupeError
from codelupe_trainer.plan.bases import known_models
from codelupe_trainer.plan.memory import GIB, FloatType, Memory, TrainingShape, memory_of
from codelupe_trainer.plan.model_shape import ModelShape

AdapterType = Literal["auto", "float32", "bfloat16"]

_LEAST_RANK = 8
_LEAST_ROW = 256
_WIDTH = 32


@dataclass(frozen=True)
class Fit:
    """A shape that fits."""

    shape: TrainingShape
    memory: Memory
    times_accumulation: int
    """How many times more passes a step needs than was asked for, to have as many tokens."""


@dataclass(frozen=True)
class Proposal:
    """One change by which a training would fit."""

    change: str
    peak: int
    """Bytes that it would take."""

    def __str__(self) -> str:
        return f"{self.change}: {self.peak / GIB:.1f} GiB"


class DoesNotFit(CodelupeError):
    """No micro-batch is small enough. The message has the memory by part, the hint what would fit."""

    code = "does-not-fit"

    def __init__(self, shape: TrainingShape, memory: Memory, free: int, proposals: list[Proposal]) -> None:
        table = "\n".join(f"  {name:<{_WIDTH}}{size / GIB:8.2f} GiB" for name, size in memory.at_peak.items())
        super().__init__(
            f"the training takes {memory.peak / GIB:.2f} GiB even with a micro-batch of {shape.micro_batch}, and "
            f"{free / GIB:.2f} GiB are free:\n{table}",
            hint=f"What would fit: {'; '.join(map(str, proposals)) or 'no single change; free the card'}.",
        )
        self.shape = shape
        self.memory = memory
        self.free = free
        self.proposals = proposals


def fit(model: ModelShape, shape: TrainingShape, free: int, adapter_dtype: AdapterType = "auto") -> Fit:
    """Choose the adapter's type, and lower the micro-batch at equal tokens a step, until the training fits.

    ``auto`` is float32 where that fits at some micro-batch, else bfloat16, which loses most small updates. ``free`` are
    the bytes that the card has to give before this process has touched it. Afterwards its context is among what is
    taken: add :data:`~codelupe_trainer.plan.memory.CONTEXT` to what the card calls free.

    Raises:
        DoesNotFit: not even one row at a time.
    """
    for dtype in _types(shape, adapter_dtype):
        for micro_batch in _micro_batches(shape.micro_batch):
            least = replace(shape, adapter_dtype=dtype, micro_batch=micro_batch)
            memory = memory_of(model, least)
            if memory.peak <= free:
                return Fit(least, memory, shape.micro_batch // micro_batch)
    raise DoesNotFit(least, memory, free, list(_proposals(model, least, free)))


def _types(shape: TrainingShape, wanted: AdapterType) -> tuple[FloatType, ...]:
    if wanted != "auto":
        return (wanted,)
    return ("float32",) if shape.compute_dtype == "float32" else ("float32", "bfloat16")


def _micro_batches(most: int) -> Iterator[int]:
    """The divisors, the largest first: with another one a step would have other tokens."""
    return (size for size in range(most, 0, -1) if most % size == 0)


def _proposals(model: ModelShape, shape: TrainingShape, free: int) -> Iterator[Proposal]:
    """One change each, as small as will do, for a shape that is as small as its settings let it be."""
    changes = {
        "lora.dtype": [("bfloat16", model, replace(shape, adapter_dtype="bfloat16"))]
        if shape.adapter_dtype != shape.compute_dtype
        else [],
        "gradient_checkpointing": [("true", model, replace(shape, checkpointing=True))],
        "quantisation": [("nf4", model, replace(shape, quantised=True))],
        "lora.rank": [(str(rank), model, replace(shape, rank=rank)) for rank in _halves(shape.rank, _LEAST_RANK)],
        "max_length": [
            (str(row), model, replace(shape, row_tokens=row)) for row in _halves(shape.row_tokens, _LEAST_ROW)
        ],
        "base": [(name, other, shape) for name, other in _smaller_models(model)],
    }
    for setting, variants in changes.items():
        for value, other, changed in variants:
            peak = memory_of(other, changed).peak
            if peak <= free:
                yield Proposal(f"{setting} = {value}", peak)
                break


def _halves(size: int, least: int) -> Iterator[int]:
    while (size := size // 2) >= least:
        yield size


def _smaller_models(model: ModelShape) -> list[tuple[str, ModelShape]]:
    known = [(known.bases[0], known.shape) for known in known_models().values()]
    smaller = [(name, shape) for name, shape in known if shape.parameters < model.parameters]
    return sorted(smaller, key=lambda one: one[1].parameters, reverse=True)
