"""What the daemon and its child process say to each other: one job in, reports line by line, one result out."""

from __future__ import annotations

import pickle
from base64 import b64decode, b64encode
from collections.abc import Callable, Iterable
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from codelupe_trainer.settings import TrainerSettings

FILES = "files.jsonl"
"""The job's files, one :class:`codelupe_trainer.samples.files.CodeFile` a line, in its folder."""
ADAPTER = "adapter"
"""Where, in its folder, a training leaves its result."""
CHECKPOINTS = "checkpoints"
"""Below it lie ``checkpoint-<steps>``."""


class Message(BaseModel):
    """Base of all messages."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class BaseIdentity(Message):
    """Which base model it is."""

    id: str
    """As in the setting ``base``."""
    revision: str | None
    """The commit on the hub; None for a folder or a package."""
    fingerprint: str
    """SHA-256 of its configuration and its tokenizer; of the whole file for a packaged one."""


# --- jobs ---


class _Job(Message):
    settings: TrainerSettings
    folder: Path
    """Where the job's files lie and where it may write; one child at a time works there."""
    bases: Path
    """Where converted base models are kept."""


class TrainJob(_Job):
    """Train an adapter on the files of a batch; it is left in the folder's ``adapter``."""

    kind: Literal["train"] = "train"
    draw: str
    """Decides what is drawn for a sample, together with its file."""
    formats: str
    """Those of all plugins, as :func:`pack` makes it."""
    parent: Path | None = None
    """The adapter that it goes on from; None to begin with the base."""
    parent_base: BaseIdentity | None = None
    """What the parent was trained on."""
    micro_batch: int | None = None
    """Rows at a time, if they are to be fewer than the settings say."""
    tracked: Path | None = None
    """Where TensorBoard's files and those of W&B are written; the job's folder if unset."""


class MeasureJob(_Job):
    """Measure models of one base on held-out files and on problems.

    What was measured of each is left in the folder: see :mod:`codelupe_trainer.gate.measurements`. What an earlier job
    has left there counts.
    """

    kind: Literal["measure"] = "measure"
    models: dict[str, Path | None]
    """The adapters by the models' names; None is the base alone."""
    trained_on: dict[str, BaseIdentity] = {}
    """The bases of the adapters, by their names."""
    evaluators: str
    """Those of all plugins, as :func:`pack` makes it."""


class GgufType(StrEnum):
    """How a GGUF file holds the weights: 16 bits each, or 8 bits and a scale for every 32."""

    f16 = "f16"
    bf16 = "bf16"
    q8_0 = "q8_0"


class ExportJob(_Job):
    """Merge an adapter into its base and write the model into a new folder, by transformers or as a GGUF file.

    The job's files, if there are any, are what the merged models are measured on.
    """

    kind: Literal["export"] = "export"
    adapter: Path
    to: Path
    form: Literal["merged", "gguf"]
    gguf_type: GgufType | None = None
    """None holds the weights in 16 bits, of the kind that the model has."""
    trained_on: BaseIdentity | None
    """The base beside which the adapter was trained; None if that is not known."""


class CompleteJob(_Job):
    """Let a model go on from the beginning of a file."""

    kind: Literal["complete"] = "complete"
    adapter: Path | None
    """None asks the base."""
    trained_on: BaseIdentity | None
    language: str | None
    context: str
    tokens: int


# --- on the way ---


class Activity(Message):
    """What goes on before there are steps to count."""

    kind: Literal["activity"] = "activity"
    what: str
    is_warning: bool = False
    """Whether an operator should know of it later, too."""


class Step(Message):
    """How far it is.

    ``figures`` of a training are the newest of ``loss`` and ``eval_loss`` (means per completion token, in nats),
    ``learning_rate``, ``grad_norm``, and those of :class:`codelupe_trainer.child.figures.StepFigures`.
    """

    kind: Literal["step"] = "step"
    done: int
    total: int
    figures: dict[str, float] = {}


# --- results ---


class SampleTotals(Message):
    """What became of the files that are trained on, and of their tokens."""

    formats: dict[str, int]
    """Samples of each format."""
    cut: int
    """Samples whose file has more than there was room for."""
    dropped: dict[str, int]
    """Files without a sample, by reason."""
    failed: dict[str, int]
    """Files at which a format failed, so that another one made the sample."""
    learned: int
    """Tokens that are learned."""
    masked: int
    """Tokens that are only read."""
    padding: int
    """Tokens that fill up rows of unequal samples, about: their order is drawn anew. None in packed rows."""
    rows: int


class Trained(Message):
    """An adapter was trained; ``unused`` names the files it did not see, by their hash."""

    kind: Literal["trained"] = "trained"
    base: BaseIdentity
    steps: int
    samples: int
    """Files that were trained on."""
    validation_samples: int
    """Files that it was watched on."""
    unused: frozenset[str]
    totals: SampleTotals
    rows_per_step: int
    train_loss: float
    validation_loss: float
    stopped_early: bool
    skipped_steps: tuple[int, ...] = ()
    """Steps, counted from 1, whose rows led training astray and were left out."""
    skipped_checkpoints: tuple[str, ...] = ()
    """Checkpoints that the run could not go on from, each with the reason."""
    seconds: float


class Measured(Message):
    """All models were measured."""

    kind: Literal["measured"] = "measured"


class Exported(Message):
    """A merged model was written. Losses are means per completion token, in nats."""

    kind: Literal["exported"] = "exported"
    merged_into: Literal["original", "dequantised"]
    """Which form of the base was kept: its own weights, or these after they were in NF4."""
    samples: int = 0
    losses: dict[str, float] = {}
    """By form of the base, and for the model as it was ``trained``; empty if there was no sample to measure on."""


class Completion(Message):
    """What a model wrote."""

    kind: Literal["completion"] = "completion"
    text: str
    prompt_tokens: int
    tokens: int
    ended: bool
    """Whether it came to an end by itself, and was not cut off."""
    seconds: float


class Paused(Message):
    """It is to be tried again, and nothing is wrong; what is done so far is kept."""

    kind: Literal["paused"] = "paused"
    why: str
    seconds: float = 5
    """After which it is tried again."""


class BegunAgain(Message):
    """It goes on in a new process, which knows from the job's folder what happened."""

    kind: Literal["begun-again"] = "begun-again"
    why: str


class Failed(Message):
    """It ended with an error; ``permanent`` if another try must end in the same way."""

    kind: Literal["failed"] = "failed"
    error: str
    permanent: bool = False
    is_installation: bool = False
    """Whether a package is missing here: nothing is wrong with the job."""


AnyJob = TrainJob | MeasureJob | ExportJob | CompleteJob
Done = Trained | Measured | Exported | Completion
Result = Done | Paused | BegunAgain | Failed
OnReport = Callable[[Activity | Step], None]

Job = Annotated[AnyJob, Field(discriminator="kind")]
Report = Annotated[Activity | Step | Result, Field(discriminator="kind")]


def pack(contributions: Iterable[Any]) -> str:
    """Sample formats or evaluators as a job carries them.

    Raises:
        ContributionFailed: one of them cannot be pickled.
    """
    return b64encode(pickle.dumps(list(contributions))).decode()


def unpack(packed: str) -> list[Any]:
    """What :func:`pack` packed."""
    contributions: list[Any] = pickle.loads(b64decode(packed))  # noqa: S301 - from the daemon
    return contributions


JOB: TypeAdapter[AnyJob] = TypeAdapter(Job)
REPORT: TypeAdapter[Activity | Step | Result] = TypeAdapter(Report)
