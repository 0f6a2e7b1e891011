"""The commands."""

from __future__ import annotations

import typer

from codelupe_trainer.models.commands import app as models
from codelupe_trainer.plan.command import app as train

commands = typer.Typer()
commands.add_typer(models, name="models")
commands.add_typer(train, name="train")
