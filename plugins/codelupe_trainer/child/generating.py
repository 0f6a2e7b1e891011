"""Lets a model write, and judges what it wrote beside what an author wrote."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from codelupe import SourceFile
from codelupe_trainer.child.models import Tokenizer
from codelupe_trainer.gate.measurements import Values
from codelupe_trainer.samples.completion import Completion
from codelupe_trainer.syntax import count_errors

AT_A_TIME = 8


@dataclass(frozen=True)
class Written:
    """What a model wrote."""

    text: str
    ended: bool
    """Whether it came to an end by itself, and was not cut off."""


def write(model: Any, tokenizer: Tokenizer, prompts: Sequence[list[int]], tokens: int) -> list[Written]:
    """The likeliest token each time, at most so many, for all prompts at a time."""
    inputs = tokenizer.pad({"input_ids": list(prompts)}, padding_side="left", return_tensors="pt")
    out = model.generate(
        **inputs.to(model.device), max_new_tokens=tokens, do_sample=False, pad_token_id=tokenizer.pad_token_id
    )
    stops = _stops(model)
    rows: list[list[int]] = out[:, inputs["input_ids"].shape[1] :].tolist()
    return [Written(tokenizer.decode(row, skip_special_tokens=True), bool(stops.intersection(row))) for row in rows]


def _stops(model: Any) -> frozenset[int]:
    stops = model.generation_config.eos_token_id
    return frozenset(stops if isinstance(stops, list) else [stops])


def judge(written: Written, file: SourceFile, completion: Completion, as_long: str) -> Values:
    """A completion beside the author's, of which ``as_long`` is as much as the model was let write.

    ``syntax_valid`` says whether there are no more syntax errors than in the author's code up to the same line; it is
    missing where the language cannot be parsed. ``edit_similarity`` is difflib's ratio: twice the matching characters
    by all.
    """
    text = written.text.strip("\n")
    is_valid = _is_valid(written, file, completion)
    values: Values = {
        "next_line": float(_first_line(text) == _first_line(completion.rest)),
        "edit_similarity": difflib.SequenceMatcher(None, text, as_long, autojunk=False).ratio(),
        "ends": float(written.ended),
    }
    if is_valid is not None:
        values["syntax_valid"] = float(is_valid)
    return values


def _first_line(text: str) -> str:
    return text.split("\n", maxsplit=1)[0].rstrip()


def _is_valid(written: Written, file: SourceFile, completion: Completion) -> bool | None:
    lines = written.text.strip("\n").split("\n")
    whole = lines if written.ended or len(lines) == 1 else lines[:-1]
    author = completion.rest.split("\n")[: len(whole)]
    errors, expected = (count_errors(file.language, "\n".join([completion.context, *some])) for some in (whole, author))
    if errors is None or expected is None:
        return None
    return bool(written.text.strip()) and errors <= expected
