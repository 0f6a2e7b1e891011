"""What ``[plugins.crawler]`` may say."""

from __future__ import annotations

from datetime import timedelta

from pydantic import BaseModel, ConfigDict, Field


class CrawlerSettings(BaseModel):
    """When to crawl, and which local sources there are."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    every: timedelta = Field(
        default=timedelta(hours=1), gt=timedelta(0), description="Time between two crawls, in seconds or as `PT1H`."
    )
    installed_packages: bool = Field(
        default=False, description="Take the packages installed in CodeLupe's own Python environment as repositories."
    )
    sources: tuple[str, ...] = Field(
        default=(),
        description="Folders and git URLs to take as repositories; a folder that is not under git is copied.",
    )
    remote_timeout: timedelta = Field(
        default=timedelta(seconds=30), gt=timedelta(0), description="How long a git URL may take to answer."
    )
