"""Evaluation sets: what models are compared on, frozen."""

from __future__ import annotations

from codelupe_events.registry import Event, event


@event(version=1)
class EvaluationSetFrozen(Event, frozen=True, kw_only=True):
    """There is another version of the set that models are compared on; its windows are in ``evaluation_windows``."""

    evaluation_set: int
    """Its version: 1 for the first."""
    groups: int
    """Groups of held-out repositories that its windows come from."""
    windows: int
    hash: str
    """SHA-256 over the windows, in hexadecimal digits."""

    def stream(self) -> str:
        return f"evaluation/{self.evaluation_set}"
