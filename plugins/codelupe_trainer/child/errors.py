"""What can go wrong for good."""

from __future__ import annotations

from pathlib import Path


class Unusable(Exception):
    """The job cannot be done, however often it is tried; the message says why."""


class Waiting(Exception):
    """Nothing is wrong, but others have what it needs; the message says what."""


class BeginAgain(Exception):
    """The run goes on in a new process; the message says what happened."""


class DiskFull(Exception):
    """There is no room for a checkpoint."""

    def __init__(self, folder: Path, needed: int, free: int) -> None:
        super().__init__(
            f"the disk is full: {folder} needs {needed:,} bytes for checkpoints, and {free:,} are free; free some, or "
            "move CodeLupe's data directory"
        )
