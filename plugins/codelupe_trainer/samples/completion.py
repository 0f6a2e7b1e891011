"""The seed's format: an instruction and the first part of the code are the question, the rest is the answer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from codelupe import Sample, SampleRequest
from codelupe_trainer.samples.windows import cut_near, take_window

CONTEXT_SHARE = 0.35
"""How much of the code the model is shown."""

INSTRUCTIONS = (
    "Continue this {language} file.",
    "Complete the {language} code below.",
    "Write the {language} code that comes next.",
    "Here is the first part of some {language} code. Write the rest of it.",
    "This {language} code stops in the middle. Finish it.",
)


@dataclass(frozen=True, kw_only=True)
class Completion:
    """A piece of code in two parts."""

    instruction: str
    context: str
    rest: str
    ends: bool
    is_cut: bool

    @property
    def sample(self) -> Sample:
        prompt = f"{self.instruction}\n\n{self.context}"
        return Sample(prompt=prompt, answer=self.rest, form="chat", ends=self.ends, is_cut=self.is_cut)


class CompletionFormat:
    """Suits every file that has two characters."""

    name = "completion"
    version = 1
    control_tokens: Sequence[str] = ()

    def make(self, request: SampleRequest) -> Sample | None:
        """35 percent of the code, cut at a line, and the rest of it."""
        found = complete(request)
        return None if found is None else found.sample


def complete(request: SampleRequest) -> Completion | None:
    """The file, or a window of it, in two parts; None where there is nothing to part."""
    instruction = request.random.choice(INSTRUCTIONS).format(language=request.file.language or "source")
    room = request.room - request.count_tokens([f"{instruction}\n\n"])[0]
    window = take_window(request.file.content, room, request.count_tokens, request.random)
    if window is None or len(text := window.text.strip("\n")) < 2:
        return None
    cut = cut_near(text, CONTEXT_SHARE)
    context, rest = text[:cut], text[cut:]
    if not rest.strip("\n"):
        return None
    return Completion(
        instruction=instruction,
        context=context.rstrip("\n"),
        rest=rest.lstrip("\n"),
        ends=window.ends,
        is_cut=window.is_cut,
    )
