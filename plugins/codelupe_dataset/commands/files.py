"""``codelupe files``."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from codelupe.commands import ConfigFile, Profile, Session, err, out, print_json, print_table, with_session
from codelupe_dataset.selection import Selection, list_files

Repository = Annotated[str | None, typer.Option("--repository", metavar="OWNER/REPO", help="Only of this repository.")]
Language = Annotated[str | None, typer.Option("--language", help="Only in this language, such as rust.")]
Licence = Annotated[str | None, typer.Option("--licence", help="Only under this licence (SPDX), or unknown.")]
MaxScore = Annotated[float | None, typer.Option("--max-score", help="Only with at most this score.")]

_IN_A_TABLE = 100


def files(
    config: ConfigFile = None,
    profile: Profile = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document a line.")] = False,
    repository: Repository = None,
    language: Language = None,
    licence: Licence = None,
    rejected_by: Annotated[
        str | None, typer.Option("--rejected-by", metavar="RULE", help="Only refused by this rule.")
    ] = None,
    min_score: Annotated[float | None, typer.Option("--min-score", help="Only with at least this score.")] = None,
    max_score: MaxScore = None,
    limit: Annotated[
        int | None,
        typer.Option("--limit", "-n", min=1, help=f"How many at most [default: {_IN_A_TABLE}; all with --json]."),
    ] = None,
) -> None:
    """List the files that were looked at, stored and refused ones."""
    selection = Selection(
        repository=repository,
        language=language,
        licence=licence,
        rejected_by=rejected_by,
        min_score=min_score,
        max_score=max_score,
    )

    async def show(session: Session) -> None:
        if as_json:
            async for file in list_files(session.database, selection, limit):
                print_json(file, on_one_line=True)
        else:
            shown = limit or _IN_A_TABLE
            _print([file async for file in list_files(session.database, selection, shown + 1)], shown)

    with_session(config, profile, show)


def _print(found: list[dict[str, Any]], shown: int) -> None:
    if not found:
        out.print("No such files.")
        return
    columns = ("id", "repository", "path", "language", "licence", "characters", "score", "rejected_by")
    print_table(
        [name.replace("_", " ") for name in columns], [[file[name] for name in columns] for file in found[:shown]]
    )
    if len(found) > shown:
        err.print(f"There are more: --limit {2 * shown} shows some, --json all.", highlight=False)
