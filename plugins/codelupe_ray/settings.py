"""The settings ``[plugins.ray]``: which Ray, and what a file may cost there."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field


class RaySettings(BaseModel):
    """``[plugins.ray]``: which Ray runs the work, and what a file may cost there."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    address: str | None = Field(
        default=None,
        description="Address of a Ray cluster, such as `10.0.0.5:6379`; `auto` is the one that runs on this machine."
        " Unset, a Ray of its own runs on this machine while the daemon does.",
    )
    workers: int | None = Field(
        default=None, ge=1, description="Worker processes, each on one CPU; as many as the cluster has CPUs if unset."
    )
    file_seconds: float = Field(
        default=30,
        gt=0,
        le=86_400,
        description="As `executor_file_seconds`: CPU time in seconds that one file may take.",
    )
    worker_mib: int = Field(
        default=1024, ge=512, description="As `executor_worker_mib`: memory in MiB that a worker process may hold."
    )
