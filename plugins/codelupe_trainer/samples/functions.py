"""A function or a type from its signature and its documentation."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from codelupe import Sample, SampleRequest
from codelupe_text.syntax import NotParsed
from codelupe_trainer.samples.definitions import Definition, Definitions, find_definitions
from codelupe_trainer.samples.windows import CountTokens

INSTRUCTIONS = (
    "Write the body of the {kind} at the end of this {language} code.",
    "Implement the {language} {kind} that this code ends with.",
    "This {language} code ends with a {kind} that has no body yet. Write it.",
    "Here is some {language} code. Fill in the last {kind}.",
    "Complete the last {kind} of this {language} code.",
)
_TRIES = 8


class FunctionFormat:
    """Suits files with a function or a type that has a body of two lines or more, in a language that is parsed.

    The question ends with the head: signature and documentation. Before it stands what helps most to write the body,
    as far as there is room: the heads of what the definition lies in, the imports, the lines right above. Where lines
    are left out, there is a blank one. The answer is the rest of the definition, in whole lines with their indentation
    and with the bracket that closes it, so that an editor can insert it as it is.
    """

    name = "function"
    version = 1
    control_tokens: Sequence[str] = ()

    def make(self, request: SampleRequest) -> Sample | None:
        """One of the definitions that fit, a documented one if there is any: without words much must be guessed."""
        try:
            found = find_definitions(request.file)
        except NotParsed:
            return None
        drawn = found.written_out()
        request.random.shuffle(drawn)
        drawn.sort(key=lambda each: not each.documentation)
        samples = (_sample(found, each, request) for each in drawn[:_TRIES])
        return next((sample for sample in samples if sample is not None), None)


def _sample(found: Definitions, definition: Definition, request: SampleRequest) -> Sample | None:
    instruction = request.random.choice(INSTRUCTIONS).format(kind=definition.kind, language=request.file.language)
    answer = found.text(definition.body)
    needed = (f"{instruction}\n\n", f"{found.text(definition.head)}\n", answer)
    room = request.room - sum(request.count_tokens(needed))
    if room < 0:
        return None
    shown = {*definition.head, *_context(found, definition, room, request.count_tokens)}
    code = "\n\n".join(found.text(rows) for rows in _runs(sorted(shown)))
    prompt = f"{instruction}\n\n{code}"
    if sum(request.count_tokens([prompt, answer])) > request.room:
        return None
    shown.update(definition.body)
    is_cut = any(line.strip() for row, line in enumerate(found.lines) if row not in shown)
    return Sample(prompt=prompt, answer=answer, form="chat", ends=True, is_cut=is_cut)


def _context(found: Definitions, definition: Definition, room: int, count_tokens: CountTokens) -> set[int]:
    """The rows before the definition that are shown."""
    above = definition.head.start
    sizes = count_tokens([f"{line}\n" for line in found.lines[:above]]) if above else []
    imports = [rows for rows in reversed(found.imports) if rows.stop <= above]
    taken: set[int] = set()
    for rows in (*_heads_around(found, definition), *map(set, imports)):
        more = rows - taken
        size = 1 + sum(sizes[row] for row in more)  # the one is for a blank line
        if more and size <= room:
            taken |= more
            room -= size
    for row in reversed(range(above)):
        room -= 0 if row in taken else sizes[row]
        if room < 0:
            break
        taken.add(row)
    return taken


def _heads_around(found: Definitions, definition: Definition) -> Iterator[set[int]]:
    """Of each definition around, the innermost first: its signature, and its documentation by itself."""
    for each in found.around(definition):
        yield set(each.head) - set(each.documentation)
        yield set(each.documentation)


def _runs(rows: Sequence[int]) -> Iterator[range]:
    """Rows that follow each other, together."""
    first = 0
    for number, row in enumerate(rows, start=1):
        if number == len(rows) or rows[number] != row + 1:
            yield range(rows[first], row + 1)
            first = number
