"""The queue of tasks: fed from the log, claimed under a lease, retried, dead-lettered, reaped."""

from __future__ import annotations

import uuid
from collections import defaultdict
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import timedelta

from codelupe.log.event_log import SQL
from codelupe.postgres import Connection, Database
from codelupe.work.leases import ProcessIdentity, is_alive
from codelupe.work.subscriptions import Subscribed
from codelupe.work.task import Task

FEED_LIMIT = 1000
"""So many tasks are made at a time for one subscription, and no more before most of them are claimed."""


@dataclass(frozen=True, kw_only=True)
class FeedRequest:
    """A subscription that needs tasks, and how many of them to claim if more than ``known`` were delivered by now."""

    subscription: Subscribed
    known: int = -1
    room: int = 0


@dataclass(frozen=True, kw_only=True)
class Fed:
    """How many events a subscription was ever given, whether that is all there is, and what was claimed for it now."""

    delivered: int
    caught_up: bool
    tasks: Sequence[Task] = ()


def handled_by(subscriptions: Sequence[Subscribed]) -> tuple[list[str], list[str], list[int]]:
    """The types and versions of events that this code can hand to each of these, as columns."""
    rows = [(one.name, *kind) for one in subscriptions for kind in one.kinds]
    return [name for name, _, _ in rows], [kind for _, kind, _ in rows], [version for _, _, version in rows]


class TaskQueue:
    """The tasks in one database. Each call is one statement or one transaction."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def feed(self, requests: Sequence[FeedRequest], worker: uuid.UUID | None = None) -> dict[str, Fed]:
        """Turn events below the high-water mark into tasks, and claim what there is room for.

        At most :data:`FEED_LIMIT` tasks are made for each subscription, and no more are left of one stream.
        """
        rows = await self._database.fetch(
            SQL.feed,
            [request.subscription.name for request in requests],
            [request.known for request in requests],
            [request.room for request in requests],
            FEED_LIMIT,
            worker,
            *handled_by([request.subscription for request in requests]),
        )
        claimed = defaultdict[str, list[Task]](list)
        for row in rows:
            if row["task_token"] is not None:
                claimed[row["subscription"]].append(Task.from_row(row["subscription"], row))
        return {
            row["subscription"]: Fed(
                delivered=row["delivered"], caught_up=row["caught_up"], tasks=claimed[row["subscription"]]
            )
            for row in rows
            if row["task_token"] is None
        }

    async def claim(self, subscription: Subscribed, worker: uuid.UUID, at_most: int) -> list[Task]:
        """Take ready tasks, those that have waited longest, whose events the subscription's handler knows."""
        [_, types, versions] = handled_by([subscription])
        rows = await self._database.fetch(SQL.claim, subscription.name, worker, at_most, types, versions)
        return [Task.from_row(subscription.name, row) for row in rows]

    async def retry(self, task: Task, *, after: timedelta, counts: bool, error: str, traceback: str) -> bool:
        """Make the task ready again ``after`` a while; False if the claim holds no longer."""
        return bool(await self._database.fetchval(SQL.retry, *task.key, int(counts), after, error, traceback))

    async def dead_letter(self, connection: Connection, task: Task, *, error: str, traceback: str) -> bool:
        """Put the task aside, within the caller's transaction; False if the claim holds no longer."""
        return bool(await connection.fetchval(SQL.dead_letter, *task.key, error, traceback))

    async def release(self, worker: uuid.UUID, begun: Collection[uuid.UUID] = ()) -> None:
        """Give back what the worker holds, and the worker itself.

        It crashed over the tasks whose tokens are ``begun``; the others are untouched.
        """
        async with self._database.transaction() as connection:
            await connection.execute(SQL.release, worker, list(begun))
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
            requeued = await connection.fetchval(SQL.requeue_lost_tasks, lost)
            await connection.execute(SQL.delete_workers, lost)
        return len(lost), int(requeued)
