"""Models: trained on a batch, then promoted or rejected by the gate."""

from __future__ import annotations

import msgspec

from codelupe_events.batch import BatchEvent
from codelupe_events.registry import event, unchanged
from codelupe_events.repo import Reason


class MeasuredGain(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Two models in bits per byte by one measure, with a two-sided 95% interval of what the candidate saves."""

    measure: str
    over: str
    """``all`` windows that decide, those of a language, or others."""
    current: float | None
    candidate: float | None
    low: float | None
    high: float | None
    """None, as any figure that is no number or cannot be told."""
    groups: int
    windows: int


class SolvedProblems(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How many problems of an evaluator both models solve, only one of them, or neither."""

    evaluator: str
    both: int
    lost: int
    """Those that the model in use solves and the candidate does not."""
    gained: int
    neither: int


class ModelEvent(BatchEvent, frozen=True, kw_only=True):
    """A fact about one model; it belongs to the stream of the batch that it is trained on."""

    model_id: str


@event(version=2, upcasters={1: unchanged})
class TrainingStarted(ModelEvent, frozen=True, kw_only=True):
    """A run began, or went on from its checkpoint."""

    base: str
    parent: str | None = None
    """The model that it goes on from; None for the base alone."""


@event(version=2, upcasters={1: unchanged})
class TrainingCompleted(ModelEvent, frozen=True, kw_only=True):
    """The adapter lies under ``path`` (relative to the models' folder); losses are means per token, in nats."""

    path: str
    steps: int
    samples: int
    train_loss: float
    validation_loss: float
    stopped_early: bool
    seconds: float
    parent: str | None = None
    """The model that it went on from; None for the base alone."""
    base: str | None = None
    base_revision: str | None = None
    """The commit on the hub; None for a base of another kind."""
    base_fingerprint: str | None = None
    """SHA-256 of the base's configuration and tokenizer."""


@event(version=1)
class TrainingFailed(ModelEvent, frozen=True, kw_only=True):
    """The run cannot succeed by being tried again; ``error`` says why."""

    error: str


@event(version=2, upcasters={1: unchanged})
class ModelPromoted(ModelEvent, frozen=True, kw_only=True):
    """Better than the model in use on repositories that neither was trained on."""

    metrics: dict[str, dict[str, float]]
    """Metrics by name for ``current`` (the model in use before), ``candidate`` and, if it is another, ``base``."""
    evaluation_set: int | None = None
    """The version of the set that they were measured on; None if there was none, as before sets were frozen."""
    table: tuple[MeasuredGain, ...] = ()
    problems: tuple[SolvedProblems, ...] = ()


@event(version=2, upcasters={1: unchanged})
class ModelRejected(ModelEvent, frozen=True, kw_only=True):
    """Not better than the model in use; it stays on disk, unused."""

    metrics: dict[str, dict[str, float]]
    reasons: tuple[Reason, ...]
    evaluation_set: int | None = None
    """The version of the set that they were measured on; None if there was none, as before sets were frozen."""
    table: tuple[MeasuredGain, ...] = ()
    problems: tuple[SolvedProblems, ...] = ()
