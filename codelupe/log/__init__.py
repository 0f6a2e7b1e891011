"""The event log: append, read, subscribe (claim, lease, retry, park), replay."""

from codelupe.log.context import BatchContext, HandlerContext, JobContext
from codelupe.log.event_log import Appended, Entry, EventLog, EventRefused, StreamConflict
from codelupe.log.records import Recorded

__all__ = [
    "Appended",
    "BatchContext",
    "Entry",
    "EventLog",
    "EventRefused",
    "HandlerContext",
    "JobContext",
    "Recorded",
    "StreamConflict",
]
