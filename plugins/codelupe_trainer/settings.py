"""What ``[plugins.trainer]`` may say."""

from __future__ import annotations

from datetime import date, timedelta

from pydantic import BaseModel, ConfigDict, Field, model_validator


class LoraSettings(BaseModel):
    """The shape of the adapter: low-rank matrices beside every linear layer but the head."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    rank: int = Field(default=256, ge=1, description="Rank of the adapter's matrices.")
    alpha: int = Field(default=512, ge=1, description="The adapter's output is scaled by alpha / rank.")
    dropout: float = Field(default=0.05, ge=0, lt=1, description="Share of the adapter's inputs dropped in training.")


class GateSettings(BaseModel):
    """What a new model must show on held-out repositories to replace the one in use."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    min_improvement: float = Field(
        default=0.005, ge=0, description="Least fall of the held-out loss, in nats per completion token."
    )
    max_similarity_drop: float = Field(
        default=0.02, ge=0, le=1, description="Largest fall of the edit similarity of generated code, from 0 to 1."
    )
    min_groups: int = Field(
        default=20, ge=1, description="Fewest groups of held-out repositories to judge a model on; with fewer it waits."
    )
    min_windows: int = Field(default=200, ge=1, description="Fewest windows of these groups to judge a model on.")
    max_files: int = Field(
        default=500, ge=1, description="Most windows of an evaluation set, one of each file; half of its groups decide."
    )
    window_bytes: int = Field(default=4096, ge=256, description="Most bytes of a window, which ends with a line.")
    young_since: date = Field(
        default=date(2024, 2, 1),
        description="Repositories made from this day on are shown apart: the base has not seen them.",
    )
    generations: int = Field(default=64, ge=1, description="Held-out files to generate code for, among these.")
    generated_tokens: int = Field(default=128, ge=8, description="Tokens to generate for each.")


class TrainerSettings(BaseModel):
    """Which files make a batch, how a model is trained on it, and when it is promoted."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    base: str = Field(
        default="Qwen/Qwen2.5-Coder-14B-Instruct",
        min_length=1,
        description="Model to fine-tune: an id on the Hugging Face hub, a local folder, or `package:NAME` for the GGUF "
        "file inside an installed Python package.",
    )
    every: timedelta = Field(
        default=timedelta(minutes=5),
        gt=timedelta(0),
        description="Time between two looks for a new batch, in seconds or as `PT5M`.",
    )

    min_files: int = Field(default=1000, ge=2, description="Fewest files of a batch.")
    max_files: int = Field(default=100_000, ge=2, description="Most files of a batch; the best are taken.")
    min_score: float = Field(default=70, ge=0, le=100, description="Lowest quality score of a file, 0 to 100.")
    min_characters: int = Field(default=50, ge=1, description="Fewest characters of a file.")
    max_characters: int = Field(default=8000, ge=1, description="Most characters of a file.")
    held_out_share: float = Field(
        default=0.05,
        ge=0,
        lt=1,
        description="Share of repositories kept out of training, to compare models on.",
    )

    validation_share: float = Field(
        default=0.05, gt=0, lt=1, description="Share of a batch's files that training is watched on, one file at least."
    )
    max_validation_files: int = Field(default=500, ge=1, description="Most files that one evaluation looks at.")
    seed: int = Field(default=42, ge=0, description="Decides the split, the order and all that is drawn in training.")

    max_length: int = Field(default=4096, ge=128, description="Tokens of one sample at most; longer files are cut.")
    batch_size: int = Field(default=4, ge=1, description="Samples that pass through the model at a time.")
    accumulation: int = Field(default=4, ge=1, description="Passes that make one step.")
    epochs: int = Field(default=1, ge=1, description="How often each file is learned from.")
    max_steps: int | None = Field(
        default=None, ge=1, description="End after so many steps; files beyond them are left unused."
    )
    learning_rate: float = Field(default=1e-4, gt=0, description="Highest learning rate; it falls along a cosine.")
    warmup_share: float = Field(default=0.03, ge=0, lt=1, description="Share of the steps over which the rate rises.")
    eval_every: int = Field(default=100, ge=1, description="Steps between two evaluations, each with a checkpoint.")
    patience: int = Field(
        default=3, ge=1, description="Stop after so many evaluations in a row without a better validation loss."
    )
    threads: int | None = Field(
        default=None, ge=1, description="Threads that training uses on the CPU; all this process may use if unset."
    )
    stop_timeout: timedelta = Field(
        default=timedelta(minutes=2),
        gt=timedelta(0),
        description="How long a stopped training may take to save its checkpoint, in seconds or as `PT2M`.",
    )

    lora: LoraSettings = Field(default_factory=LoraSettings, description="The adapter's shape.")
    gate: GateSettings = Field(default_factory=GateSettings, description="When a model is promoted.")

    @model_validator(mode="after")
    def _limits_are_in_order(self) -> TrainerSettings:
        for least, most in (("min_files", "max_files"), ("min_characters", "max_characters")):
            if getattr(self, least) > getattr(self, most):
                raise ValueError(f"{least} must not be above {most}")
        return self
