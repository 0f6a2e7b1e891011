"""What ``[plugins.trainer]`` may say."""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import date, timedelta
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from codelupe_trainer.profiles import laid_over, read_profiles

DEFAULT_PROFILE = "qwen2.5-coder-14b"


class LoraSettings(BaseModel):
    """The shape of the adapter: low-rank matrices beside every linear layer but the head."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    rank: int = Field(default=256, ge=1, description="Rank of the adapter's matrices.")
    alpha: int = Field(default=512, ge=1, description="The adapter's output is scaled by alpha / rank.")
    dropout: float = Field(default=0.05, ge=0, lt=1, description="Share of the adapter's inputs dropped in training.")
    dtype: Literal["auto", "float32", "bfloat16"] = Field(
        default="auto",
        description="Numbers of the adapter while it is trained. bfloat16 loses most small updates at a low learning "
        "rate; `auto` takes it only where float32 does not fit the card.",
    )


class GateSettings(BaseModel):
    """What a new model must show on held-out repositories to replace the one in use."""

    model_config = ConfigDict(frozen=True, extra="forbid")

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
    first_batch_files: int = Field(
        default=100,
        ge=0,
        description="Most files of earlier batches' validation parts, the first batches' first, on which a model must "
        "not be worse.",
    )
    generations: int = Field(
        default=256, ge=0, description="Held-out windows to generate code for, which is shown and decides nothing."
    )
    generated_tokens: int = Field(default=48, ge=8, description="Tokens to generate for each.")
    problems: int = Field(
        default=164,
        ge=0,
        description="Most problems of each evaluator that a model is to solve, such as HumanEval's 164; 0 for none. "
        "What runs the answers needs Bubblewrap.",
    )


class TrainerSettings(BaseModel):
    """Which files make a batch, how a model is trained on it, and when it is promoted."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    profile: str = Field(
        default=DEFAULT_PROFILE,
        description="Settings to start from: `qwen2.5-coder-14b`, `qwen2.5-coder-14b-r64`, `qwen2.5-coder-7b` (`3b`, "
        "`1.5b`, `0.5b`) or `smollm2-135m-cpu`.",
    )
    base: str = Field(
        default="Qwen/Qwen2.5-Coder-14B-Instruct",
        min_length=1,
        description="Model to fine-tune: an id on the Hugging Face hub, a local folder, or `package:NAME` for the GGUF "
        "file inside an installed Python package.",
    )
    quantisation: Literal["nf4", "none"] = Field(
        default="nf4",
        description="How the base's weights are kept: in 4 bits (NF4, double quantisation) or as they are.",
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

    system: str = Field(
        default="You are Qwen, an AI coding assistant.",
        description="First line of every chat that the model is trained on; empty for the base's own.",
    )
    formats: dict[str, float] = Field(
        default={"completion": 0.4, "function": 0.2, "infill": 0.25, "repository-infill": 0.1, "docstring": 0.05},
        description="How often each sample format is drawn, as weights. A format that does not suit a file leaves it "
        "to the others.",
    )
    weigh_by_score: bool = Field(
        default=False, description="Draw a second sample of a file the more often, the better its score is."
    )

    replay_share: float = Field(
        default=0.15,
        ge=0,
        le=0.5,
        description="Share of what is trained on that is drawn from earlier batches, over all their languages and "
        "repositories, so that the model does not forget them; 5 to 25 percent are known to do.",
    )
    max_length: int = Field(
        default=4096, ge=128, description="Tokens of one sample, and of one packed row, at most; longer files are cut."
    )
    packing: bool = Field(default=True, description="Fill each row with whole samples; otherwise one sample is a row.")
    micro_batch: int = Field(
        default=1, ge=1, description="Rows that pass through a card at a time; fewer where the card is too small."
    )
    processes: int = Field(
        default=1,
        ge=1,
        description="Processes that train together, each on a card of its own (DDP); a step's rows are divided among "
        "them, so they change its time and not what is learned. Without a card they share the processor.",
    )
    samples_per_step: int = Field(
        default=16, ge=1, description="Samples that make one step. Packed rows count by the samples that they hold."
    )
    epochs: int = Field(default=1, ge=1, description="How often each file is learned from.")
    max_steps: int | None = Field(
        default=None, ge=1, description="Take no more files than so many steps hold; the others are left unused."
    )
    gradient_checkpointing: bool = Field(
        default=True,
        description="Keep only what enters each layer, and compute the rest again on the way back: a third more work "
        "for a fraction of the memory.",
    )
    optimizer: Literal["adamw_8bit", "adamw"] = Field(
        default="adamw_8bit", description="AdamW with states in 8 bits (bitsandbytes) or in float32."
    )
    learning_rate: float = Field(default=1e-4, gt=0, description="Highest learning rate; it falls along a cosine.")
    warmup_share: float = Field(default=0.03, ge=0, lt=1, description="Share of the steps over which the rate rises.")
    eval_every: int = Field(default=100, ge=1, description="Steps between two evaluations, each with a checkpoint.")
    checkpoint_every: timedelta = Field(
        default=timedelta(minutes=10),
        gt=timedelta(0),
        description="Longest time between two checkpoints of a training, in seconds or as `PT10M`.",
    )
    spike_factor: float = Field(
        default=10,
        ge=0,
        description="Leave out a step whose loss or gradient norm is so many times the median of the steps before; "
        "0 for only those that are no number. The second such step ends the training.",
    )
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

    tensorboard: bool = Field(
        default=False, description="Write the figures of each step for TensorBoard; needs `codelupe[tensorboard]`."
    )
    wandb: Literal["off", "offline", "online"] = Field(
        default="off",
        description="Whether Weights & Biases follows each training: in files that `wandb sync` sends later, or at "
        "once. Needs `codelupe[wandb]`; the key is read from the variable WANDB_API_KEY.",
    )
    wandb_project: str = Field(default="codelupe", min_length=1, description="Name of the project at Weights & Biases.")

    lora: LoraSettings = Field(default_factory=LoraSettings, description="The adapter's shape.")
    gate: GateSettings = Field(default_factory=GateSettings, description="When a model is promoted.")

    @model_validator(mode="before")
    @classmethod
    def _start_from_profile(cls, given: Any) -> Any:
        if not isinstance(given, Mapping):
            return given
        profiles, name = read_profiles(), given.get("profile", DEFAULT_PROFILE)
        if name not in profiles:
            raise ValueError(f"there is no profile {name!r}; there are {', '.join(profiles)}")
        defaults = {"formats": cls.model_fields["formats"].default}
        return laid_over(laid_over(defaults, profiles[name]), given)

    @model_validator(mode="after")
    def _weights_are_usable(self) -> TrainerSettings:
        weights = self.formats.values()
        if not all(0 <= weight < math.inf for weight in weights) or not any(weights):
            raise ValueError("the weights of formats must be 0 or more, and one of them above 0")
        return self

    @model_validator(mode="after")
    def _limits_are_in_order(self) -> TrainerSettings:
        for least, most in (("min_files", "max_files"), ("min_characters", "max_characters")):
            if getattr(self, least) > getattr(self, most):
                raise ValueError(f"{least} must not be above {most}")
        return self
