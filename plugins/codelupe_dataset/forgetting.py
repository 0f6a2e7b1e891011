"""Removing a repository for good: the database's part, in one transaction with the event that tells the others.

Clone, search entry and what lies in working folders are removed by those who made them when they handle
:class:`codelupe_events.RepoForgotten`, so that a crash in between forgets nothing half.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from codelupe import CodelupeError, Connection, Database, Entry, EventLog, load_queries
from codelupe_events import RepoForgotten

SQL = load_queries("codelupe_sql", "forget")


class NothingToForget(CodelupeError):
    """No repository has this id, name or address."""

    code = "nothing-to-forget"


@dataclass(frozen=True, kw_only=True)
class Forgotten:
    """What was removed, or would be."""

    repositories: list[RepoForgotten] = field(default_factory=list)
    released: Counter[str] = field(default_factory=Counter)
    """How many files of other repositories, by id, had been refused as copies of what is gone."""

    @property
    def models(self) -> list[str]:
        """The models that were trained on any of it."""
        return sorted({model for one in self.repositories for model in one.models})


async def forget(log: EventLog, reference: str, *, by: str, reason: str, dry_run: bool = False) -> Forgotten:
    """Remove the repository with this id, name or address, and those that share its name or address.

    A dry run does the same and takes it back, so it says exactly what would happen.

    Raises:
        NothingToForget: there is none.
    """
    forgotten = Forgotten()
    async with log.database.transaction() as connection:
        attempt = connection.transaction()
        await attempt.start()
        await _forget(connection, forgotten, reference, by, reason)
        if dry_run:
            await attempt.rollback()
            return forgotten
        await attempt.commit()
        await log.append(connection, [Entry(event=event) for event in forgotten.repositories])
    log.notifier.announce()
    return forgotten


async def list_forgotten(database: Database) -> list[dict[str, Any]]:
    """What was forgotten, by whom and why, the earliest first."""
    return [dict(row) for row in await database.fetch(SQL.list_forgotten)]


async def _forget(connection: Connection, forgotten: Forgotten, reference: str, by: str, reason: str) -> None:
    rows = await connection.fetch(SQL.matching_repositories, reference)
    if not rows:
        raise await _nothing(connection, reference)
    ids = [row["id"] for row in rows]
    await connection.execute(SQL.lock_clusters)
    await connection.execute(SQL.hold, ids)
    await connection.execute(SQL.hold_batches, ids)
    for row in rows:
        await connection.execute(SQL.remember, row["id"], by, reason)
    for row in rows:
        event = await _remove_files(connection, row["id"], forgotten.released)
        forgotten.repositories.append(
            RepoForgotten(
                repository_id=row["id"], full_name=row["full_name"], url=row["url"], by=by, reason=reason, **event
            )
        )


async def _remove_files(connection: Connection, repository_id: str, released: Counter[str]) -> dict[str, Any]:
    models = [row["id"] for row in await connection.fetch(SQL.models_trained_on, repository_id)]
    batches = await connection.fetch(SQL.leave_batches, repository_id)
    await connection.execute(SQL.leave_replays, repository_id)
    await connection.execute(SQL.keep_validating, [row["id"] for row in batches])
    clusters = await connection.fetch(SQL.clusters_of, repository_id)
    for row in await connection.fetch(SQL.release_copies, repository_id):
        released[row["repository_id"]] += row["files"]
    deleted = await connection.execute(SQL.delete_files, repository_id)
    emptied = await connection.execute(SQL.empty_files, repository_id)
    await connection.execute(SQL.settle_clusters, [row["cluster_id"] for row in clusters])
    return {"files": _count(deleted), "kept_without_content": _count(emptied), "models": tuple(models)}


def _count(tag: str) -> int:
    """The number at the end of a command tag such as ``DELETE 5``."""
    return int(tag.rpartition(" ")[2])


async def _nothing(connection: Connection, reference: str) -> NothingToForget:
    row = await connection.fetchrow(SQL.forgotten_named, reference)
    if row is None:
        return NothingToForget(
            f"there is no repository {reference!r}",
            hint="Give its id, owner/repo or its URL; `codelupe search` finds some.",
        )
    return NothingToForget(
        f"{row['full_name']} was forgotten already, on {row['forgotten_at']:%Y-%m-%d} by {row['by']}",
        hint="`codelupe forget --list` shows all that are.",
    )
