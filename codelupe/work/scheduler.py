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
from codelupe.work.consumer import POLL_SECONDS
from codelupe.work.context import JobContext
from codelupe.work.runtime import Runtime
from codelupe.work.subscriptions import Job, RetryPolicy, Service, backoff
from codelupe.work.worker import Worker

SQL = load_queries("codelupe_sql", "log")
RESTARTS = RetryPolicy(base=timedelta(seconds=1), cap=timedelta(minutes=5))
"""How far apart a failing service is started again; its attempts are not counted."""

log = structlog.get_logger("codelupe")


class Scheduler:
    """Runs jobs when they are due, or whenever the log is idle, and keeps services up.

    ``leader_poll`` is how often a process that does not lead asks whether it may; ``restarts`` says how far apart a
    failing service is started again.
    """

    def __init__(
        self,
        jobs: Sequence[Job],
        services: Sequence[Service],
        runtime: Runtime,
        *,
        leader_poll: timedelta = timedelta(seconds=5),
        restarts: RetryPolicy = RESTARTS,
    ) -> None:
        self._jobs = jobs
        self._services = services
        self._runtime = runtime
        self._database = runtime.log.database
        self._leader_poll_seconds = leader_poll.total_seconds()
        self._restarts = restarts
        self._news = runtime.log.notifier.signal()
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
        """Run the jobs one after another whenever the log is idle; return when none brings anything new.

        What a job brought is handled before the next one runs, so what a job sees does not depend on timing.
        """
        while True:
            for job in self._jobs:
                await self._until_idle(worker)
                if await self._brings_something(job):
                    break
            else:
                return await self._until_idle(worker)

    async def _until_idle(self, worker: Worker) -> None:
        while True:
            try:
                if await worker.is_idle():
                    return
            except DatabaseUnavailable:
                log.debug("idle_unknown")
            await self._news.wait(POLL_SECONDS / 4)

    async def _brings_something(self, job: Job) -> bool:
        while True:
            try:
                return bool(await self._run_once(job, even_if_not_due=True))
            except DatabaseUnavailable as error:
                log.warning("database_unavailable", error=error.message)
                await anyio.sleep(POLL_SECONDS)

    async def _repeat(self, job: Job) -> None:
        while True:
            try:
                wait = await self._database.fetchval(SQL.job_due, job.name, job.every) or 0
                if wait <= 0 and await self._run_once(job) is None:
                    wait = self._leader_poll_seconds
            except DatabaseUnavailable as error:
                log.warning("database_unavailable", job=job.name, error=error.message)
                wait = POLL_SECONDS
            await anyio.sleep(max(0.0, min(wait, 60.0)))

    async def _run_once(self, job: Job, *, even_if_not_due: bool = False) -> int | None:
        """How many events the run brought; None if another process runs it."""
        async with self._leading(job.name) as leads:
            if not leads:
                return None
            if not await self._database.fetchval(SQL.job_begin, job.name, job.every, even_if_not_due):
                return None
            context = JobContext(job.name, self._runtime)
            error = await self._run_job(job, context)
            await self._database.execute(SQL.job_end, job.name, error)
            return context.appended

    async def _run_job(self, job: Job, context: JobContext) -> str | None:
        self.failed.pop(job.name, None)
        try:
            with self._runtime.progress.working(job.name, job.name):
                await job.run(context)
        except DatabaseUnavailable:
            raise
        except (Exception, SystemExit) as error:
            context.log.error("job_failed", error=describe(error), exc_info=error)
            self.failed[job.name] = describe(error)
        return self.failed.get(job.name)

    async def _keep_up(self, service: Service) -> None:
        failures = 0
        while True:
            began = anyio.current_time()
            try:
                async with self._leading(service.name, needed=service.leader) as leads:
                    if leads:
                        await service.run(JobContext(service.name, self._runtime))
                        return
                await anyio.sleep(self._leader_poll_seconds)
            except (Exception, SystemExit) as error:
                failures = 1 if anyio.current_time() - began > self._restarts.cap.total_seconds() else failures + 1
                pause = backoff(self._restarts, failures).total_seconds()
                log.error(
                    "service_failed", stage=service.name, error=describe(error), restart_in_seconds=round(pause, 1)
                )
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
