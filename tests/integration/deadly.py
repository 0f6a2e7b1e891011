"""A daemon whose batch handler ends the process over one event, or whose job ends it, until idle.

``python -m tests.integration.deadly URL STATE (BATCH_ID|job)``
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path

import anyio

from codelupe import BatchContext, BatchSubscription, Job, JobContext, RetryPolicy
from codelupe.config.sources import Layer, RawSettings, validate
from codelupe.daemon import Daemon
from codelupe.host.discovery import Plugin
from codelupe.host.host import Host
from codelupe_events import BatchReady
from tests.plugins import make_plugin
from tests.processes import HANGS

DEADLY = 9


async def run_deadly(url: str, folder: Path, deadly: str) -> int:
    """The exit code of one run in a process of its own."""
    arguments = [sys.executable, "-m", "tests.integration.deadly", url, str(folder / "state"), deadly]
    with anyio.fail_after(HANGS):
        return (await anyio.run_process(arguments, check=False)).returncode


def main() -> None:
    _, url, state, deadly = sys.argv

    async def handle(events: Sequence[BatchReady], context: BatchContext) -> None:
        if any(str(event.batch_id) == deadly for event in events):
            os._exit(DEADLY)
        for event in events:
            await context.connection.execute("insert into ledger (stream) values ($1)", event.batch_id)

    async def run(_: JobContext) -> None:
        if deadly == "job":
            os._exit(DEADLY)

    subscription = BatchSubscription(name="s", events=(BatchReady,), handler=handle, retry=RetryPolicy(crashes=2))
    plugin = make_plugin(subscriptions=[subscription], jobs=[Job(name="j", every=timedelta(hours=1), run=run)])
    host = Host([Plugin(name="deadly", distribution="test", version="0", target=plugin)])
    raw = RawSettings([Layer("command line", {"state_dir": state, "database_url": url})])
    anyio.run(Daemon(validate(raw, host.settings_models(), environment={}).settings, host, until_idle=True).run)


if __name__ == "__main__":
    main()
