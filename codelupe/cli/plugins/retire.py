"""``codelupe plugins retire``: end what no installed code runs any more."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import typer

from codelupe.cli.dead_letters import print_dead_letters
from codelupe.cli.output import err, out, print_json, print_table
from codelupe.cli.session import AsJson, ConfigFile, Profile, Session, with_session
from codelupe.work.dead_letters import Selection, list_dead_letters
from codelupe.work.retirement import Retirement, find_retirements, find_unwanted_type, retire

_PAGE = 100


def retire_(
    name: Annotated[str, typer.Argument(metavar="NAME", help="The plugin, or one subscription as PLUGIN.NAME.")],
    config: ConfigFile = None,
    profile: Profile = None,
    as_json: AsJson = False,
    type_name: Annotated[
        str | None, typer.Option("--type", help="Give up only this event type, which no installed code wants any more.")
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
) -> None:
    """End the subscriptions of a plugin that is gone, with what waits for them. The events stay in the log.

    Lists their dead letters first. What an active plugin has is refused.
    """

    async def do(session: Session) -> None:
        wanted = {one.name: one.event_types for one in session.gather().subscriptions}
        retirements = (
            await find_retirements(session.database, name, wanted)
            if type_name is None
            else await find_unwanted_type(session.database, name, type_name, wanted)
        )
        if not as_json:
            await _show(session, retirements)
        retired = yes or as_json or typer.confirm("Go on?", err=True)
        if retired:
            await retire(session.database, retirements)
        if as_json:
            print_json({"retired": retirements})
        elif retired:
            out.print(f"{len(retirements):,} retired.")

    with_session(config, profile, do)


async def _show(session: Session, retirements: Sequence[Retirement]) -> None:
    print_table(
        ["subscription", "event type", "waiting", "dead letters"],
        [(one.subscription, one.type or "all", one.tasks, one.dead_letters) for one in retirements],
    )
    for retirement in retirements:
        await _show_dead_letters(session, retirement)
    err.print("This cannot be undone: what waits, and the dead letters, will not be handled. The events stay.")


async def _show_dead_letters(session: Session, retirement: Retirement) -> None:
    """All of them, a page at a time."""
    selection = Selection(subscription=retirement.subscription, type=retirement.type)
    after = None
    while letters := await list_dead_letters(session.database, selection, after=after, at_most=_PAGE):
        print_dead_letters(letters)
        after = letters[-1].id
