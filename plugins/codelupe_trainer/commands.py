"""The commands."""

from __future__ import annotations

import typer

from codelupe_trainer.models.commands import app as models

commands = typer.Typer()
commands.add_typer(models, name="models")
