"""``codelupe forget``."""

from __future__ import annotations

import getpass
from collections.abc import Sequence
from typing import Annotated, Any

import msgspec
import typer

from codelupe.commands import (
    AsJson,
    ConfigFile,
    Profile,
    Session,
    out,
    print_json,
    print_table,
    printable,
    with_session,
)
from codelupe_dataset import forgetting
from codelupe_dataset.forgetting import Forgotten, list_forgotten


def forget(
    repository: Annotated[
        str | None, typer.Argument(metavar="OWNER/REPO", help="The repository's name, its id, or its URL.")
    ] = None,
    config: ConfigFile = None,
    profile: Profile = None,
    reason: Annotated[str, typer.Option("--reason", help="Why; it is recorded.")] = "",
    by: Annotated[str | None, typer.Option("--by", help="Who wants it [default: the current user].")] = None,
    list_: Annotated[bool, typer.Option("--list", help="Only show what is forgotten.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would go.")] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    as_json: AsJson = False,
) -> None:
    """Remove a repository for good: files, contents, clone and search entry; no crawl brings it back.

    Models that were trained on it are named and stay as they are, as do data sets that were exported before.
    """
    if list_ == (repository is not None):
        raise typer.BadParameter("give a repository, or --list")

    async def do(session: Session) -> None:
        if repository is None:
            _print_list(await list_forgotten(session.database), as_json=as_json)
            return
        who = by or getpass.getuser()
        forgotten = await forgetting.forget(session.log, repository, by=who, reason=reason, dry_run=True)
        if not as_json:
            _print_plan(forgotten, session)
        done = not dry_run and (yes or as_json or typer.confirm("Go on?", err=True))
        if done:
            forgotten = await forgetting.forget(session.log, repository, by=who, reason=reason)
        if as_json:
            print_json(_as_data(forgotten, done=done))
        elif done:
            _print_done(forgotten)

    with_session(config, profile, do)


def _print_list(rows: Sequence[dict[str, Any]], *, as_json: bool) -> None:
    if as_json:
        print_json(rows)
    elif not rows:
        out.print("Nothing is forgotten.")
    else:
        print_table(["id", "repository", "url", "by", "reason", "when"], [tuple(row.values()) for row in rows])


def _print_plan(forgotten: Forgotten, session: Session) -> None:
    print_table(
        ["repository", "id", "files to delete", "files to empty", "models trained on it"],
        [
            (one.full_name, one.repository_id, one.files, one.kept_without_content, ", ".join(one.models))
            for one in forgotten.repositories
        ],
    )
    _say(f"Clones under {session.directories.repositories} and search entries go with them.")
    if forgotten.models:
        _say("The models stay as they are; path, commit, licence and hash of what they learned from stay on record.")
    _say("Data sets that were exported before still hold the files.")


def _print_done(forgotten: Forgotten) -> None:
    for one in forgotten.repositories:
        _say(f"{one.full_name} is forgotten. The daemon removes clone and search entry, now or when it runs next.")
    if forgotten.released:
        _say("Copies of its files in other repositories had been refused. To have them judged again:")
    for repository_id in forgotten.released:
        for stage in ("filters.file-rules", "scorers.score"):
            _say(f"  codelupe replay {stage} --stream 'repo/{repository_id}'")


def _as_data(forgotten: Forgotten, *, done: bool) -> dict[str, Any]:
    return {
        "forgotten": done,
        "repositories": msgspec.to_builtins(forgotten.repositories),
        "models": forgotten.models,
        "released_copies": dict(forgotten.released),
    }


def _say(text: str) -> None:
    out.print(printable(text), markup=False, highlight=False, soft_wrap=True)
