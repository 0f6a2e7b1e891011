"""The vocabulary of CodeLupe: every event, in families, each with a version."""

from codelupe_events.batch import BatchReady
from codelupe_events.file import FilesExtracted, FilesScored
from codelupe_events.model import (
    ModelPromoted,
    ModelRejected,
    TrainingCompleted,
    TrainingFailed,
    TrainingStarted,
)
from codelupe_events.registry import (
    Event,
    EventError,
    InvalidEventData,
    UnknownEventType,
    UnknownEventVersion,
    decode,
    decode_all,
    encode,
    encode_all,
    event,
    event_types,
    json_schema,
)
from codelupe_events.repo import (
    CrawlRequested,
    CrawlSliceCompleted,
    Reason,
    RepoAccepted,
    RepoCloned,
    RepoDiscovered,
    RepoEmpty,
    RepoForgotten,
    RepoRejected,
)
from codelupe_events.task import TaskDeadLettered

__all__ = [
    "BatchReady",
    "CrawlRequested",
    "CrawlSliceCompleted",
    "Event",
    "EventError",
    "FilesExtracted",
    "FilesScored",
    "InvalidEventData",
    "ModelPromoted",
    "ModelRejected",
    "Reason",
    "RepoAccepted",
    "RepoCloned",
    "RepoDiscovered",
    "RepoEmpty",
    "RepoForgotten",
    "RepoRejected",
    "TaskDeadLettered",
    "TrainingCompleted",
    "TrainingFailed",
    "TrainingStarted",
    "UnknownEventType",
    "UnknownEventVersion",
    "decode",
    "decode_all",
    "encode",
    "encode_all",
    "event",
    "event_types",
    "json_schema",
]
