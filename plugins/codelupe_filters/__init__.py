"""Decides which repositories are cloned, and which files of a clone are kept."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from codelupe import FileRule, RepositoryRule, StatusSection, Subscription, hookimpl
from codelupe_events import FilesExtracted, RepoAccepted, RepoChanged, RepoCloned, RepoDiscovered, RepoRejected
from codelupe_filters.extract import ExtractFiles
from codelupe_filters.file_rules import file_rules
from codelupe_filters.repositories import JudgeRepositories
from codelupe_filters.repository_rules import repository_rules
from codelupe_filters.settings import FiltersSettings
from codelupe_filters.status import count_files, read_files

if TYPE_CHECKING:
    import typer


@hookimpl
def codelupe_commands() -> typer.Typer:
    from codelupe_filters.commands import app

    return app


@hookimpl
def codelupe_settings() -> type[FiltersSettings]:
    return FiltersSettings


@hookimpl
def codelupe_repository_rules(settings: FiltersSettings) -> list[RepositoryRule]:
    return repository_rules(settings)


@hookimpl
def codelupe_file_rules(settings: FiltersSettings) -> list[FileRule]:
    return file_rules(settings)


@hookimpl
def codelupe_status_sections() -> list[StatusSection]:
    return [StatusSection(name="files", read=read_files, counts=count_files)]


@hookimpl
def codelupe_subscriptions(settings: FiltersSettings) -> list[Subscription]:
    return [
        Subscription(
            name="repository-rules",
            events=(RepoDiscovered, RepoChanged),
            emits=(RepoAccepted, RepoRejected),
            handler=JudgeRepositories(settings),
            concurrency=8,
        ),
        Subscription(
            name="file-rules",
            events=(RepoCloned,),
            emits=(FilesExtracted,),
            handler=ExtractFiles(settings),
            timeout=timedelta(hours=6),  # for the largest clone on a small machine
            # A clone that went missing must not hold back the one that follows it.
            dead_letter_blocks_stream=False,
        ),
    ]
