"""What models are measured by on held-out code, without a plugin: as it stands, with a gap, and as a chat."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import replace

from codelupe import SampleRequest, ScoredText
from codelupe_trainer.samples.completion import complete
from codelupe_trainer.samples.infill import InfillFormat

LEAD_CHARACTERS = 64
"""Some 16 tokens. In them a model trained on anything in a chat's form gains most of what the form is worth."""


class PlainEvaluator:
    """The code alone, as it stands, so that nothing is gained by knowing a form."""

    name = "plain"
    version = 1
    control_tokens: Sequence[str] = ()

    def text(self, request: SampleRequest) -> ScoredText | None:
        """The whole window."""
        content = request.file.content
        return ScoredText(prompt="", scored=content, form="text") if content.strip() else None


class InfillEvaluator:
    """A gap in the code, as an editor asks for it."""

    name = "infill"
    version = 1
    control_tokens: Sequence[str] = InfillFormat.control_tokens

    def text(self, request: SampleRequest) -> ScoredText | None:
        """What belongs in the gap."""
        sample = InfillFormat().make(_whole(request))
        return None if sample is None else ScoredText(prompt=sample.prompt, scored=sample.answer, form="text")


class ChatEvaluator:
    """The seed's completion: a user shows the first part and asks for the rest."""

    name = "chat"
    version = 1
    control_tokens: Sequence[str] = ()

    def text(self, request: SampleRequest) -> ScoredText | None:
        """The rest, but for its beginning."""
        completion = complete(_whole(request))
        if completion is None:
            return None
        lead, scored = _without_lead(completion.rest)
        if not scored.strip():
            return None
        return ScoredText(prompt=completion.sample.prompt, lead=lead, scored=scored, form="chat")


def _without_lead(text: str) -> tuple[str, str]:
    """Parted behind the line in which the lead ends; within it, if nothing comes behind."""
    line_end = text.find("\n", LEAD_CHARACTERS - 1) + 1
    cut = line_end if text[line_end:].strip() and line_end else LEAD_CHARACTERS
    return text[:cut], text[cut:]


def _whole(request: SampleRequest) -> SampleRequest:
    """All of the window, however many tokens a base makes of it."""
    return replace(request, room=sys.maxsize)
