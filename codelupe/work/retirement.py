"""Ending what no code runs any more: the subscriptions of a plugin that is gone, an event type that it wanted."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from codelupe.errors import CodelupeError
from codelupe.log.event_log import SQL
from codelupe.postgres import Database


class NothingToRetire(CodelupeError):
    """No subscription has that name, or those that have are in use."""

    code = "nothing-to-retire"


@dataclass(frozen=True, kw_only=True)
class Retirement:
    """A subscription that may be ended, or one event ``type`` of it, and what goes with it.

    ``tasks`` have become tasks and wait; more may wait in the log.
    """

    subscription: str
    type: str | None = None
    tasks: int
    dead_letters: int


async def find_retirements(database: Database, name: str, active: Collection[str]) -> list[Retirement]:
    """The subscriptions of this plugin, or the one of this name, that no ``active`` plugin has.

    Raises:
        NothingToRetire: there are none.
    """
    found = await _find(database, name, None)
    unused = [one for one in found if without_rebuild(one.subscription) not in active]
    if not unused:
        raise NothingToRetire(
            f"{name} takes part: its subscriptions are in use", hint="Uninstall or disable the plugin first."
        )
    return unused


async def find_unwanted_type(
    database: Database, name: str, type_name: str, wanted: Mapping[str, Sequence[str]]
) -> list[Retirement]:
    """The subscriptions of that name or plugin that wanted this event type, and by installed code want it no more.

    Raises:
        NothingToRetire: there are none.
    """
    found = await _find(database, name, type_name)
    unwanted = [one for one in found if type_name not in wanted.get(without_rebuild(one.subscription), ())]
    if not unwanted:
        raise NothingToRetire(
            f"the installed code of {name} wants {type_name}", hint="Install the version that does not, first."
        )
    return unwanted


async def retire(database: Database, retirements: Sequence[Retirement]) -> None:
    """End them: their cursors, tasks and dead letters go. The events stay in the log."""
    async with database.transaction() as connection:
        for one in retirements:
            if one.type is None:
                await connection.execute(SQL.end_subscription, one.subscription)
            else:
                await connection.execute(SQL.give_type_up, one.subscription, one.type)


def without_rebuild(subscription: str) -> str:
    """The subscription's name, also of the one that rebuilds its tables."""
    return subscription.partition("~")[0]


async def _find(database: Database, name: str, type_name: str | None) -> list[Retirement]:
    rows = await database.fetch(SQL.retirable, name, type_name)
    if not rows:
        of_type = f" that wants {type_name}" if type_name else ""
        raise NothingToRetire(f"there is no subscription of {name}{of_type}", hint="`codelupe status` names them.")
    return [Retirement(**dict(row), type=type_name) for row in rows]
