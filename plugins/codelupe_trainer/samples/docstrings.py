"""Documentation from code."""

from __future__ import annotations

import re
from collections.abc import Sequence

from codelupe import Sample, SampleRequest
from codelupe_text.syntax import NotParsed
from codelupe_trainer.samples.definitions import Definition, Definitions, find_definitions

INSTRUCTIONS = (
    "Document this {language} {kind}.",
    "Write the documentation of this {language} {kind}.",
    "What does this {language} {kind} do? Answer with its {documentation}.",
    "This {language} {kind} lacks its {documentation}. Write it.",
    "Add a {documentation} to this {language} {kind}.",
)
_TRIES = 8
_FEWEST_LETTERS = 20
"""Bytes of letters in UTF-8, so that a Chinese character counts for three: three or four words say something."""
_UNFINISHED = re.compile(r"\W*(?:todo|fixme|xxx|hack|tbd|deprecated)\b", re.IGNORECASE)
_LEGAL = re.compile(
    r"copyright|spdx-|all rights reserved|licen[cs]ed under|permission is hereby|@licen[cs]e", re.IGNORECASE
)


class DocstringFormat:
    """Suits files with a documented function or type, in a language that is parsed.

    The question shows the definition without its documentation, and nothing around it. The answer is the documentation
    as it stands in the file: whole lines with quotes or comment marks and with their indentation. So an editor inserts
    it as it is, above the definition or below the signature, and the model learns each language's own form from it;
    without the marks, a program would have to know where they go and how wide the lines may be.
    """

    name = "docstring"
    version = 1
    control_tokens: Sequence[str] = ()

    def make(self, request: SampleRequest) -> Sample | None:
        """One of the documented definitions that fit."""
        try:
            found = find_definitions(request.file)
        except NotParsed:
            return None
        drawn = [each for each in found.written_out() if _says_something(found.text(each.documentation))]
        request.random.shuffle(drawn)
        samples = (_sample(found, each, request) for each in drawn[:_TRIES])
        return next((sample for sample in samples if sample is not None), None)


def _says_something(documentation: str) -> bool:
    letters = "".join(filter(str.isalpha, documentation)).encode(errors="replace")
    return len(letters) >= _FEWEST_LETTERS and not _UNFINISHED.match(documentation) and not _LEGAL.search(documentation)


def _sample(found: Definitions, definition: Definition, request: SampleRequest) -> Sample | None:
    instruction = request.random.choice(INSTRUCTIONS).format(
        kind=definition.kind,
        language=request.file.language,
        documentation="docstring" if request.file.language == "Python" else "documentation comment",
    )
    head, documentation, body = definition.head, definition.documentation, definition.body
    code = found.text(range(head.start, documentation.start), range(documentation.stop, body.stop))
    prompt, answer = f"{instruction}\n\n{code}", found.text(documentation)
    if sum(request.count_tokens([prompt, answer])) > request.room:
        return None
    outside = (*found.lines[: head.start], *found.lines[body.stop :])
    is_cut = any(line.strip() for line in outside)
    return Sample(prompt=prompt, answer=answer, form="chat", ends=True, is_cut=is_cut)
