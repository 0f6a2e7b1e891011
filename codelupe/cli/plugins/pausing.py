"""``codelupe plugins pause`` and ``codelupe plugins resume``."""

from __future__ import annotations

from datetime import UTC
from typing import Annotated

import typer

from codelupe.cli.output import err, out, print_json
from codelupe.cli.session import AsJson, ConfigFile, Profile, Session, with_session
from codelupe.contracts.boundary import Part
from codelupe.work.pauses import Pause, pause, resume

_HELP = "A plugin, or PLUGIN.NAME for one of its subscriptions, jobs, rules, scorers, sources and search indexes."


def pause_(
    name: Annotated[str, typer.Argument(help=_HELP)],
    config: ConfigFile = None,
    profile: Profile = None,
    as_json: AsJson = False,
) -> None:
    """Pause a plugin or a part of it, in running daemons, too, until it is resumed.

    A paused subscription's events wait, and what a paused search index is to hold. A paused source, rule or scorer is
    left out; only its own plugin waits for a rule or scorer. A paused job does not run. Services go on.
    """

    async def do(session: Session) -> None:
        paused = await pause(session.database, name, session.gather().pausable)
        _tell("paused", paused, as_json=as_json)
        if not paused:
            err.print(f"{name} was paused already.", markup=False, highlight=False)

    with_session(config, profile, do)


def resume_(
    name: Annotated[str, typer.Argument(help=_HELP)],
    config: ConfigFile = None,
    profile: Profile = None,
    as_json: AsJson = False,
) -> None:
    """Let what is paused go on, in running daemons, too, whether it was paused by hand or quarantined."""

    async def do(session: Session) -> None:
        resumed = await resume(session.database, name)
        _tell("resumed", [one.part for one in resumed], as_json=as_json)
        if left_out := [one.since for one in resumed if one.part.only_judges]:
            since = min(left_out).astimezone(UTC)
            err.print(
                "Let the subscription that asks it judge again what it has judged without it:\n"
                f"  codelupe replay SUBSCRIPTION --since {since:%Y-%m-%dT%H:%M:%S}",
                highlight=False,
                soft_wrap=True,
            )

    with_session(config, profile, do)


def describe_pause(pause: Pause) -> str:
    """What is paused, since when and why, in a line."""
    return f"the {pause.part} is paused since {pause.since.astimezone():%Y-%m-%d %H:%M:%S}: {pause.why}"


def _tell(what: str, parts: list[Part], *, as_json: bool) -> None:
    if as_json:
        print_json({what: [{"plugin": one.plugin, "kind": one.kind, "name": one.full_name} for one in parts]})
    for part in parts if not as_json else ():
        out.print(f"The {part} is {what}.", markup=False, highlight=False)
