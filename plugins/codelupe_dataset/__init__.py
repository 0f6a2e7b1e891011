"""The files as a data set: which there are, why, how they leave, and how they are forgotten."""

from __future__ import annotations

from typing import TYPE_CHECKING

from codelupe import hookimpl

if TYPE_CHECKING:
    import typer


@hookimpl
def codelupe_commands() -> typer.Typer:
    from codelupe_dataset.commands import app

    return app
