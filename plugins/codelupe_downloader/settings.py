"""What ``[plugins.downloader]`` may say."""

from __future__ import annotations

from datetime import timedelta
from typing import Literal

from pydantic import BaseModel, ByteSize, ConfigDict, Field

Protocol = Literal["https", "http", "ssh", "git", "file"]


class DownloaderSettings(BaseModel):
    """The limits of a clone."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    concurrency: int = Field(default=4, ge=1, le=64, description="Clones at a time.")
    timeout: timedelta = Field(
        default=timedelta(minutes=10),
        gt=timedelta(0),
        description="How long one clone may take, in seconds or as `PT10M`.",
    )
    max_size: ByteSize = Field(
        default=ByteSize(1 << 30),
        gt=0,
        description="Largest clone on disk, in bytes or as `1GiB`; checked while it grows.",
    )
    min_free_space: ByteSize = Field(
        default=ByteSize(1 << 30), ge=0, description="Space that must stay free on the disk; below it, cloning waits."
    )
    allowed_protocols: frozenset[Protocol] = Field(
        default=frozenset({"https", "ssh", "git", "file"}), description="How repositories may be fetched."
    )
