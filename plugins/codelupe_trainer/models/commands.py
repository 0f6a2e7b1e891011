"""``codelupe models``."""

from __future__ import annotations

from typing import Annotated

import typer

from codelupe.commands import (
    AsJson,
    ConfigFile,
    Profile,
    Session,
    err,
    out,
    print_json,
    print_table,
    printable,
    with_session,
)
from codelupe_trainer.current import CURRENT
from codelupe_trainer.models import using
from codelupe_trainer.models.known import affected_by, compare_models, describe_model, find_model
from codelupe_trainer.models.promotion import previous_model, promote
from codelupe_trainer.models.showing import held_out, losses, model_tree, print_comparison, print_model
from codelupe_trainer.views import read_models, trace_model

Model = using.Model

app = typer.Typer(no_args_is_help=True, help="Look at the models, and put them in use.")
app.command("export")(using.export)
app.command("try")(using.try_)


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
                ["model", "state", "base", "batch", "losses", "bits per byte"],
                [(one["id"], one["state"], one["base"], one["batch"], losses(one), held_out(one)) for one in models],
            )

    with_session(config, profile, show)


@app.command()
def trace(
    model: Model,
    config: ConfigFile = None,
    profile: Profile = None,
    as_json: AsJson = False,
    all_files: Annotated[bool, typer.Option("--all-files", help="Name every file, not the first few.")] = False,
) -> None:
    """Lead back from a model to its batch, repositories and files."""

    async def show(session: Session) -> None:
        await find_model(session.database, model)
        found = await trace_model(session.database, session.log, model)
        assert found is not None
        print_json(found) if as_json else out.print(model_tree(found, all_files=all_files))

    with_session(config, profile, show)


@app.command()
def show(
    model: Model,
    config: ConfigFile = None,
    profile: Profile = None,
    as_json: AsJson = False,
    card: Annotated[bool, typer.Option("--card", help="Print the model card, in Markdown.")] = False,
) -> None:
    """Show what is known of a model: how it was trained, on what, and what the gate measured and decided."""

    async def do(session: Session) -> None:
        found = await describe_model(session.database, session.directories.models, model)
        if as_json:
            print_json(found)
        elif card:
            out.print(printable(found["card"] or "There is no card."), markup=False, highlight=False, soft_wrap=True)
        else:
            print_model(found)

    with_session(config, profile, do)


@app.command()
def compare(
    one: Annotated[str, typer.Argument(metavar="A", help="A model's name.")],
    other: Annotated[str, typer.Argument(metavar="B", help="Another's.")],
    config: ConfigFile = None,
    profile: Profile = None,
    as_json: AsJson = False,
) -> None:
    """Put the figures of two models side by side, as they were measured when each was judged."""

    async def do(session: Session) -> None:
        found = await compare_models(session.database, (one, other))
        print_json(found) if as_json else print_comparison(found)

    with_session(config, profile, do)


@app.command("affected-by")
def affected_by_(
    repository: Annotated[str, typer.Argument(metavar="OWNER/REPO", help="Its name, its id, or its URL.")],
    config: ConfigFile = None,
    profile: Profile = None,
    as_json: AsJson = False,
) -> None:
    """Name every model that learned from a repository, forgotten or not, and those that went on from such a model."""

    async def do(session: Session) -> None:
        found = await affected_by(session.database, repository)
        if as_json:
            print_json(found)
        elif not found["models"]:
            out.print("No model has learned from it.")
        else:
            print_table(
                ["model", "state", "files of it", "went on from"],
                [(one["id"], one["state"], one["files"], one["parent"]) for one in found["models"]],
            )

    with_session(config, profile, do)


@app.command("promote")
def promote_(model: Model, config: ConfigFile = None, profile: Profile = None, as_json: AsJson = False) -> None:
    """Put a model in use, whatever the gate decided; the log records it."""

    async def do(session: Session) -> None:
        in_use = await promote(session.log, session.directories.models, model)
        _say_in_use(session, in_use, as_json=as_json)

    with_session(config, profile, do)


@app.command()
def rollback(config: ConfigFile = None, profile: Profile = None, as_json: AsJson = False) -> None:
    """Put the model in use that was before the one that is, on the same base.

    Given twice, it comes back to where it began; `codelupe models promote` goes further.
    """

    async def do(session: Session) -> None:
        models = session.directories.models
        before, model = await previous_model(session.log, models)
        in_use = await promote(session.log, models, model)
        if not as_json:
            err.print(f"It was {before}.", markup=False, highlight=False)
        _say_in_use(session, in_use, as_json=as_json)

    with_session(config, profile, do)


def _say_in_use(session: Session, model: str, *, as_json: bool) -> None:
    link = session.directories.models / CURRENT
    if as_json:
        print_json({"in_use": model, "link": link})
    else:
        out.print(f"{model} is in use; {link} leads to it.", markup=False, highlight=False, soft_wrap=True)
