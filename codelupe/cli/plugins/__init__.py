"""``codelupe plugins``: a module for each command."""

from __future__ import annotations

import typer

from codelupe.cli.plugins.listing import list_
from codelupe.cli.plugins.pausing import pause_, resume_
from codelupe.cli.plugins.retire import retire_

app = typer.Typer(no_args_is_help=True, help="Manage the plugins.")
app.command("list")(list_)
app.command("pause")(pause_)
app.command("resume")(resume_)
app.command("retire")(retire_)
