"""Batches: the files that one training run learns from, frozen."""

from __future__ import annotations

from codelupe_events.registry import Event, event, unchanged


class BatchEvent(Event, frozen=True, kw_only=True):
    """A fact about one batch."""

    batch_id: int

    def stream(self) -> str:
        return f"batch/{self.batch_id}"


@event(version=2, upcasters={1: unchanged})
class BatchReady(BatchEvent, frozen=True, kw_only=True):
    """The batch's membership is frozen; its files are in ``batch_files``."""

    files: int
    characters: int
    repositories: int
    min_score: float
    replayed: int = 0
    """Files of earlier batches that are learned from beside them."""
