"""``codelupe plugins``."""

from __future__ import annotations

from typing import Any

import typer

from codelupe.cli.output import print_json, print_table
from codelupe.cli.session import AsJson, ConfigFile, Profile, load
from codelupe.host.discovery import Plugin
from codelupe.host.host import Gathered, Host
from codelupe.observability.logs import configure_logging
from codelupe.postgres import Database

app = typer.Typer(no_args_is_help=True, help="Look at the plugins.")


@app.command("list")
def list_(config: ConfigFile = None, profile: Profile = None, as_json: AsJson = False) -> None:
    """List the plugins, what each offers, and why a broken one takes no part."""
    configure_logging("critical", "auto")
    setup = load(config, profile)
    gathered = setup.host.gather(setup.settings.plugins, Database("postgresql:///unused"), setup.directories)
    rows = [_row(plugin, gathered) for plugin in setup.host.plugins]
    if as_json:
        print_json(rows)
        return
    print_table(
        ["plugin", "from", "version", "state", "stages and jobs"],
        [(row["name"], row["distribution"], row["version"], row["state"], _stages(row)) for row in rows],
    )
    _explain_broken(setup.host)


def _row(plugin: Plugin, gathered: Gathered) -> dict[str, Any]:
    return {
        "name": plugin.name,
        "distribution": plugin.distribution,
        "version": plugin.version,
        "state": "disabled" if plugin.disabled else "broken" if plugin.error else "active",
        "error": plugin.error,
        "hooks": plugin.hooks,
        "stages": [
            {
                "name": stage.name,
                "consumes": stage.event_types,
                "emits": [event.__name__ for event in stage.subscription.emits],
            }
            for stage in gathered.stages
            if stage.name.startswith(f"{plugin.name}.")
        ],
        "jobs": [
            {
                "name": job.name,
                "every_seconds": job.job.every.total_seconds(),
                "emits": [event.__name__ for event in job.job.emits],
            }
            for job in gathered.jobs
            if job.name.startswith(f"{plugin.name}.")
        ],
    }


def _stages(row: dict[str, Any]) -> str:
    return ", ".join(each["name"].partition(".")[2] for each in [*row["jobs"], *row["stages"]])


def _explain_broken(host: Host) -> None:
    for plugin in host.broken:
        typer.echo(f"{plugin.name} is broken: {plugin.error}", err=True)
