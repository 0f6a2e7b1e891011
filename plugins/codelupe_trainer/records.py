"""What is kept in a model's folder about how it was made and judged."""

from __future__ import annotations

from dataclasses import dataclass

from pydantic import BaseModel, ConfigDict

from codelupe_events import Reason
from codelupe_trainer.jobs import BaseIdentity, Compared, SampleTotals
from codelupe_trainer.settings import TrainerSettings


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True)


class RepositoryShare(_Record):
    """How many of the files came from one commit of one repository."""

    id: str
    name: str
    commit: str
    files: int


class ModelRecord(_Record):
    """How a model was trained, and on what. Losses are means per completion token, in nats."""

    model_id: str
    key: str
    """The idempotency key of the training: batches of a lost database may have had the same numbers."""
    batch_id: int
    parent: str | None = None
    """The model that it went on from."""
    batches: list[int] = []
    """The batches that it and all before it were trained on."""
    settings: TrainerSettings
    base: BaseIdentity
    steps: int
    samples: int
    """Files that were trained on."""
    validation_samples: int
    """Files that it was watched on."""
    totals: SampleTotals
    rows_per_step: int
    unused_files: int
    train_loss: float
    validation_loss: float
    stopped_early: bool
    skipped_steps: tuple[int, ...] = ()
    """Steps whose rows were left out, since the loss or the gradients went astray over them."""
    skipped_checkpoints: tuple[str, ...] = ()
    """Checkpoints that could not be gone on from, and why."""
    seconds: float
    splits: dict[str, int] = {}
    """Files for training, for validation, and those of earlier batches that were learned from again (replay)."""
    licences: dict[str, int] = {}
    languages: dict[str, int] = {}
    repositories: list[RepositoryShare] = []


@dataclass(frozen=True, kw_only=True)
class EvaluationSet:
    """A frozen set, and how much of it decided."""

    version: int
    hash: str
    groups: int
    windows: int


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """What the gate measured and decided; ``current`` is the name of the model in use, or ``base``."""

    current: str
    measured: Compared
    reasons: tuple[Reason, ...]
    """Why the model was rejected; none if it was promoted."""
    evaluation_set: EvaluationSet | None = None

    @property
    def promoted(self) -> bool:
        return not self.reasons
