"""The time of a training, from the arithmetic that its shape asks for, and the disk that it needs."""

from __future__ import annotations

import math
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

from codelupe_trainer.plan.memory import TrainingShape, optimizer_states
from codelupe_trainer.plan.model_shape import ModelShape

TOKENS_PER_FILE = 838
"""Mean of a file of 50 to 8,000 characters in chat form: measured with Qwen's tokenizer on 722 real Python files."""
ASSUMED_UTILISATION = 0.35
"""Share of a card's peak that a training reaches, recomputation counted as work. An assumption: not measured here."""

_GGUF_Q8_0 = 34 / 32
"""Bytes a weight: 32 of one byte share a scale of two."""


@dataclass(frozen=True)
class Card:
    """A card that is sold."""

    memory: int
    """GiB."""
    tflops: float
    """At its peak, in bfloat16 with float32 sums."""


@dataclass(frozen=True)
class Work:
    """What a batch asks for."""

    files: int
    """Those that are trained on."""
    tokens: int
    """Over all epochs, without padding."""
    steps: int
    flops: float

    def hours(self, card: Card, cards: int = 1) -> float:
        """On so many of this card, evaluations, loading and what they say to each other not counted."""
        return self.flops / (cards * card.tflops * 1e12 * ASSUMED_UTILISATION) / 3600


@dataclass(frozen=True)
class Disk:
    """Bytes by what is stored."""

    base: int
    """The weights as they are downloaded, in 16 bits."""
    adapter: int
    checkpoints: int
    """Two, each an adapter with its optimiser's states."""
    merged: int
    """Exported with the adapter in it, in 16 bits."""
    gguf: int
    """Exported in 8 bits (Q8_0)."""

    @property
    def training(self) -> int:
        """What a run needs, exports not counted."""
        return self.base + self.adapter + self.checkpoints


@cache
def known_cards() -> Mapping[str, Card]:
    """By their names."""
    entries = tomllib.loads((files(__package__) / "cards.toml").read_text(encoding="utf-8"))
    return {name: Card(**entry) for name, entry in entries.items()}


def work_of(
    model: ModelShape, shape: TrainingShape, files: int, samples_per_step: int, epochs: int, max_steps: int | None
) -> Work:
    """What training on so many files asks for, a sample each, at most :data:`TOKENS_PER_FILE` tokens or a row long."""
    if max_steps is not None:
        files = min(files, max_steps * samples_per_step)
    tokens = files * epochs * min(TOKENS_PER_FILE, shape.row_tokens)
    steps = math.ceil(files / samples_per_step) * epochs
    return Work(files=files, tokens=tokens, steps=steps, flops=tokens * flops_per_token(model, shape))


def flops_per_token(model: ModelShape, shape: TrainingShape) -> float:
    """Two operations for each time that a weight is used.

    The backward pass uses a frozen weight once, for its input's gradient, and a trained one twice. Checkpointing runs
    the layers' forward pass again, and TRL's fused head always does so. Attention takes four operations for each
    feature and token that is looked at, and twice as many backward: the whole row under sdpa, whose mask spares no
    work, and half a file under varlen.
    """
    forward = 2 if shape.checkpointing else 1
    looked_at = shape.row_tokens if shape.attention == "sdpa" else min(TOKENS_PER_FILE, shape.row_tokens) / 2
    linear = 2 * model.linear_parameters * (forward + 1)
    adapter = 2 * model.adapter_parameters(shape.rank) * (forward + 2)
    head = 2 * model.embedding_parameters * 3
    attention = 4 * model.layers * model.query_width * looked_at * (forward + 2)
    return float(linear + adapter + head + attention)


def disk_of(model: ModelShape, shape: TrainingShape) -> Disk:
    """What base, adapter, checkpoints and exports take."""
    adapter = model.adapter_parameters(shape.rank) * (4 if shape.adapter_dtype == "float32" else 2)
    return Disk(
        base=2 * model.parameters,
        adapter=adapter,
        checkpoints=2 * (adapter + optimizer_states(model, shape)),
        merged=2 * model.parameters,
        gguf=math.ceil(model.parameters * _GGUF_Q8_0),
    )
