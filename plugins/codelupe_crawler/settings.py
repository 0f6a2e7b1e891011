"""What ``[plugins.crawler]`` may say."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Literal

from packaging.requirements import InvalidRequirement, Requirement
from pydantic import BaseModel, ConfigDict, Field, field_validator

from codelupe import SourceMode
from codelupe_crawler.github.settings import GitHubSettings
from codelupe_crawler.registries.release import Package


class CrawlerSettings(BaseModel):
    """Which sources are crawled, when, and what is looked for."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    every: timedelta = Field(
        default=timedelta(hours=1), gt=timedelta(0), description="Time between two crawls, in seconds or as `PT1H`."
    )
    mode: Literal[SourceMode.TERMS, SourceMode.DEEP] = Field(
        default=SourceMode.TERMS,
        description="What a crawl of a source that can be searched looks for: what the search terms find, or everything"
        " that passes its gate.",
    )
    terms: Path | None = Field(
        default=None, description="File with the search terms, one a line; those that come with CodeLupe if unset."
    )
    full_every: timedelta = Field(
        default=timedelta(days=30),
        gt=timedelta(0),
        description="Time between two complete crawls of such a source; in between it is asked for what has changed.",
    )
    refresh_every: timedelta = Field(
        default=timedelta(days=1),
        gt=timedelta(0),
        description="Time between two rounds that ask what has become of the repositories known longest.",
    )
    github: GitHubSettings = Field(default=GitHubSettings(), description="The source `github`.")
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
    packages: tuple[str, ...] = Field(
        default=(),
        description="Packages whose newest source release is taken as a repository, such as `pypi:flask` or"
        " `npm:@scope/name`; pip and npm say where from.",
    )
    package_timeout: timedelta = Field(
        default=timedelta(minutes=1), gt=timedelta(0), description="How long pip, npm or a package index may take."
    )
    opt_out: tuple[Path, ...] = Field(
        default=(),
        description="Files that list owners and repositories that are never stored.",
    )

    @field_validator("packages")
    @classmethod
    def _are_packages(cls, texts: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(dict.fromkeys(str(Package.parse(text)) for text in texts))

    @field_validator("installed_for")
    @classmethod
    def _are_requirements(cls, texts: tuple[str, ...]) -> tuple[str, ...]:
        for text in texts:
            try:
                Requirement(text)
            except InvalidRequirement as error:
                raise ValueError(f"{text!r} is not a requirement: {error}") from None
        return texts
