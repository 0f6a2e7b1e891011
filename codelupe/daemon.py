"""The daemon's life: state directory, database, migrations, plugins, work, signals, drain."""

from __future__ import annotations

import os
import signal
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Protocol, TypeVar

import anyio
import structlog

import codelupe
from codelupe.config.directories import (
    Directories,
    create_directories,
    held_by_one_daemon,
    locate_directories,
    retention_policy,
)
from codelupe.config.settings import Settings
from codelupe.contracts.boundary import Part
from codelupe.contracts.search import SearchIndex
from codelupe.errors import CodelupeError, ConfigurationError, DatabaseUnavailable
from codelupe.executor import ProcessExecutor
from codelupe.executor.contract import Executor
from codelupe.host.extensions import Extensions
from codelupe.host.host import Host
from codelupe.host.migrations import migrate_plugins
from codelupe.host.status_sections import SECTION_CONNECTIONS
from codelupe.log import EventLog
from codelupe.log.retention import keep_retention
from codelupe.observability import systemd
from codelupe.observability.loop_watch import LoopWatch, record_blocks
from codelupe.observability.metrics import serve_metrics
from codelupe.observability.progress import ProgressTracker
from codelupe.postgres import Database
from codelupe.postgres.embedded import embedded_server
from codelupe.postgres.migrate import migrate, own_migrations
from codelupe.postgres.queries import load_queries
from codelupe.views.metrics import SectionMetrics
from codelupe.work.child_tasks import contain_child_tasks
from codelupe.work.pauses import Pause
from codelupe.work.plugin_calls import PluginCalls
from codelupe.work.registration import register_subscriptions
from codelupe.work.runtime import Runtime
from codelupe.work.scheduler import Scheduler
from codelupe.work.timings import DEFAULT as DEFAULT_TIMINGS
from codelupe.work.timings import Timings
from codelupe.work.worker import Worker

T = TypeVar("T")

log = structlog.get_logger("codelupe")

_DATABASE = load_queries("codelupe_sql", "database")
_LOOK_SECONDS = 1.0
_STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM)
_OTHER_SIGNALS = (signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)
"""Any of them would end the process without a drain, were there no answer to it."""
HOST_CONNECTIONS = 6
"""For feeding, claiming, completing and the like; each is used for a statement at a time."""
_HOST_SESSIONS = 6
_LEAST_ANSWER_SECONDS = 1.5
_ASK_FOR_TIME_SECONDS = 15
PLUGIN_MIGRATION_SECONDS = 300.0
"""A plugin's migration that takes longer at a start breaks the plugin; `codelupe db migrate` sets no limit."""
STALLED_SECONDS = 60.0
"""The watchdog is fed only while the worker came round within this time."""


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """How a run ended."""

    failed_jobs: dict[str, str]
    interrupted: bool
    pauses: Sequence[Pause] = ()
    failed_contributions: Mapping[Part, str] = field(default_factory=dict)
    """Those of which events became dead letters, with the last error."""


class Watcher(Protocol):
    """Observes a running daemon."""

    def stopping(self, *, at_once: bool) -> None:
        """A signal asked the daemon to stop: when running work has ended, or ``at_once``."""
        ...

    async def watch(self, runtime: Runtime, extensions: Extensions) -> None:
        """Runs beside the work and is cancelled at its end."""
        ...

    async def conclude(self, runtime: Runtime, extensions: Extensions) -> None:
        """Called when all is done, unless a signal ended the run; the database is still there."""
        ...


@asynccontextmanager
async def database_url(settings: Settings, folders: Directories) -> AsyncIterator[str]:
    """The URL that the settings name, or that of the embedded server, started here unless it runs already.

    Raises:
        DatabaseUnavailable: it cannot be started.
    """
    if settings.database_url is not None:
        yield settings.database_url.get_secret_value()
        return
    async with embedded_server(folders.state / "postgres") as url:
        yield url


@asynccontextmanager
async def open_database(settings: Settings, folders: Directories) -> AsyncIterator[Database]:
    """The database, for a command.

    Raises:
        DatabaseUnavailable: it cannot be reached or started.
    """
    async with (
        database_url(settings, folders) as url,
        Database(url, connections=settings.database_connections) as database,
    ):
        yield database


@asynccontextmanager
async def open_databases(settings: Settings, folders: Directories) -> AsyncIterator[tuple[Database, Database]]:
    """The daemon's own connections, and those that plugin code is lent, which can so never take the daemon's.

    Raises:
        DatabaseUnavailable: it cannot be reached or started.
    """
    answer_within = max(_LEAST_ANSWER_SECONDS, settings.lease_seconds / 3)
    async with (
        database_url(settings, folders) as url,
        Database(url, connections=HOST_CONNECTIONS, answer_within=answer_within) as own,
        Database(
            url,
            connections=settings.database_connections,
            lent=True,
            answer_within=answer_within,
            outage=own.outage,
        ) as lent,
    ):
        yield own, lent


def connections_needed(settings: Settings, extensions: Extensions) -> int:
    """How many connections one process opens at most.

    Those that plugin code is lent, the host's own, one each for the heartbeat, notifications, metrics, retention,
    partitions and migrations, one for each job and service that only one process of the cluster may run, and those by
    which figures of plugins are read for Prometheus.
    """
    leaders = len(extensions.jobs) + sum(service.leader for service in extensions.services)
    has_figures = settings.metrics_port is not None and any(each.metrics for each in extensions.status_sections)
    figures = SECTION_CONNECTIONS if has_figures else 0
    return settings.database_connections + HOST_CONNECTIONS + _HOST_SESSIONS + leaders + figures


async def keep_embedded_server(database: Database, folders: Directories) -> None:
    """Start the embedded server again whenever it is gone, until cancelled."""
    while True:
        await anyio.sleep(_LOOK_SECONDS)
        try:
            await database.execute(_DATABASE.server_version)
        except DatabaseUnavailable as error:
            log.warning("embedded_server_gone", error=error.message)
            try:
                async with embedded_server(folders.state / "postgres"):
                    log.warning("embedded_server_is_back")
            except CodelupeError as failure:
                log.error("embedded_server_stays_away", error=failure.message, hint=failure.hint)  # noqa: TRY400


def _has_terminal() -> bool:
    """Whether a terminal can hang up on this process."""
    try:
        os.close(os.open("/dev/tty", os.O_RDONLY | os.O_NOCTTY))
    except OSError:
        return False
    return True


async def prepare_database(database: Database, host: Host) -> None:
    """Bring the schema up to date. A plugin whose migration fails is broken, and takes no part."""
    async with anyio.create_task_group() as beside:
        beside.start_soon(_ask_for_time)
        applied = await migrate(database, own_migrations())
        applied += await migrate_plugins(database, host, seconds=PLUGIN_MIGRATION_SECONDS)
        beside.cancel_scope.cancel()
    for migration in applied:
        log.info("migration_applied", owner=migration.owner, number=migration.number, name=migration.name)


async def _ask_for_time() -> None:
    """However long migrations take, the service manager is to wait: killed half-way, they would begin again."""
    while True:
        systemd.notify(f"EXTEND_TIMEOUT_USEC={2 * _ASK_FOR_TIME_SECONDS * 1_000_000}")
        await anyio.sleep(_ASK_FOR_TIME_SECONDS)


class Daemon:
    """One run of the daemon, from start to drain."""

    def __init__(
        self, settings: Settings, host: Host, *, until_idle: bool = False, timings: Timings = DEFAULT_TIMINGS
    ) -> None:
        self._settings = settings
        self._host = host
        self._until_idle = until_idle
        self._timings = timings
        self._signals = 0
        self._stop: Callable[[], None] = lambda: None
        self._watcher: Watcher | None = None

    async def run(self, watcher: Watcher | None = None) -> Outcome:
        """Work until a signal comes or, with ``until_idle``, until there is nothing left to do."""
        systemd.hide_service_manager()
        contain_child_tasks()
        self._watcher = watcher
        outcome = Outcome(failed_jobs={}, interrupted=True)
        with LoopWatch(self._host.packages, self._timings.blocked) as loop_watch:
            async with anyio.create_task_group() as group:
                self._stop = group.cancel_scope.cancel
                group.start_soon(self._obey_signals)
                async with self._prepared() as (runtime, extensions):
                    with runtime.calls.guarded():
                        failed_jobs = await self._work(runtime, extensions, watcher, loop_watch)
                    outcome = Outcome(
                        failed_jobs=failed_jobs,
                        interrupted=self._signals > 0,
                        pauses=runtime.pauses.all,
                        failed_contributions=runtime.pauses.failed,
                    )
                    if watcher is not None and not self._signals:
                        await watcher.conclude(runtime, extensions)
                    log.info("stopped", interrupted=self._signals > 0)
                group.cancel_scope.cancel()
        return replace(outcome, interrupted=self._signals > 0)

    @asynccontextmanager
    async def _prepared(self) -> AsyncIterator[tuple[Runtime, Extensions]]:
        """What must be there before work begins: directories, database, schema, plugins, executor."""
        settings, directories = self._settings, locate_directories(self._settings)
        create_directories(directories)
        with held_by_one_daemon(directories.state):
            async with open_databases(settings, directories) as (database, lent):
                await prepare_database(database, self._host)
                await EventLog(database).require_sequences()
                extensions = self._host.gather(settings.plugins, lent, directories)
                async with self._executor(extensions) as executor:
                    runtime = Runtime(
                        log=EventLog(database),
                        database=lent,
                        directories=directories,
                        executor=executor,
                        search_index=self._search_index(extensions),
                        progress=ProgressTracker(),
                        sources=extensions.sources,
                        repository_rules=extensions.repository_rules,
                        file_rules=extensions.file_rules,
                        scorers=extensions.scorers,
                        sample_formats=extensions.sample_formats,
                        evaluators=extensions.evaluators,
                        timings=self._timings,
                        calls=PluginCalls(self._host.schemas),
                        quarantine_after=settings.quarantine_after,
                    )
                    versions = {plugin.name: plugin.version for plugin in self._host.active}
                    await register_subscriptions(database, extensions.subscriptions, versions)
                    yield runtime, extensions

    async def _work(
        self, runtime: Runtime, extensions: Extensions, watcher: Watcher | None, loop_watch: LoopWatch
    ) -> dict[str, str]:
        """Handle events and run jobs until told to stop; returns the jobs whose last run failed, with the error."""
        settings, database = self._settings, runtime.log.database
        worker = Worker(extensions.subscriptions, runtime, lease=settings.lease, drain=settings.drain)
        scheduler = Scheduler(extensions.jobs, extensions.services, runtime)
        async with anyio.create_task_group() as beside:
            beside.start_soon(runtime.log.notifier.run)
            beside.start_soon(self._feed_watchdog, worker)
            beside.start_soon(record_blocks, loop_watch, database)
            if settings.database_url is None:
                beside.start_soon(keep_embedded_server, database, runtime.directories)
            if (policy := retention_policy(settings)) is not None:
                beside.start_soon(keep_retention, database, policy)
            if watcher is not None:
                beside.start_soon(watcher.watch, runtime, extensions)
            if settings.metrics_port is not None:
                sections = SectionMetrics(extensions.status_sections)
                host, port = settings.metrics_host, settings.metrics_port
                await beside.start(partial(serve_metrics, database, host, port, also=[loop_watch, sections]))
                beside.start_soon(sections.watch, database)
            self._say_ready(extensions)
            await self._run_until_told(worker, scheduler)
            systemd.notify("STOPPING=1")
            beside.cancel_scope.cancel()
        return dict(scheduler.failed)

    async def _run_until_told(self, worker: Worker, scheduler: Scheduler) -> None:
        """The worker outlives the scheduler, so that it can drain."""
        async with anyio.create_task_group() as working:
            working.start_soon(worker.run)
            async with anyio.create_task_group() as scheduling:
                self._stop = self._drain(worker, scheduling.cancel_scope, working.cancel_scope)
                # In tasks of their own: who cancels this one from outside must not look like a job of a plugin.
                if self._until_idle:
                    scheduling.start_soon(scheduler.run_until_idle, worker)
                else:
                    scheduling.start_soon(scheduler.run_on_time)
                    scheduling.start_soon(anyio.sleep_forever)
            worker.stop()
            await worker.stopped.wait()

    def _drain(self, worker: Worker, scheduling: anyio.CancelScope, working: anyio.CancelScope) -> Callable[[], None]:
        """What a signal does from now on: the first lets running work end, the second gives it back at once."""

        def stop() -> None:
            if self._signals > 1:
                working.cancel()
            worker.stop()
            scheduling.cancel()

        return stop

    async def _obey_signals(self) -> None:
        """SIGHUP says that the terminal is gone, perhaps more than once; without a terminal it asks for a reload.

        What the parent has ignored stays so (nohup).
        """
        has_terminal = _has_terminal()
        others = [one for one in _OTHER_SIGNALS if signal.getsignal(one) is not signal.SIG_IGN]
        with anyio.open_signal_receiver(*_STOP_SIGNALS, *others) as signals:
            async for received in signals:
                if received in _STOP_SIGNALS:
                    self._stop_for(received)
                elif received is not signal.SIGHUP:
                    log.warning("signal_ignored", signal=received.name)
                elif not has_terminal:
                    log.warning("reload_not_supported", signal=received.name, hint="Restart to apply new settings.")
                elif not self._signals:
                    self._stop_for(received)

    def _stop_for(self, received: signal.Signals) -> None:
        self._signals += 1
        log.info("stopping", signal=received.name, at_once=self._signals > 1)
        if self._watcher is not None:
            self._watcher.stopping(at_once=self._signals > 1)
        systemd.notify("STOPPING=1")
        self._stop()

    async def _feed_watchdog(self, worker: Worker) -> None:
        interval = systemd.watchdog_interval()
        while interval is not None:
            if anyio.current_time() - worker.alive_at < STALLED_SECONDS:
                systemd.notify("WATCHDOG=1")
            await anyio.sleep(interval / 2)

    def _executor(self, extensions: Extensions) -> Executor:
        settings = self._settings
        processes = ProcessExecutor(
            settings.executor_workers,
            item_seconds=settings.executor_file_seconds,
            memory_mib=settings.executor_worker_mib,
        )
        known: dict[str, Executor] = {"processes": processes, **extensions.executors}
        return self._chosen("executor", known)

    def _search_index(self, extensions: Extensions) -> SearchIndex | None:
        """None when no plugin offers any: only those who would use it miss it."""
        known = extensions.search_indexes
        if not known:
            log.warning("no_search_index", wanted=self._settings.search_index)
            return None
        return self._chosen("search_index", known)

    def _chosen(self, setting: str, known: dict[str, T]) -> T:
        name = getattr(self._settings, setting)
        if name not in known:
            raise ConfigurationError(
                f"{setting} = {name!r}, but no plugin offers that",
                hint=f"Allowed: {', '.join(sorted(known)) or 'nothing, since no plugin offers one'}.",
            )
        return known[name]

    def _say_ready(self, extensions: Extensions) -> None:
        log.info(
            "started",
            version=codelupe.__version__,
            plugins=[plugin.name for plugin in self._host.active],
            broken_plugins=[plugin.name for plugin in self._host.broken],
            subscriptions=len(extensions.subscriptions),
        )
        systemd.notify("READY=1")
