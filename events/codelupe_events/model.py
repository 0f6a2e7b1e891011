"""Models: trained on a batch, then promoted or rejected by the gate."""

from __future__ import annotations

from codelupe_events.batch import BatchEvent
from codelupe_events.registry import event, unchanged
from codelupe_events.repo import Reason


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
    """Metrics by name for ``current`` (the model in use before) and ``candidate``."""
    evaluation_set: int | None = None
    """The version of the set that both were measured on; None if there was none, as before sets were frozen."""


@event(version=2, upcasters={1: unchanged})
class ModelRejected(ModelEvent, frozen=True, kw_only=True):
    """Not better than the model in use; it stays on disk, unused."""

    metrics: dict[str, dict[str, float]]
    reasons: tuple[Reason, ...]
    evaluation_set: int | None = None
    """The version of the set that both were measured on; None if there was none, as before sets were frozen."""
