"""A daemon whose batch handler ends the process over one event, until idle.

``python -m tests.integration.deadly URL STATE BATCH_ID``
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

import anyio

from codelupe import BatchContext, BatchSubscription, RetryPolicy
from codelupe.config.sources import Layer, RawSettings, validate
from codelupe.daemon import Daemon
from codelupe.host.discovery import Plugin
from codelupe.host.host import Host
from codelupe_events import BatchReady
from tests.plugins import make_plugin

DEADLY = 9


def main() -> None:
    _, url, state, deadly = sys.argv

    async def handle(events: Sequence[BatchReady], context: BatchContext) -> None:
        if any(event.batch_id == int(deadly) for event in events):
            os._exit(DEADLY)
        for event in events:
            await context.connection.execute("insert into ledger (stream) values ($1)", event.batch_id)

    subscription = BatchSubscription(name="s", events=(BatchReady,), handler=handle, retry=RetryPolicy(crashes=2))
    plugin = make_plugin(subscriptions=[subscription])
    host = Host([Plugin(name="deadly", distribution="test", version="0", target=plugin)])
    raw = RawSettings([Layer("command line", {"state_dir": state, "database_url": url})])
    anyio.run(Daemon(validate(raw, host.settings_models(), environment={}).settings, host, until_idle=True).run)


if __name__ == "__main__":
    main()
