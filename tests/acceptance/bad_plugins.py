"""Plugins at fault in every way that we know, each to be installed as a distribution of its own.

What is quick to fail handles every repository, and is tried again for longer than the connections are hogged, so that
its last error is its own. What holds others up handles one repository (``ONE``), so that a bound can be stated.
"""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from dataclasses import dataclass

BLOCK_SECONDS = 3.0
"""How long one of them blocks the event loop."""
IGNORING_SECONDS = 2.0
"""Timeout and grace of the one that ignores its cancellation."""
CRASHES = 2
"""So many processes it may take with it."""
STORM = 5000
"""So many events one of them emits at once."""

_HEAD = """
import asyncio
import time
from collections.abc import Sequence
from datetime import timedelta
from typing import Any
import anyio
import typer
from pydantic import BaseModel
from codelupe import BatchSubscription, Job, RetryLater, RetryPolicy, Service, Subscription, hookimpl
from codelupe_events import Event, ModelPromoted, ModelRejected, RepoAccepted, RepoDiscovered, event
FAST = RetryPolicy(attempts=4, base=timedelta(seconds=0.5), cap=timedelta(seconds=2))
ONE = "/rich"
HOURLY = timedelta(hours=1)
def is_the_one(event): return event.repository_id.endswith(ONE)
class PanicException(BaseException): ...
async def exit_process(): raise SystemExit(3)
"""
_SUBSCRIPTION = """
@hookimpl
def codelupe_subscriptions():
    return [Subscription(name="s", events=({event},), handler=handle, {options})]
"""


@dataclass(frozen=True, kw_only=True)
class BadPlugin:
    """Its code, and what is said of it."""

    code: str
    said: str
    migrations: Mapping[str, str] | None = None


def _handling(body: str, said: str, *, event: str = "RepoDiscovered", options: str = "retry=FAST") -> BadPlugin:
    """One whose handler does that."""
    handler = f"async def handle(event, context):\n{textwrap.indent(textwrap.dedent(body).strip(), '    ')}\n"
    return BadPlugin(code=_HEAD + handler + _SUBSCRIPTION.format(event=event, options=options), said=said)


def _coded(code: str, said: str, migrations: Mapping[str, str] | None = None) -> BadPlugin:
    return BadPlugin(code=_HEAD + textwrap.dedent(code), said=said, migrations=migrations)


BROKEN = {
    "cannot_import": _coded("import no_such_module", "ModuleNotFoundError"),
    "panics_at_import": _coded("raise PanicException('rust')", "PanicException"),
    "exits_at_import": _coded("raise SystemExit(0)", "SystemExit"),
    "forgot_hookimpl": _coded("def codelupe_subscriptions(): return []", "did you forget"),
    "needs_a_setting": _coded(
        """
        class Settings(BaseModel):
            folder: str
        @hookimpl
        def codelupe_settings(): return Settings
        """,
        "it needs the setting plugins.needs_a_setting.folder",
    ),
    "bad_migration": _coded("", "syntax error", {"0001_x.sql": "create tabel x ();"}),
    "dropper": _coded("", "does not exist", {"0001_x.sql": "drop table repositories cascade;"}),
    "filters": _coded("", "a built-in plugin has this name"),
}
"""By name, with the error that the log and ``plugins list`` give."""

DEAD_LETTERED = {
    "cancels_future": _handling(
        "future = asyncio.get_running_loop().create_future(); future.cancel(); await future", "CancelledError"
    ),
    "cancels_itself": _handling("asyncio.current_task().cancel(); await asyncio.sleep(10)", "CancelledError"),
    "panics": _handling("raise PanicException('index out of bounds')", "PanicException: index out of bounds"),
    "interrupts": _handling("raise KeyboardInterrupt", "KeyboardInterrupt"),
    "exits": _handling(
        "async with anyio.create_task_group() as group: group.start_soon(exit_process)", "SystemExit: 3"
    ),
    "closes": _handling("raise GeneratorExit", "GeneratorExit"),
    "groups": _handling(
        "raise BaseExceptionGroup('several', [PanicException('a'), SystemExit(4)])", "PanicException: a; SystemExit: 4"
    ),
    "commits": _handling(
        "async with context.transaction() as connection: await connection.execute('commit')", "ended the transaction"
    ),
    "limits_its_statement": _handling(
        """
        async with context.transaction() as connection:
            await connection.execute("set statement_timeout = '50ms'")
            await connection.execute("select pg_sleep(60)")
        """,
        "QueryCanceled",
    ),
    "takes_too_long": _handling(
        "await anyio.sleep_forever()", "its timeout", options="retry=FAST, timeout=timedelta(milliseconds=100)"
    ),
    "hogs_connections": _handling(
        """
        async def hold():
            async with context.database.transaction(): await anyio.sleep_forever()
        if is_the_one(event):
            async with anyio.create_task_group() as group:
                for _ in range(20): group.start_soon(hold)
        """,
        "ConnectionsExhausted",
        event="RepoAccepted",
        options="retry=RetryPolicy(attempts=1)",
    ),
    "ignores_cancellation": _handling(
        """
        while is_the_one(event):
            try: await anyio.sleep(0.05)
            except BaseException: continue
        """,
        f"{CRASHES} workers died",
        event="RepoAccepted",
        options=f"retry=RetryPolicy(crashes={CRASHES}), timeout=timedelta(seconds={IGNORING_SECONDS / 2}),"
        f" grace=timedelta(seconds={IGNORING_SECONDS / 2})",
    ),
    "spoils_batches": _coded(
        """
        async def handle(events, context):
            if any(is_the_one(event) for event in events): raise PanicException("a batch")
        @hookimpl
        def codelupe_subscriptions():
            return [BatchSubscription(name="s", events=(RepoDiscovered,), handler=handle, retry=FAST)]
        """,
        "PanicException: a batch",
    ),
}
"""By name, with the error of its dead letters."""

LOGGED = {
    "tasteless": _coded(
        """
        class Taste:
            name, version, weight = "taste", 1, 1.0
            def score(self, file): raise ValueError("no taste")
        @hookimpl
        def codelupe_scorers(): return [Taste()]
        """,
        "quarantined",
    ),
    "answers_42": _coded(
        """
        class Rule:
            name, version = "rule", 1
            def check(self, file): return 42
        @hookimpl
        def codelupe_file_rules(): return [Rule()]
        """,
        "quarantined",
    ),
    "blocks": _handling(f"if is_the_one(event): time.sleep({BLOCK_SECONDS})", "event_loop_blocked"),
    "emits_late": _handling(
        """
        async with context.transaction(): pass
        context.emit(event)
        """,
        "failed_after_commit",
        options="retry=FAST, emits=(RepoDiscovered,)",
    ),
    "puts_off": _handling(
        # For ever, and the run is idle only when it is gone: so it begins when everything else has come to its end.
        'raise RetryLater("not now", after=timedelta(milliseconds=100), counts=False)',
        "retry_later",
        event="ModelPromoted, ModelRejected",
    ),
    "cancelled_job": _coded(
        """
        async def run(context): raise asyncio.CancelledError
        @hookimpl
        def codelupe_jobs(): return [Job(name="j", every=HOURLY, run=run)]
        """,
        "job_failed",
    ),
    "panicking_job": _coded(
        """
        async def run(context): raise PanicException("a job")
        @hookimpl
        def codelupe_jobs(): return [Job(name="j", every=HOURLY, run=run)]
        """,
        "job_failed",
    ),
    "cancelling_service": _coded(
        """
        async def run(context):
            asyncio.current_task().cancel()
            await asyncio.sleep(10)
        @hookimpl
        def codelupe_services(): return [Service(name="s", run=run)]
        """,
        "service_failed",
    ),
}
"""By name, with the event of the log that names it."""

UNSAID = {
    "leaves_things_behind": _handling(
        """
        async with context.database.connection() as connection:
            await connection.execute("select pg_advisory_lock(42)")
            await connection.execute("create temp table repositories (id int); create temp table tasks (id int)")
            await connection.execute("set default_transaction_isolation = 'serializable'; set lock_timeout = '1ms'")
            await connection.execute("set default_transaction_read_only = on; set search_path = pg_temp; listen it")
        """,
        "",
    ),
    "storm": _coded(
        f"""
        @event()
        class Gust(Event, frozen=True, kw_only=True):
            number: int
            def stream(self): return f"storm/{{self.number % 100}}"
        async def raise_storm(event, context):
            if is_the_one(event):
                for number in range({STORM}): context.emit(Gust(number=number))
        async def bear(event, context): ...
        @hookimpl
        def codelupe_subscriptions():
            return [
                Subscription(name="raise", events=(RepoAccepted,), handler=raise_storm, emits=(Gust,)),
                Subscription(name="bear", events=(Gust,), handler=bear),
            ]
        """,
        "",
    ),
    "status_again": _coded(
        """
        app = typer.Typer()
        @app.command()
        def status(): print("not ours")
        @hookimpl
        def codelupe_commands(): return app
        """,
        "",
    ),
}
"""What does no wrong, or none that is a failure, but might do it to others."""
