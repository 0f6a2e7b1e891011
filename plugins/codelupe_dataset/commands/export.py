"""``codelupe export``."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from codelupe.commands import AsJson, ConfigFile, Session, err, out, print_json, with_session
from codelupe.commands import Profile as ProfileName
from codelupe_dataset import export as dataset_export
from codelupe_dataset.commands.files import Language, Licence, Repository
from codelupe_dataset.export import Report
from codelupe_dataset.manifest import Manifest, Options
from codelupe_dataset.selection import Selection


class Format(StrEnum):
    """How files are written."""

    parquet = "parquet"
    jsonl = "jsonl"


def export(
    folder: Annotated[Path, typer.Argument(metavar="OUT", help="A new folder, or one in which an export was begun.")],
    config: ConfigFile = None,
    profile: ProfileName = None,
    format_: Annotated[
        Format, typer.Option("--format", help="Parquet needs pyarrow, from the extra archive.")
    ] = Format.parquet,
    min_score: Annotated[float, typer.Option("--min-score", help="Only files with at least this score.")] = 70,
    repository: Repository = None,
    language: Language = None,
    licence: Licence = None,
    shard_files: Annotated[int, typer.Option("--shard-files", min=1, help="How many files go into a shard.")] = 50_000,
    as_json: AsJson = False,
) -> None:
    """Write the curated data set with its provenance; the same command again resumes an interrupted export."""
    selection = Selection(repository=repository, language=language, licence=licence, min_score=min_score)
    options = Options(format=format_.value, selection=selection, shard_files=shard_files)

    async def do(session: Session) -> None:
        with _shown(is_silent=as_json) as report:
            manifest = await dataset_export.export(session.database, folder, options, report)
        if as_json:
            print_json(manifest)
        else:
            out.print(
                f"{folder} holds {manifest.files:,} files (shards: {len(manifest.shards):,}) and a card, README.md.",
                markup=False,
                highlight=False,
                soft_wrap=True,
            )

    with_session(config, profile, do)


@contextmanager
def _shown(*, is_silent: bool) -> Iterator[Report]:
    """A bar on a terminal, else a line for each shard, on standard error."""
    if not err.is_terminal:
        yield _Lines(is_silent=is_silent)
        return
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    with Progress(*columns, console=err) as progress:
        bar = progress.add_task("files")

        def report(manifest: Manifest, written: int) -> None:
            progress.update(bar, completed=written, total=manifest.snapshot.files)

        yield report


class _Lines:
    """Says at each new shard how far it is."""

    def __init__(self, *, is_silent: bool) -> None:
        self._said = -1
        self._is_silent = is_silent

    def __call__(self, manifest: Manifest, written: int) -> None:
        if len(manifest.shards) != self._said and not self._is_silent:
            self._said = len(manifest.shards)
            err.print(f"{written:,} of {manifest.snapshot.files:,} files", highlight=False)
