"""From an event back to what caused it."""

from __future__ import annotations

from typing import Any

from codelupe.log import EventLog, Recorded


async def trace_event(log: EventLog, event: Recorded) -> list[dict[str, Any]]:
    """The event and, one after another, the events that caused it."""
    chain = [event.as_dict()]
    while cause := event.metadata.get("caused_by"):
        found = await log.find(cause)
        if found is None:
            break
        event = found
        chain.append(event.as_dict())
    return chain
