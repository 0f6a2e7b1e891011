"""``codelupe scores``."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from codelupe.commands import AsJson, ConfigFile, Profile, Session, out, print_json, print_table, with_session
from codelupe_dataset.commands.files import Language, Repository
from codelupe_dataset.score_changes import compare_scores
from codelupe_dataset.selection import Selection

app = typer.Typer(no_args_is_help=True, help="Look at the scores of files.")


@app.command()
def diff(
    config: ConfigFile = None,
    profile: Profile = None,
    as_json: AsJson = False,
    repository: Repository = None,
    language: Language = None,
    dimension: Annotated[
        str | None, typer.Option("--dimension", help="Only this one, such as structure; total is the mean of them all.")
    ] = None,
    threshold: Annotated[
        float, typer.Option("--threshold", help="Count the files that rose to this or fell below it.")
    ] = 70,
    largest: Annotated[int, typer.Option("--largest", min=0, help="How many of the largest changes to name.")] = 10,
) -> None:
    """Compare the scores of files that were scored anew with those before."""

    async def show(session: Session) -> None:
        changes = await compare_scores(
            session.database,
            Selection(repository=repository, language=language),
            dimension=dimension,
            threshold=threshold,
            largest=largest,
        )
        print_json(changes) if as_json else _print(changes)

    with_session(config, profile, show)


def _print(changes: dict[str, Any]) -> None:
    if not changes["dimensions"]:
        out.print("No file was scored anew.")
        return
    threshold = f"{changes['threshold']:g}"
    print_table(
        ["dimension", "versions", "files", "mean before", "after", f"up to {threshold}", f"below {threshold}"],
        [
            (
                one["dimension"],
                _versions(one),
                one["files_after"],
                one["mean_before"],
                one["mean_after"],
                one["up"],
                one["down"],
            )
            for one in changes["dimensions"]
        ],
    )
    files = changes["largest"]["files"]
    if files:
        out.print()
        columns = ("id", "repository", "path", "before", "after")
        title = f"largest changes ({changes['largest']['dimension']})"
        print_table(columns, [[str(file["id"]), *[file[name] for name in columns[1:]]] for file in files], title=title)


def _versions(one: dict[str, Any]) -> str:
    before, after = one["version_before"], one["version_after"]
    return (
        f"{before}" if before == after and before else f"{before or '-'} to {after or '-'}" if before or after else ""
    )
