"""Jobs and services: work that no event starts."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from functools import partial

import anyio
import structlog

from codelupe.errors import ConnectionsHeldByOthers
from codelupe.postgres.queries import load_queries
from codelupe.postgres.retry import RetryWhileUnavailable, is_unavailable, retry_while_unavailable
from codelupe.work.attempt import cause_of, describe
from codelupe.work.context import JobContext
from codelupe.work.leadership import leading
from codelupe.work.pauses import job_part
from codelupe.work.retry import RetryPolicy, backoff
from codelupe.work.runtime import Runtime
from codelupe.work.subscriptions import Job, Service
from codelupe.work.worker import Worker

SQL = load_queries("codelupe_sql", "log")

log = structlog.get_logger("codelupe")
_CRASHES = RetryPolicy().crashes
"""A job is paused when so many processes have died with it, one after another."""
_NOTE_SECONDS = 1.0
"""How long it may take to note that a run has been left."""


class Scheduler:
    """Runs jobs when they are due, or whenever the log is idle, and keeps services up."""

    def __init__(self, jobs: Sequence[Job], services: Sequence[Service], runtime: Runtime) -> None:
        self._jobs = jobs
        self._services = services
        self._runtime = runtime
        self._database = runtime.log.database
        self._timings = runtime.timings
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
        while not await retry_while_unavailable(worker.is_idle, "idle"):
            await self._news.wait(self._timings.poll / 4)

    async def _brings_something(self, job: Job) -> bool:
        return bool(await retry_while_unavailable(partial(self._run_once, job, even_if_not_due=True), job.name))

    async def _repeat(self, job: Job) -> None:
        attempt = RetryWhileUnavailable(job.name)
        while True:
            async with attempt:
                wait = await self._database.fetchval(SQL.job_due, job.name, job.every) or 0
                if wait <= 0 and await self._run_once(job) is None:
                    wait = self._timings.leader_poll
                await anyio.sleep(max(0.0, min(wait, self._timings.job_poll)))

    async def _run_once(self, job: Job, *, even_if_not_due: bool = False) -> int | None:
        """How many events the run brought; None if another process runs it, or it is paused."""
        if self._runtime.pauses.is_paused(job_part(job.name)):
            return None
        async with leading(self._database, job.name) as leads:
            if not leads:
                return None
            crashes = await self._database.fetchval(SQL.job_begin, job.name, job.every, even_if_not_due)
            if crashes is None:
                return None
            if crashes >= _CRASHES:
                await self._runtime.pauses.record_crashes(job_part(job.name), crashes)
                await self._database.execute(SQL.job_left, job.name)
                return None
            context = JobContext(job.name, self._runtime)
            async with self._noted(job):
                error = await self._run_job(job, context)
                await self._database.execute(SQL.job_end, job.name, error)
            return context.appended

    @asynccontextmanager
    async def _noted(self, job: Job) -> AsyncIterator[None]:
        """A run that leaves the block before its end, for an outage or a stop, has not ended with its process."""
        try:
            yield
        except BaseException:
            with anyio.move_on_after(_NOTE_SECONDS, shield=True), suppress(Exception):
                await self._database.execute(SQL.job_left, job.name)
            raise

    async def _run_job(self, job: Job, context: JobContext) -> str | None:
        self.failed.pop(job.name, None)
        try:
            with self._runtime.progress.working(job.name, job.name):
                await self._runtime.calls.run(
                    job.run, context, name=job.name, stream=job.name, limit=job.timeout, grace=job.grace
                )
        except Exception as error:
            is_away = is_unavailable(error, ConnectionsHeldByOthers, outage=self._runtime.database.outage)
            if is_away and not await self._runtime.lost_sessions.are_too_many(job.name, error):
                raise
            cause = cause_of(error)
            context.log.error("job_failed", error=describe(cause), exc_info=cause)
            self.failed[job.name] = describe(cause)
        else:
            self._runtime.lost_sessions.record_success(job.name)
        return self.failed.get(job.name)

    async def _keep_up(self, service: Service) -> None:
        """Run the service until it ends, again after a failure and after an outage of the database."""
        restarts, failures, has_ended = self._timings.restarts, 0, False
        # Without a leader nothing here asks the database, so nothing could tell that it is back.
        attempt = RetryWhileUnavailable(service.name, quiet=not service.leader)
        while not has_ended:
            began = anyio.current_time()
            async with attempt:
                try:
                    has_ended = await self._serve(service, attempt)
                except Exception as error:
                    if is_unavailable(error, ConnectionsHeldByOthers, outage=self._runtime.database.outage):
                        raise
                    ran_well = anyio.current_time() - began > restarts.cap.total_seconds()
                    failures = 1 if ran_well else failures + 1
                    await self._pause_after_failure(service, error, backoff(restarts, failures).total_seconds())

    async def _serve(self, service: Service, attempt: RetryWhileUnavailable) -> bool:
        """Run the service if this process may; whether it has ended by itself."""
        async with leading(self._database, service.name, needed=service.leader) as leads:
            if leads:
                attempt.record_success()
                context = JobContext(service.name, self._runtime)
                await self._runtime.calls.run(
                    service.run, context, name=service.name, stream=service.name, limit=None, grace=service.grace
                )
                return True
        await anyio.sleep(self._timings.leader_poll)
        return False

    async def _pause_after_failure(self, service: Service, error: Exception, seconds: float) -> None:
        cause = cause_of(error)
        log.error(
            "service_failed",
            stage=service.name,
            error=describe(cause),
            restart_in_seconds=round(seconds, 1),
            exc_info=cause,
        )
        await anyio.sleep(seconds)
