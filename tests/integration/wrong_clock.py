"""A daemon in a process whose clock is wrong: ``python -m tests.integration.wrong_clock HOURS HOST STATE URL``.

Its one stage notes in ``starts`` that it has begun an event, waits until ``gate`` is open and emits another event.
What asks for it by its ``files`` is first put off for an hour.
"""

from __future__ import annotations

import socket
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta, tzinfo
from typing import Any, Self

import anyio

from codelupe import HandlerContext, RetryLater, Subscription
from codelupe.config.sources import Layer, RawSettings, validate
from codelupe.daemon import Daemon
from codelupe.host.discovery import Plugin
from codelupe.host.host import Host
from codelupe_events import BatchReady
from tests.plugins import empty, make_plugin

PUT_OFF = 1
"""So many files mean: not now."""
LEASE_SECONDS = 12


def put_wrong(by: timedelta, host: str) -> None:
    """From here on this process has another time of day, and another name, than it should; codelupe knows no better."""
    real_time, real_time_ns, real_datetime = time.time, time.time_ns, datetime

    class WrongDatetime(datetime):
        @classmethod
        def now(cls, tz: tzinfo | None = None) -> Self:
            return cls.fromtimestamp(real_time(), tz) + by

        @classmethod
        def utcnow(cls) -> Self:
            return cls.now(UTC).replace(tzinfo=None)

    replace(real_time, lambda: real_time() + by.total_seconds())
    replace(real_time_ns, lambda: real_time_ns() + by // timedelta(microseconds=1) * 1000)
    replace(real_datetime, WrongDatetime)
    replace(socket.gethostname, lambda: host)


def replace(right: Callable[..., Any], wrong: Callable[..., Any]) -> None:
    """Wherever codelupe could find it."""
    ours = [module for name, module in sys.modules.items() if name.partition(".")[0].startswith("codelupe")]
    for module in (time, socket, *ours):
        for name, value in list(vars(module).items()):
            if value is right:
                setattr(module, name, wrong)


async def handle(event: BatchReady, context: HandlerContext) -> None:
    await context.database.execute(
        "insert into starts values ($1, $2, $3)", socket.gethostname(), event.batch_id, context.attempt
    )
    if event.files == PUT_OFF and context.attempt == 1:
        raise RetryLater("in an hour", after=timedelta(hours=1))
    while not await context.database.fetchval("select count(*) from gate"):
        await anyio.sleep(0.05)
    context.emit(empty(event.batch_id))


def main(hours: str, host: str, state: str, url: str) -> None:
    put_wrong(timedelta(hours=float(hours)), host)
    subscription = Subscription(name="s", events=(BatchReady,), handler=handle, concurrency=1)
    plugin = make_plugin(subscriptions=[subscription])
    it = Host([Plugin(name="test", distribution="test", version="0", target=plugin)])
    values = {"state_dir": state, "database_url": url, "lease_seconds": LEASE_SECONDS}
    settings = validate(RawSettings([Layer("command line", values)]), it.settings_models(), environment={}).settings
    anyio.run(Daemon(settings, it).run)


if __name__ == "__main__":
    main(*sys.argv[1:])
