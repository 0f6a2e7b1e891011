"""Measuring round by round: in each, every case, and in every case each subject once."""

from __future__ import annotations

import gc
import sys
from collections import defaultdict
from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Any

from benchmarks.eventlog.cases import Case
from benchmarks.eventlog.figures import Figure, typical
from benchmarks.eventlog.report import Figures


@dataclass(frozen=True)
class Subject:
    """A system, and the database that it is measured in each time."""

    name: str
    system: type[Any]
    database: Callable[[], AbstractAsyncContextManager[str]]


async def measure_rounds(cases: Sequence[Case], subjects: Sequence[Subject], rounds: int) -> Figures:
    """The medians over the rounds. Who comes first changes from round to round."""
    found: dict[str, dict[str, list[Figure]]] = {case.name: defaultdict(list) for case in cases}
    for number in range(rounds):
        first = number % len(subjects)
        for case in cases:
            for subject in (*subjects[first:], *subjects[:first]):
                if hasattr(subject.system, case.needs):
                    figure = await _measure(case, subject)
                    found[case.name][subject.name].append(figure)
                    print(f"{number + 1}/{rounds}  {case.name}: {subject.name} {figure}", file=sys.stderr)
    return {
        case.name: {one.name: typical(figures) for one in subjects if (figures := found[case.name][one.name])}
        for case in cases
    }


async def _measure(case: Case, subject: Subject) -> Figure:
    gc.collect()
    async with subject.database() as url, subject.system(url) as system:
        return await case.measure(system)
