"""Formats of training samples: what a model is shown of a file, and what it is to answer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from random import Random
from typing import Literal, Protocol, runtime_checkable

from codelupe.contracts.files import SourceFile


@dataclass(frozen=True, kw_only=True)
class Sample:
    """A question and its answer; the model learns from the answer alone."""

    prompt: str
    answer: str
    form: Literal["chat", "text"]
    """How the prompt reaches the model: as a user's message in the base's chat template, or as it stands. In a text,
    control tokens such as ``<|fim_prefix|>`` speak to the model."""
    ends: bool
    """Whether what is written ends where the answer does. Only then the model learns to stop there."""
    is_cut: bool
    """Whether the file has more than is shown."""


@dataclass(frozen=True, kw_only=True)
class SampleRequest:
    """A file that is to become a sample."""

    file: SourceFile
    repository: str
    """As ``owner/name``."""
    neighbours: Callable[[], Sequence[SourceFile]]
    """Reads the other files of the same repository that are in the batch, at most eight of them."""
    room: int
    """Tokens that prompt and answer may have together."""
    count_tokens: Callable[[Sequence[str]], Sequence[int]]
    """How many tokens the base's tokenizer makes of each of some texts."""
    random: Random
    """What is left to chance is drawn from here: the same batch, file and seed make the same sample."""


@runtime_checkable
class SampleFormat(Protocol):
    """One way to make a sample of a file. It is asked in the training process, where instances arrive by
    :mod:`pickle`: see :class:`codelupe.FileRule`.

    ``version`` is raised when it begins to make other samples. ``control_tokens`` are those that its prompts use and a
    base must know, such as ``("<|fim_prefix|>",)``.
    """

    name: str
    version: int
    control_tokens: Sequence[str]

    def make(self, request: SampleRequest) -> Sample | None:
        """The file's sample, or None where the format does not suit the file. Must not raise, whatever the content."""
        ...
