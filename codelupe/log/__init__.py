"""The event log: append, read, subscribe (claim, lease, retry, park), replay."""

from codelupe.log.context import HandlerContext, JobContext
from codelupe.log.event_log import Appended, Entry, EventLog
from codelupe.log.records import Recorded

__all__ = ["Appended", "Entry", "EventLog", "HandlerContext", "JobContext", "Recorded"]
