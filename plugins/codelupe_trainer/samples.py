"""From a file to what the model is asked and what it should answer: the same for training and for the gate."""

from __future__ import annotations

import bisect
import itertools
import re
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

from pydantic import BaseModel, ConfigDict

CONTEXT_SHARE = 0.35
"""How much of the code the model is shown; it answers with the rest."""

INSTRUCTIONS = (
    "Continue this {language} file.",
    "Complete the {language} code below.",
    "Write the {language} code that comes next.",
    "Here is the first part of some {language} code. Write the rest of it.",
    "This {language} code stops in the middle. Finish it.",
)

TokenCounter = Callable[[Sequence[str]], Sequence[int]]
"""How many tokens each of some texts has."""
Message = dict[str, str]


class CodeFile(BaseModel):
    """A stored file with all that says where it comes from."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    repository_id: str
    repository: str
    commit: str
    licence: str | None
    path: str
    language: str | None
    content_hash: str
    """In hexadecimal digits."""
    split: str
    content: str


@dataclass(frozen=True, kw_only=True)
class Sample:
    """One question and its answer. Between context and completion a line ends."""

    file: CodeFile
    instruction: str
    context: str
    completion: str

    @property
    def prompt(self) -> list[Message]:
        return [{"role": "user", "content": f"{self.instruction}\n\n{self.context}"}]

    @property
    def answer(self) -> list[Message]:
        return [{"role": "assistant", "content": self.completion}]


class SampleMaker:
    """Makes at most one sample of a file; whatever is chosen, is chosen by the content's hash.

    ``max_tokens`` bounds instruction, context and completion together, as ``count_tokens`` counts them line by line.
    A file in which one of the ``control_tokens`` occurs could speak to the model in place of its user, and makes none.
    """

    def __init__(self, count_tokens: TokenCounter, max_tokens: int, control_tokens: Collection[str] = ()) -> None:
        self._count_tokens = count_tokens
        self._max_tokens = max_tokens
        self._control_tokens = control_tokens

    def make(self, file: CodeFile) -> Sample | None:
        """The file's sample, or None if nothing in it can be split in a context and a completion."""
        if any(token in file.content for token in self._control_tokens):
            return None
        draw = int(file.content_hash, 16)
        draw, choice = divmod(draw, len(INSTRUCTIONS))
        instruction = INSTRUCTIONS[choice].format(language=file.language or "source")
        budget = max(0, self._max_tokens - self._count_tokens([instruction])[0])
        parts = _split(self._window(file.content, budget, draw))
        if parts is None:
            return None
        return Sample(file=file, instruction=instruction, context=parts[0], completion=parts[1])

    def _window(self, text: str, budget: int, draw: int) -> list[str]:
        """As many whole lines in a row as the budget allows, from one of the places where they fill it."""
        lines = re.findall(r"[^\n]*\n|[^\n]+", text)
        ends = list(itertools.accumulate(self._count_tokens(lines) if lines else [], initial=0))
        last_start = bisect.bisect_left(ends, ends[-1] - budget)
        start = draw % (last_start + 1)
        stop = bisect.bisect_right(ends, ends[start] + budget) - 1
        return lines[start:stop]


def _split(lines: Sequence[str]) -> tuple[str, str] | None:
    """Context and completion, cut as near to the share as lines allow; neither is blank."""
    lengths = list(itertools.accumulate(map(len, lines)))
    first = next((index for index, line in enumerate(lines) if line.strip()), len(lines))
    last = next((index for index in reversed(range(len(lines))) if lines[index].strip()), -1)
    cuts = range(first + 1, last + 1)
    if not cuts:
        return None
    cut = min(cuts, key=lambda cut: abs(lengths[cut - 1] - CONTEXT_SHARE * lengths[-1]))
    return "".join(lines[:cut]).strip("\n"), "".join(lines[cut:]).strip("\n")
