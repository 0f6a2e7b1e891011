"""The commands, a module each."""

import typer

from codelupe_dataset.commands import scores
from codelupe_dataset.commands.explain import explain
from codelupe_dataset.commands.export import export
from codelupe_dataset.commands.files import files
from codelupe_dataset.commands.forget import forget

app = typer.Typer()
for _command in (files, explain, export, forget):
    app.command()(_command)
app.add_typer(scores.app, name="scores")
