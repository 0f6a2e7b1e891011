"""``codelupe models``; and ``codelupe train``, whose commands lie in :mod:`codelupe_trainer.plan.command`."""

from __future__ import annotations

from typing import Annotated, Any

import typer
from rich.tree import Tree

from codelupe import CodelupeError
from codelupe.commands import AsJson, ConfigFile, Profile, Session, out, plain, print_json, print_table, with_session
from codelupe_trainer.plan import command as train
from codelupe_trainer.views import read_models, trace_model

_FILES_SHOWN = 3

app = typer.Typer(no_args_is_help=True, help="Look at the models.")


@app.command("list")
def list_(config: ConfigFile = None, profile: Profile = None, as_json: AsJson = False) -> None:
    """List the models, the oldest first, with what the gate decided."""

    async def show(session: Session) -> None:
        models = await read_models(session.database)
        if as_json:
            print_json(models)
        elif not models:
            out.print("No models yet.")
        else:
            print_table(
                ["model", "state", "base", "batch", "losses", "place"],
                [(one["id"], one["state"], one["base"], one["batch"], _losses(one), one["path"]) for one in models],
            )

    with_session(config, profile, show)


@app.command()
def trace(
    model: Annotated[str, typer.Argument(help="The model's name.")],
    config: ConfigFile = None,
    profile: Profile = None,
    as_json: AsJson = False,
    all_files: Annotated[bool, typer.Option("--all-files", help="Name every file, not the first few.")] = False,
) -> None:
    """Lead back from a model to its batch, repositories and files."""

    async def show(session: Session) -> None:
        found = await trace_model(session.database, session.log, model)
        if found is None:
            raise CodelupeError(
                f"there is no model {model!r}", hint="`codelupe models list` names those that there are."
            )
        print_json(found) if as_json else out.print(_model_tree(found, all_files=all_files))

    with_session(config, profile, show)


def _losses(model: dict[str, dict[str, float]]) -> str:
    return ", ".join(f"{name} {loss:.3f}" for name, loss in model["losses"].items())


def _model_tree(trace: dict[str, Any], *, all_files: bool) -> Tree:
    model, batch = trace["model"], trace["batch"]
    tree = Tree(f"[bold]{plain(model['id'])}[/] {model['state']}, trained on {plain(model['base'])}")
    for event in trace["events"]:
        tree.add(f"[dim]{event['position']} {event['recorded_at'][:19]}[/] {event['type']}")
    branch = tree.add(
        f"[bold]batch {batch['id']}[/] {batch['files']:,} files of {len(trace['repositories']):,} repositories"
    )
    for repository in trace["repositories"]:
        files = repository["files"]
        leaf = branch.add(
            f"{plain(repository['full_name'])} [dim]at {repository['commit'][:12]}[/] "
            f"{plain(repository['licence'] or 'licence unknown')}, {len(files):,} files"
        )
        for file in files if all_files else files[:_FILES_SHOWN]:
            leaf.add(f"[dim]{plain(file['path'])} {file['score']:.0f} {file['split']}[/]")
        if not all_files and len(files) > _FILES_SHOWN:
            leaf.add(f"[dim]… {len(files) - _FILES_SHOWN:,} more[/]")
    return tree


commands = typer.Typer()
commands.add_typer(app, name="models")
commands.add_typer(train.app, name="train")
