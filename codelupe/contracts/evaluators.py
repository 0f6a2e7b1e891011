"""Evaluators: what models are measured by, beside each other, before one replaces another."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, runtime_checkable

from codelupe.contracts.samples import SampleRequest


@dataclass(frozen=True, kw_only=True)
class ScoredText:
    """A text of which a model is asked how likely its last part is: the fewer bits, the better.

    The parts are tokenised apart. No end marker is asked for.
    """

    prompt: str
    lead: str = ""
    """The beginning of what follows, which is read and not scored: in a chat, the first tokens tell the form."""
    scored: str
    form: Literal["chat", "text"]
    """How the prompt reaches the model: as a user's message in the base's chat template, or as it stands."""


@runtime_checkable
class LikelihoodEvaluator(Protocol):
    """Measures models by how likely they find pieces of held-out files, in bits per byte.

    It is asked in the training process, where instances arrive by :mod:`pickle`: see :class:`codelupe.FileRule`.
    ``version`` is raised when it begins to ask for other texts. ``control_tokens`` are those that its texts use; a
    base that does not know them is not measured by it.
    """

    name: str
    version: int
    control_tokens: Sequence[str]

    def text(self, request: SampleRequest) -> ScoredText | None:
        """What to score of a held-out window, which is the request's file; None where it does not suit.

        It has to be the same for every base, so that models of different bases are measured alike: ``room`` and
        ``count_tokens`` are those of one of them. Must not raise, whatever the content.
        """
        ...


@dataclass(frozen=True, kw_only=True)
class Problem:
    """Something that a model is to write."""

    id: str
    """Unlike that of any other problem of the same evaluator."""
    prompt: str
    form: Literal["chat", "text"]


@runtime_checkable
class ProblemEvaluator(Protocol):
    """Measures models by problems that each of them solves or not: what a model could do before, it is to keep.

    A model that solves fewer than the one in use, by more than chance explains, is not promoted. Where it is asked, and
    what ``version`` says, is as for a :class:`LikelihoodEvaluator`. A generation ends after ``max_tokens``.
    """

    name: str
    version: int
    max_tokens: int

    def problems(self) -> Sequence[Problem]:
        """All of them, the same in every process."""
        ...

    def is_solved(self, problem: str, answer: str) -> bool:
        """Whether the text that a model wrote solves the problem of this id. What runs it must contain it."""
        ...


Evaluator = LikelihoodEvaluator | ProblemEvaluator
"""One kind or the other."""
