"""Ending what no code runs any more: the subscriptions of a plugin that is gone."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from codelupe.errors import CodelupeError
from codelupe.log.event_log import SQL
from codelupe.postgres import Database


class NothingToRetire(CodelupeError):
    """No subscription has that name, or those that have are in use."""

    code = "nothing-to-retire"


@dataclass(frozen=True, kw_only=True)
class Retirement:
    """A subscription that may be ended, and what goes with it."""

    subscription: str
    tasks: int
    dead_letters: int


async def find_retirements(database: Database, name: str, active: Collection[str]) -> list[Retirement]:
    """The subscriptions of this plugin, or the one of this name, that no plugin which takes part has.

    Raises:
        NothingToRetire: there are none.
    """
    rows = [row for row in await database.fetch(SQL.subscriptions) if name in (row["name"], _plugin_of(row["name"]))]
    if not rows:
        raise NothingToRetire(f"there is no subscription of {name}", hint="`codelupe status` names them.")
    unused = [row for row in rows if row["name"].partition("~")[0] not in active]
    if not unused:
        raise NothingToRetire(
            f"{name} takes part: its subscriptions are in use", hint="Uninstall or disable the plugin first."
        )
    return [
        Retirement(subscription=row["name"], tasks=row["waiting"] + row["running"], dead_letters=row["dead_lettered"])
        for row in unused
    ]


async def retire(database: Database, retirements: Sequence[Retirement]) -> None:
    """End them: their cursors, tasks and dead letters go. The events stay in the log."""
    async with database.transaction() as connection:
        for retirement in retirements:
            await connection.execute(SQL.end_subscription, retirement.subscription)


def _plugin_of(subscription: str) -> str:
    return subscription.partition(".")[0]
