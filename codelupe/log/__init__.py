"""Facts in order: append, read, notify, partitions, archive, retention."""

from codelupe.log.entries import Appended, Entry, EventRefused, StreamConflict
from codelupe.log.event_log import EventLog
from codelupe.log.records import Recorded

__all__ = ["Appended", "Entry", "EventLog", "EventRefused", "Recorded", "StreamConflict"]
