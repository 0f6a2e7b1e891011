"""The queue of tasks: fed from the log, claimed under a lease, retried, dead-lettered, reaped."""

from __future__ import annotations

import uuid
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta

import asyncpg

from codelupe.log.event_log import SQL
from codelupe.postgres import Connection, Database
from codelupe.work.leases import ProcessIdentity, is_alive
from codelupe.work.subscriptions import Stage
from codelupe.work.task import Task

FEED_LIMIT = 1000
"""So many tasks are made at a time for one stage, and no more before most of them are taken."""


@dataclass(frozen=True, kw_only=True)
class Fed:
    """What a stage has been given so far, whether that is all there is, and what was claimed of it."""

    delivered: int
    level: bool
    tasks: Sequence[Task] = ()


@dataclass(frozen=True, kw_only=True)
class Want:
    """A stage that may be fed, and how many tasks are to be claimed if more than ``known`` were delivered by now."""

    stage: Stage
    known: int = -1
    tasks: int = 0


class Tasks:
    """The tasks in one database. Each call is one statement or one transaction."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def feed(self, wants: Sequence[Want], worker: uuid.UUID | None = None) -> dict[str, Fed]:
        """Turn settled events into tasks, for each stage at most :data:`FEED_LIMIT`, and claim what is wanted."""
        pairs = [(want.stage.name, name) for want in wants for name in want.stage.event_types]
        rows = await self._database.fetch(
            SQL.feed,
            [stage for stage, _ in pairs],
            [name for _, name in pairs],
            FEED_LIMIT,
            worker,
            [want.stage.name for want in wants],
            [want.known for want in wants],
            [want.tasks for want in wants],
            [want.stage.subscription.parked_blocks_stream for want in wants],
        )
        claimed = defaultdict[str, list[Task]](list)
        for row in rows:
            if row["task_token"] is not None:
                claimed[row["stage"]].append(Task.from_row(row["stage"], row))
        return {
            row["stage"]: Fed(delivered=row["delivered"], level=row["level"], tasks=claimed[row["stage"]])
            for row in rows
            if row["task_token"] is None
        }

    async def claim(self, stage: Stage, worker: uuid.UUID, at_most: int) -> list[Task]:
        """Take ready tasks, each at the head of its stream; none if another worker was faster with some of them."""
        blocks = stage.subscription.parked_blocks_stream
        try:
            rows = await self._database.fetch(SQL.claim, stage.name, worker, at_most, blocks)
        except asyncpg.UniqueViolationError:
            return []
        return [Task.from_row(stage.name, row) for row in rows]

    async def retry(self, task: Task, *, after: timedelta, counts: bool, error: str, traceback: str) -> bool:
        """Make the task ready again ``after`` a while; False if it is somebody else's by now."""
        return bool(await self._database.fetchval(SQL.retry, *task.key, int(counts), after, error, traceback))

    async def park(self, connection: Connection, task: Task, *, error: str, traceback: str) -> bool:
        """Put the task aside, within the caller's transaction; False if it is somebody else's by now."""
        return bool(await connection.fetchval(SQL.park, *task.key, error, traceback))

    async def release(self, worker: uuid.UUID) -> None:
        """Give back what the worker holds, and the worker itself."""
        async with self._database.transaction() as connection:
            await connection.execute(SQL.release, worker)
            await connection.execute(SQL.delete_workers, [worker])

    async def reap(self, worker: uuid.UUID) -> tuple[int, int]:
        """Give the tasks of lost workers back: of those whose lease ran out, and of dead processes on this machine.

        Returns how many workers and tasks.
        """
        identity = ProcessIdentity.of_this_process()
        neighbours = await self._database.fetch(SQL.workers_on_this_machine, identity.host, identity.boot_id, worker)
        dead = [row["id"] for row in neighbours if not is_alive(row["pid"], row["pid_started"])]
        async with self._database.transaction() as connection:
            # Locking them first waits for a heartbeat that is under way.
            lost = [row["id"] for row in await connection.fetch(SQL.lock_lost_workers, dead)]
            requeued = await connection.fetch(SQL.requeue_lost_tasks, lost)
            await connection.execute(SQL.delete_workers, lost)
        return len(lost), len(requeued)
