"""What ``[plugins.crawler]`` may say."""

from __future__ import annotations

from datetime import timedelta

from packaging.requirements import InvalidRequirement, Requirement
from pydantic import BaseModel, ConfigDict, Field, field_validator


class CrawlerSettings(BaseModel):
    """When to crawl, and which local sources there are."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    every: timedelta = Field(
        default=timedelta(hours=1), gt=timedelta(0), description="Time between two crawls, in seconds or as `PT1H`."
    )
    installed_packages: bool = Field(
        default=False, description="Take the packages installed in CodeLupe's own Python environment as repositories."
    )
    installed_for: tuple[str, ...] = Field(
        default=(),
        description="Of the installed packages only those that these requirements need, such as"
        " `codelupe[embedded,train]`; empty, all.",
    )
    sources: tuple[str, ...] = Field(
        default=(),
        description="Folders and git URLs to take as repositories; a folder that is not under git is copied.",
    )
    remote_timeout: timedelta = Field(
        default=timedelta(seconds=30), gt=timedelta(0), description="How long a git URL may take to answer."
    )

    @field_validator("installed_for")
    @classmethod
    def _are_requirements(cls, texts: tuple[str, ...]) -> tuple[str, ...]:
        for text in texts:
            try:
                Requirement(text)
            except InvalidRequirement as error:
                raise ValueError(f"{text!r} is not a requirement: {error}") from None
        return texts
