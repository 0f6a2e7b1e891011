"""What is kept in a model's folder about how it was made and judged."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass

from pydantic import BaseModel, ConfigDict

from codelupe_events import MeasuredGain, SolvedProblems
from codelupe_trainer.gate.rule import Decision
from codelupe_trainer.jobs import BaseIdentity, SampleTotals
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
    """What the gate measured and decided."""

    current: str
    """The model in use, or ``base``."""
    decision: Decision
    metrics: dict[str, dict[str, float]]
    """Metrics by name for ``current``, ``candidate`` and, if it is another, ``base``."""
    evaluation_set: EvaluationSet

    @property
    def promoted(self) -> bool:
        return self.decision.outcome == "promoted"

    @property
    def table(self) -> tuple[MeasuredGain, ...]:
        """The decision's, as events tell it."""
        return tuple(
            MeasuredGain(
                measure=row.measure,
                over=row.over,
                current=_number(row.gain.current),
                candidate=_number(row.gain.candidate),
                low=row.gain.low,
                high=row.gain.high,
                groups=row.gain.groups,
                windows=row.gain.windows,
            )
            for row in self.decision.table
        )

    @property
    def problems(self) -> tuple[SolvedProblems, ...]:
        """The problems that the models solve, as events tell it."""
        return tuple(SolvedProblems(evaluator=name, **asdict(passes)) for name, passes in self.decision.anchors.items())


def _number(value: float) -> float | None:
    return value if math.isfinite(value) else None
