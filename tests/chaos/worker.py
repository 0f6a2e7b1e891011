"""One of the processes that are killed: a real daemon of the chaos plugin. ``python -m tests.chaos.worker`` runs it."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from random import Random

import anyio

from codelupe.config.sources import Layer, RawSettings, validate
from codelupe.daemon import Daemon
from codelupe.errors import DatabaseUnavailable
from codelupe.host.discovery import Plugin
from codelupe.host.host import Host
from codelupe.observability.logs import configure_logging
from tests.chaos.plugin import NAME, NEWER, OLDER, ChaosPlugin
from tests.chaos.sabotage import SABOTAGE

LEASE_SECONDS = 2.0


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("url")
    parser.add_argument("state", type=Path)
    parser.add_argument("--seed", required=True)
    parser.add_argument("--version", choices=(OLDER, NEWER), required=True)
    parser.add_argument("--sabotage", choices=SABOTAGE)
    arguments = parser.parse_args()
    configure_logging("info", "json")
    if arguments.sabotage:
        SABOTAGE[arguments.sabotage]()
    try:
        plugin = ChaosPlugin(Random(arguments.seed), arguments.version)
        anyio.run(_daemon(arguments.url, arguments.state, plugin, arguments.version).run)
    except* DatabaseUnavailable:
        sys.exit(DatabaseUnavailable.exit_code)


def _daemon(url: str, state: Path, plugin: ChaosPlugin, version: str) -> Daemon:
    host = Host([Plugin(name=NAME, distribution="test", version=version, target=plugin)])
    settings = {
        "state_dir": str(state),
        "database_url": url,
        "database_connections": 12,
        "lease_seconds": LEASE_SECONDS,
        "drain_seconds": 10,
    }
    raw = RawSettings([Layer("command line", settings)])
    return Daemon(validate(raw, host.settings_models(), environment={}).settings, host)


if __name__ == "__main__":
    main()
