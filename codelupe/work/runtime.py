"""What the host gives to all handlers, jobs and services alike."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

from codelupe.config.directories import Directories
from codelupe.contracts.evaluators import Evaluator
from codelupe.contracts.files import FileRule, Scorer
from codelupe.contracts.repositories import RepositoryRule
from codelupe.contracts.samples import SampleFormat
from codelupe.contracts.search import SearchIndex
from codelupe.contracts.sources import Source
from codelupe.executor import Executor
from codelupe.log import EventLog
from codelupe.observability.progress import ProgressTracker
from codelupe.postgres import Database
from codelupe.work.lost_sessions import LostSessions
from codelupe.work.pauses import QUARANTINE_AFTER, Pauses
from codelupe.work.plugin_calls import PluginCalls
from codelupe.work.timings import DEFAULT, Timings


@dataclass(frozen=True, kw_only=True)
class Runtime:
    """The log, the places on disk, the services of this process, and what plugins offer to one another."""

    log: EventLog
    """In the host's own database, whose connections plugin code cannot take."""
    database: Database
    """The one whose connections are lent to plugin code."""
    directories: Directories
    executor: Executor
    search_index: SearchIndex | None
    progress: ProgressTracker
    sources: Sequence[Source] = ()
    repository_rules: Sequence[RepositoryRule] = ()
    file_rules: Sequence[FileRule] = ()
    scorers: Sequence[Scorer] = ()
    sample_formats: Sequence[SampleFormat] = ()
    evaluators: Sequence[Evaluator] = ()
    timings: Timings = DEFAULT
    calls: PluginCalls = field(default_factory=PluginCalls)
    quarantine_after: int = QUARANTINE_AFTER

    @cached_property
    def pauses(self) -> Pauses:
        """What is paused, as this process knows it."""
        return Pauses(self.log, self.quarantine_after)

    @cached_property
    def lost_sessions(self) -> LostSessions:
        """What lost its session with the server at each attempt."""
        return LostSessions(self.log.database)
