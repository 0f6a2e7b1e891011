"""Jobs and services: work that no event starts."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from datetime import timedelta

import anyio
import asyncpg
import structlog

from codelupe.errors import DatabaseUnavailable
from codelupe.postgres import Connection
from codelupe.postgres.queries import load_queries
from codelupe.work.attempt import describe
from codelupe.work.context import JobContext, Runtime
from codelupe.work.subscriptions import NamedJob, NamedService, RetryPolicy, backoff
from codelupe.work.worker import POLL_SECONDS, Worker

SQL = load_queries("codelupe_sql", "log")
_RESTARTS = RetryPolicy(base=timedelta(seconds=1), cap=timedelta(minutes=5))
_LEADER_POLL_SECONDS = 5.0

log = structlog.get_logger("codelupe")


class Scheduler:
    """Runs jobs when they are due, or whenever the log is quiet, and keeps services up."""

    def __init__(self, jobs: Sequence[NamedJob], services: Sequence[NamedService], runtime: Runtime) -> None:
        self._jobs = jobs
        self._services = services
        self._runtime = runtime
        self._database = runtime.log.database
        self._signal = runtime.log.notifier.signal()
        self.failed: dict[str, str] = {}
        """Jobs whose last run raised, with the error."""

    async def run_on_time(self) -> None:
        """Run each job at its interval, and the services, until cancelled."""
        async with anyio.create_task_group() as group:
            for job in self._jobs:
                group.start_soon(self._repeat, job)
            for service in self._services:
                group.start_soon(self._keep_up, service)

    async def run_until_idle(self, worker: Worker) -> None:
        """Run the jobs one after another whenever the log is quiet; return when none brings anything new.

        After each job that brought something the stages get to handle all of it before the next one runs, so what
        a job sees does not depend on timing.
        """
        while True:
            for job in self._jobs:
                await self._until_quiet(worker)
                if await self._brings_something(job):
                    break
            else:
                return await self._until_quiet(worker)

    async def _until_quiet(self, worker: Worker) -> None:
        while True:
            try:
                if await worker.is_quiet():
                    return
            except DatabaseUnavailable:
                log.debug("quiet_unknown")
            await self._signal.wait(POLL_SECONDS / 4)

    async def _brings_something(self, job: NamedJob) -> bool:
        while True:
            try:
                return bool(await self._run_once(job, even_if_not_due=True))
            except DatabaseUnavailable as error:
                log.warning("database_unavailable", error=error.message)
                await anyio.sleep(POLL_SECONDS)

    async def _repeat(self, job: NamedJob) -> None:
        while True:
            try:
                wait = await self._database.fetchval(SQL.job_due, job.name, job.job.every) or 0
                if wait <= 0 and await self._run_once(job) is None:
                    wait = _LEADER_POLL_SECONDS
            except DatabaseUnavailable as error:
                log.warning("database_unavailable", job=job.name, error=error.message)
                wait = POLL_SECONDS
            await anyio.sleep(max(0.0, min(wait, 60.0)))

    async def _run_once(self, job: NamedJob, *, even_if_not_due: bool = False) -> int | None:
        """How many events the run brought; None if another process runs it."""
        async with self._leading(job.name) as leads:
            if not leads:
                return None
            if not await self._database.fetchval(SQL.job_begin, job.name, job.job.every, even_if_not_due):
                return None
            context = JobContext(job.name, self._runtime)
            error = await self._run_job(job, context)
            await self._database.execute(SQL.job_end, job.name, error)
            return context.appended

    async def _run_job(self, job: NamedJob, context: JobContext) -> str | None:
        self.failed.pop(job.name, None)
        try:
            with self._runtime.board.working(job.name, job.name):
                await job.job.run(context)
        except DatabaseUnavailable:
            raise
        except (Exception, SystemExit) as error:
            context.log.error("job_failed", error=describe(error), exc_info=error)
            self.failed[job.name] = describe(error)
        return self.failed.get(job.name)

    async def _keep_up(self, named: NamedService) -> None:
        failures = 0
        while True:
            began = anyio.current_time()
            try:
                async with self._leading(named.name, needed=named.service.leader) as leads:
                    if leads:
                        await named.service.run(JobContext(named.name, self._runtime))
                        return
                await anyio.sleep(_LEADER_POLL_SECONDS)
            except (Exception, SystemExit) as error:
                failures = 1 if anyio.current_time() - began > _RESTARTS.cap.total_seconds() else failures + 1
                pause = backoff(_RESTARTS, failures).total_seconds()
                log.error("service_failed", stage=named.name, error=describe(error), restart_in_seconds=round(pause, 1))
                await anyio.sleep(pause)

    @asynccontextmanager
    async def _leading(self, name: str, *, needed: bool = True) -> AsyncIterator[bool]:
        """Hold the cluster's only lock of this name, on a connection whose end would free it.

        Raises:
            DatabaseUnavailable: the connection ended meanwhile, so what went on under the lock was cancelled.
        """
        if not needed:
            yield True
            return
        async with self._database.connection() as connection:
            leads = bool(await connection.fetchval(SQL.try_leader_lock, name))
            try:
                with anyio.CancelScope() as scope, _cancelling_with(connection, scope):
                    yield leads
                if scope.cancelled_caught:
                    raise DatabaseUnavailable(f"the connection that held the lock of {name} broke")
            finally:
                if leads and not connection.is_closed():
                    with anyio.CancelScope(shield=True):
                        await _unlock(connection, name)


@contextmanager
def _cancelling_with(connection: Connection, scope: anyio.CancelScope) -> Iterator[None]:
    """Cancel the scope when the connection ends."""

    def on_end(*_: object) -> None:
        scope.cancel()

    connection.add_termination_listener(on_end)
    try:
        yield
    finally:
        connection.remove_termination_listener(on_end)


async def _unlock(connection: Connection, name: str) -> None:
    try:
        await connection.execute(SQL.leader_unlock, name)
    except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError):
        log.debug("leader_lock_gone_with_its_connection", name=name)
