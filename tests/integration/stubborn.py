"""A daemon whose plugin does not end when it is cancelled, in a process of its own.

``python -m tests.integration.stubborn URL STATE WAY``
"""

from __future__ import annotations

import os
import signal
import sys
import time
from datetime import timedelta

import anyio

from codelupe import HandlerContext, Job, JobContext, Subscription
from codelupe.config.sources import Layer, RawSettings, validate
from codelupe.daemon import Daemon
from codelupe.host.discovery import Plugin
from codelupe.host.host import Host
from codelupe.observability.logs import configure_logging
from codelupe_events import BatchReady
from tests.plugins import make_plugin

SOON = timedelta(milliseconds=100)
GRACE = timedelta(milliseconds=600)


async def go_on(way: str) -> None:
    """For as long as any test waits."""
    match way:
        case "blocks":
            time.sleep(600)
        case "shields":
            with anyio.CancelScope(shield=True):
                await anyio.sleep_forever()
        case _:
            while True:
                try:
                    await anyio.sleep(0.05)
                except BaseException:
                    continue


def main() -> None:
    _, url, state, way = sys.argv

    async def handle(event: BatchReady, context: HandlerContext) -> None:
        if way == "swallows_when_drained":
            os.kill(os.getpid(), signal.SIGTERM)
        await go_on(way)

    async def run(context: JobContext) -> None:
        await go_on(way)

    timeout = None if way == "swallows_when_drained" else SOON
    if "job" in way:
        plugin = make_plugin(jobs=[Job(name="j", every=SOON, run=run, timeout=timeout, grace=GRACE)])
    else:
        subscription = Subscription(name="s", events=(BatchReady,), handler=handle, timeout=timeout, grace=GRACE)
        plugin = make_plugin(subscriptions=[subscription])
    host = Host([Plugin(name="stubborn", distribution="test", version="0", target=plugin)])
    settings = {"state_dir": state, "database_url": url, "drain_seconds": 0.1}
    configure_logging("info", "json")
    raw = RawSettings([Layer("command line", settings)])
    anyio.run(Daemon(validate(raw, host.settings_models(), environment={}).settings, host).run)


if __name__ == "__main__":
    main()
