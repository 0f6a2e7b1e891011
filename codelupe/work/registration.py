"""What subscriptions want, kept in the database, so that other versions of the code know of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import structlog
from packaging.version import InvalidVersion, Version

from codelupe.log.event_log import SQL
from codelupe.postgres import Connection, Database
from codelupe.work.subscriptions import Subscribed

log = structlog.get_logger("codelupe")


async def register_subscriptions(
    database: Database, subscriptions: Sequence[Subscribed], versions: Mapping[str, str]
) -> None:
    """Begin those that are new, and record what the others want by now; ``versions`` are those of the plugins by name.

    A type that is added is handed out from the log's beginning, or from now on if the subscription says so. A type
    that is wanted no more goes only if this plugin is newer than the one that wanted it; else its events wait for
    that one, which may run beside this or come back.
    """
    for subscription in subscriptions:
        version = versions.get(subscription.name.partition(".")[0], "")
        async with database.transaction() as connection:
            await _register(connection, subscription, version)


async def _register(connection: Connection, subscription: Subscribed, version: str) -> None:
    name, wanted, blocks = subscription.name, subscription.event_types, subscription.dead_letter_blocks_stream
    if await connection.fetchval(SQL.begin_subscription, name, subscription.from_now, wanted, blocks, version):
        return
    known = await connection.fetchrow(SQL.declared_subscription, name)
    assert known is not None, "it was there a moment ago, and is held now"
    before, declared_by = known["types"] or wanted, known["declared_by"]
    added, gone = _without(wanted, before), _without(before, wanted)
    dropped = gone if _is_newer(version, declared_by) else []
    if added or dropped or known["types"] is None or known["dead_letter_blocks"] != blocks:
        types = [*wanted, *_without(gone, dropped)]
        by = declared_by if declared_by and _is_newer(declared_by, version) else version
        from_now = subscription.from_now
        given_up = await connection.fetchval(
            SQL.declare_subscription, name, types, added, dropped, from_now, blocks, by
        )
        log.info("subscription_changed", stage=name, added=added, dropped=dropped, tasks_given_up=given_up)
    if waiting := _without(gone, dropped):
        log.warning(
            "events_wait_for_other_code",
            stage=name,
            types=waiting,
            hint=f"Version {declared_by or 'unknown'} of the plugin wanted them; `codelupe plugins retire` ends that.",
        )


def _without(types: Sequence[str], others: Sequence[str]) -> list[str]:
    return [one for one in types if one not in others]


def _is_newer(version: str, than: str | None) -> bool:
    try:
        return than is not None and Version(version) > Version(than)
    except InvalidVersion:
        return False
