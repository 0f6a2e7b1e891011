"""``codelupe models``."""

from __future__ import annotations

import typer

from codelupe.cli.output import out, print_json, print_table
from codelupe.cli.session import AsJson, ConfigFile, Profile, Session, with_session
from codelupe.views.pipeline import read_models

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


def _losses(model: dict[str, dict[str, float]]) -> str:
    return ", ".join(f"{name} {loss:.3f}" for name, loss in model["losses"].items())
