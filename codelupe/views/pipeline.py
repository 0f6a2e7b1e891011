"""What the pipeline has done and has yet to do, as data."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from codelupe.host.extensions import Extensions
from codelupe.postgres import Database
from codelupe.postgres.queries import load_queries
from codelupe.views.flow_order import flow_order
from codelupe.work.pauses import read_pauses

_LOG = load_queries("codelupe_sql", "log")


async def read_status(database: Database, extensions: Extensions) -> dict[str, Any]:
    """Subscriptions in the order in which events flow, jobs, and the sections that plugins add."""
    return {
        "subscriptions": await read_subscriptions(database, flow_order(extensions.subscriptions)),
        "paused": [pause.as_row() for pause in await read_pauses(database)],
        "jobs": [dict(row) for row in await database.fetch(_LOG.job_states)],
        **{section.name: await section.read(database) for section in extensions.status_sections},
    }


async def read_subscriptions(database: Database, order: Sequence[str] = ()) -> list[dict[str, Any]]:
    """Each subscription's tasks: waiting, running, done, dead-lettered."""
    subscriptions = [
        {
            "name": row["name"],
            "waiting": row["waiting"] + row["in_log"],
            "running": row["running"],
            "done": row["delivered"] - row["waiting"] - row["running"] - row["dead_lettered"],
            "dead_lettered": row["dead_lettered"],
        }
        for row in await database.fetch(_LOG.subscriptions)
    ]
    ranks = {name: rank for rank, name in enumerate(order)}
    return sorted(subscriptions, key=lambda one: ranks.get(one["name"], len(ranks)))
