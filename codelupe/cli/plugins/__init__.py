"""``codelupe plugins``: a module for each command."""

from __future__ import annotations

import typer

from codelupe.cli.plugins.listing import list_

app = typer.Typer(no_args_is_help=True, help="Look at the plugins.")
app.command("list")(list_)


@app.callback()
def _group() -> None:
    """Keeps ``list`` a command of the group while it is the only one."""
