"""The rule that decided before: the mean loss per token of completions in a chat, and how alike generated code is."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace

from codelupe import SampleRequest, ScoredText
from codelupe_trainer.samples.completion import complete

MIN_IMPROVEMENT = 0.005
"""Least fall of the loss, in nats per token."""
MAX_SIMILARITY_DROP = 0.02
_END = "<|im_end|>"


class OldEvaluator:
    """All of the answer with an end marker, also where the code goes on: most of what is gained is the form."""

    name = "old"
    version = 1
    control_tokens: Sequence[str] = (_END,)

    def text(self, request: SampleRequest) -> ScoredText | None:
        """The whole rest of the window, and the marker."""
        completion = complete(replace(request, room=sys.maxsize))
        if completion is None:
            return None
        return ScoredText(prompt=completion.sample.prompt, scored=f"{completion.rest}{_END}", form="chat")


@dataclass(frozen=True)
class OldFigures:
    """Of one model."""

    loss: float
    """Nats per token."""
    edit_similarity: float


def promotes(current: OldFigures, candidate: OldFigures) -> bool:
    """Whether it let the candidate replace the model in use."""
    return (
        current.loss - candidate.loss >= MIN_IMPROVEMENT
        and current.edit_similarity - candidate.edit_similarity <= MAX_SIMILARITY_DROP
    )
