"""Fill-in-the-middle: what stands before and behind a gap is the question, what belongs in the gap the answer.

The forms are those of Qwen2.5-Coder's technical report (arXiv 2409.12186): one file, and the files of a repository.
"""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

from codelupe import Sample, SampleRequest
from codelupe_trainer.samples.windows import Window, take_window

_GAP_SHARE = 3
"""A gap is at most a third of the window."""
_TRIES = 8


class InfillFormat:
    """A gap in one file."""

    name = "infill"
    version = 1
    control_tokens: Sequence[str] = ("<|fim_prefix|>", "<|fim_suffix|>", "<|fim_middle|>")

    def make(self, request: SampleRequest) -> Sample | None:
        """The file around a gap of its own."""
        window = take_window(request.file.content, _left(request), request.count_tokens, request.random)
        return None if window is None else _with_gap("", window, request.random)


class RepositoryInfillFormat:
    """A gap in one file, which other files of its repository stand before."""

    name = "repository-infill"
    version = 1
    control_tokens: Sequence[str] = (*InfillFormat.control_tokens, "<|repo_name|>", "<|file_sep|>")

    def make(self, request: SampleRequest) -> Sample | None:
        """Half of the room is the file's, at least; its neighbours are taken whole, as many as fit."""
        parts = [f"<|repo_name|>{request.repository}\n"]
        room = _left(request) // 2 - request.count_tokens(parts)[0]
        for neighbour in request.neighbours():
            part = f"<|file_sep|>{neighbour.path}\n{neighbour.content}\n"
            size = request.count_tokens([part])[0]
            if size <= room:
                parts.append(part)
                room -= size
        if len(parts) == 1:
            return None
        parts.append(f"<|file_sep|>{request.file.path}\n")
        before = "".join(parts)
        left = _left(request) - request.count_tokens([before])[0]
        window = take_window(request.file.content, left, request.count_tokens, request.random)
        return None if window is None else _with_gap(before, window, request.random)


def _left(request: SampleRequest) -> int:
    return request.room - len(InfillFormat.control_tokens)


def _with_gap(before: str, window: Window, random: Random) -> Sample | None:
    gap = _gap(window.text, random)
    if gap is None:
        return None
    start, stop = gap
    prefix, suffix = window.text[:start], window.text[stop:]
    return Sample(
        prompt=f"{before}<|fim_prefix|>{prefix}<|fim_suffix|>{suffix}<|fim_middle|>",
        answer=window.text[start:stop],
        form="text",
        ends=True,  # the gap, not the file
        is_cut=window.is_cut,
    )


def _gap(text: str, random: Random) -> tuple[int, int] | None:
    """From any character, as a cursor stands there, to the end of a line or to any other; not only white space."""
    longest = len(text) // _GAP_SHARE
    for _ in range(_TRIES if longest else 0):
        start = random.randrange(len(text) - longest + 1)
        stop = start + random.randint(1, longest)
        if random.random() < 0.5:
            line_end = text.rfind("\n", start + 1, stop + 1)
            stop = line_end if line_end > start else stop
        if text[start:stop].strip():
            return start, stop
    return None
