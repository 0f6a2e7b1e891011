"""``codelupe plugins``."""

from __future__ import annotations

from typing import Any

import typer

from codelupe.cli.output import print_json, print_table
from codelupe.cli.session import AsJson, ConfigFile, Profile, load
from codelupe.host.discovery import Plugin
from codelupe.host.extensions import Extensions
from codelupe.host.host import Host
from codelupe.observability.logs import configure_logging
from codelupe.postgres import Database

app = typer.Typer(no_args_is_help=True, help="Look at the plugins.")


@app.command("list")
def list_(config: ConfigFile = None, profile: Profile = None, as_json: AsJson = False) -> None:
    """List the plugins, what each offers, and why a broken one takes no part."""
    configure_logging("critical", "auto")
    setup = load(config, profile)
    extensions = setup.host.gather(setup.settings.plugins, Database("postgresql:///unused"), setup.directories)
    rows = [_row(plugin, extensions) for plugin in setup.host.plugins]
    if as_json:
        print_json(rows)
        return
    print_table(
        ["plugin", "from", "version", "state", "subscriptions and jobs"],
        [(row["name"], row["distribution"], row["version"], row["state"], _subscriptions(row)) for row in rows],
    )
    _explain_broken(setup.host)


def _row(plugin: Plugin, extensions: Extensions) -> dict[str, Any]:
    return {
        "name": plugin.name,
        "distribution": plugin.distribution,
        "version": plugin.version,
        "state": "disabled" if plugin.disabled else "broken" if plugin.error else "active",
        "error": plugin.error,
        "hooks": plugin.hooks,
        "subscriptions": [
            {
                "name": subscription.name,
                "consumes": subscription.event_types,
                "emits": [event.__name__ for event in subscription.emits],
            }
            for subscription in extensions.subscriptions
            if subscription.name.startswith(f"{plugin.name}.")
        ],
        "jobs": [
            {
                "name": job.name,
                "every_seconds": job.every.total_seconds(),
                "emits": [event.__name__ for event in job.emits],
            }
            for job in extensions.jobs
            if job.name.startswith(f"{plugin.name}.")
        ],
    }


def _subscriptions(row: dict[str, Any]) -> str:
    return ", ".join(each["name"].partition(".")[2] for each in [*row["jobs"], *row["subscriptions"]])


def _explain_broken(host: Host) -> None:
    for plugin in host.broken:
        typer.echo(f"{plugin.name} is broken: {plugin.error}", err=True)
