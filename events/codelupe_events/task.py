"""What the event log says about itself."""

from __future__ import annotations

from codelupe_events.registry import Event, event


@event(version=1, former_names=("TaskParked",))
class TaskDeadLettered(Event, frozen=True, kw_only=True):
    """A subscription gave up on an event; it waits among the dead letters until an operator retries or drops it."""

    subscription: str
    event_id: str
    event_type: str
    attempts: int
    error: str

    def stream(self) -> str:
        return f"subscription/{self.subscription}"
