"""Everything under measurement, by name."""

from __future__ import annotations

from typing import Any

from benchmarks.eventlog.backlog import BesideDeadLetter, BesideNothing, FewWaiting, ManyWaiting
from benchmarks.eventlog.ceiling import Ceiling
from benchmarks.eventlog.ours import Ours, OursInBatches, OursWithKeys
from benchmarks.eventlog.peers import Eventsourcing, Pgqueuer, PgqueuerJobByJob, Procrastinate
from benchmarks.eventlog.system import System

_ALL: tuple[type[System], ...] = (
    Ours,
    OursWithKeys,
    OursInBatches,
    Ceiling,
    Pgqueuer,
    PgqueuerJobByJob,
    Procrastinate,
    Eventsourcing,
    FewWaiting,
    ManyWaiting,
    BesideNothing,
    BesideDeadLetter,
)
SYSTEMS: dict[str, type[Any]] = {system.name: system for system in _ALL}
