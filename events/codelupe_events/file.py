"""Files of a repository: extracted, scored."""

from __future__ import annotations

from codelupe_events.registry import event
from codelupe_events.repo import RepoEvent


@event(version=1)
class FilesExtracted(RepoEvent, frozen=True, kw_only=True):
    """The clone's files were judged: ``stored`` with their content, the others counted by the rule that refused."""

    commit: str
    stored: int
    rejected: dict[str, int]
    seconds: float


@event(version=1)
class FilesScored(RepoEvent, frozen=True, kw_only=True):
    """Each stored file has a score from 0 to 100."""

    commit: str
    scored: int
    mean_score: float
    seconds: float
