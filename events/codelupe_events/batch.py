"""Batches: the files that one training run learns from, frozen."""

from __future__ import annotations

from codelupe_events.registry import Event, event


class BatchEvent(Event, frozen=True, kw_only=True):
    """A fact about one batch."""

    batch_id: int

    def stream(self) -> str:
        return f"batch/{self.batch_id}"


@event(version=1)
class BatchReady(BatchEvent, frozen=True, kw_only=True):
    """The batch's membership is frozen; its files are in ``batch_files``."""

    files: int
    characters: int
    repositories: int
    min_score: float
