"""What the pipeline has done and has yet to do, as data."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Self

import anyio
import msgspec

from codelupe.contracts.boundary import ContributionFailed
from codelupe.host.extensions import Extensions
from codelupe.host.status_sections import StatusSection
from codelupe.postgres import Database
from codelupe.postgres.queries import load_queries
from codelupe.views.flow_order import flow_order
from codelupe.work.pauses import read_pauses

_LOG = load_queries("codelupe_sql", "log")
_SECTIONS_AT_ONCE = 2
"""Each opens connections of its own."""


class FailedSection(msgspec.Struct, frozen=True):
    """Stands where the data of a plugin's section belong."""

    plugin: str
    section: str
    error: str

    @classmethod
    def of(cls, failure: ContributionFailed) -> Self:
        return cls(failure.part.plugin, failure.part.name, failure.message)


async def read_status(database: Database, extensions: Extensions) -> dict[str, Any]:
    """Subscriptions in the order in which events flow, jobs, and the sections that plugins add.

    One that fails is a :class:`FailedSection`.

    Raises:
        DatabaseUnavailable: for this database; what only a section meets is that section's failure.
    """
    return {
        "subscriptions": await read_subscriptions(database, flow_order(extensions.subscriptions)),
        "paused": [pause.as_row() for pause in await read_pauses(database)],
        "jobs": [dict(row) for row in await database.fetch(_LOG.job_states)],
        **await _read_sections(database, extensions.status_sections),
    }


async def _read_sections(database: Database, sections: Sequence[StatusSection]) -> dict[str, Any]:
    found: dict[str, Any] = dict.fromkeys(section.name for section in sections)
    limiter = anyio.CapacityLimiter(_SECTIONS_AT_ONCE)

    async def read(section: StatusSection) -> None:
        try:
            async with limiter:
                found[section.name] = await section.read(database)
        except ContributionFailed as failure:
            found[section.name] = FailedSection.of(failure)

    try:
        async with anyio.create_task_group() as group:
            for section in sections:
                group.start_soon(read, section)
    except BaseExceptionGroup as failures:
        raise failures.exceptions[0] from failures.exceptions[0].__cause__
    return found


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
