"""What the pipeline has done and has yet to do, as data."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from codelupe.postgres import Database
from codelupe.postgres.queries import load_queries

_LOG = load_queries("codelupe_sql", "log")
_STATUS = load_queries("codelupe_sql", "status")


async def read_status(database: Database, order: Sequence[str] = ()) -> dict[str, Any]:
    """Subscriptions in the order given, others after them, jobs, repositories, files, batches and models."""
    return {
        "subscriptions": await read_subscriptions(database, order),
        "jobs": [dict(row) for row in await database.fetch(_LOG.job_states)],
        "repositories": await _read_repositories(database),
        "files": await _read_files(database),
        "batches": [dict(row) for row in await database.fetch(_STATUS.batches)],
        "models": await read_models(database),
    }


async def read_subscriptions(database: Database, order: Sequence[str] = ()) -> list[dict[str, Any]]:
    """Each subscription's tasks: waiting, running, done, dead-lettered."""
    subscriptions = [
        {
            "name": row["name"],
            "waiting": row["waiting"],
            "running": row["running"],
            "done": row["delivered"] - row["waiting"] - row["running"] - row["dead_lettered"],
            "dead_lettered": row["dead_lettered"],
        }
        for row in await database.fetch(_LOG.subscriptions)
    ]
    ranks = {name: rank for rank, name in enumerate(order)}
    return sorted(subscriptions, key=lambda one: ranks.get(one["name"], len(ranks)))


async def read_models(database: Database) -> list[dict[str, Any]]:
    """Every model with its state, base, batch and losses, oldest first."""
    return [dict(row) for row in await database.fetch(_STATUS.models)]


async def _read_repositories(database: Database) -> dict[str, Any]:
    states = {row["state"]: row["n"] for row in await database.fetch(_STATUS.repositories)}
    reasons = {row["rule"]: row["n"] for row in await database.fetch(_STATUS.repository_reasons)}
    return {"total": sum(states.values()), "by_state": states, "rejected_by": reasons}


async def _read_files(database: Database) -> dict[str, Any]:
    row = await database.fetchrow(_STATUS.files)
    rejections = {row["rule"]: row["n"] for row in await database.fetch(_STATUS.file_rejections)}
    return {**dict(row or {}), "rejected_by": rejections}
