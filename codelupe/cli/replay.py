"""``codelupe replay``."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated

import typer

from codelupe.cli.output import err, out, print_json
from codelupe.cli.session import AsJson, ConfigFile, Profile, Session, with_session
from codelupe.errors import CodelupeError
from codelupe.log.retention import log_start
from codelupe.postgres import Database
from codelupe.work.projections import begin_rebuild
from codelupe.work.replay import Replay, count_replay, position_before, start_replay
from codelupe.work.subscriptions import Subscribed


def replay(
    subscription: Annotated[
        str, typer.Argument(help="The subscription as PLUGIN.NAME, or a plugin that has only one.")
    ],
    config: ConfigFile = None,
    profile: Profile = None,
    from_position: Annotated[
        int | None, typer.Option("--from-position", min=1, help="Begin with this position.")
    ] = None,
    since: Annotated[datetime | None, typer.Option("--since", help="Begin at this time (UTC).")] = None,
    stream: Annotated[str | None, typer.Option("--stream", help="Only events of this stream.")] = None,
    rebuild: Annotated[
        bool,
        typer.Option("--rebuild", help="Fill its tables anew beside the live ones, then swap them."),
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say how many events it would be.")] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    as_json: AsJson = False,
) -> None:
    """Hand past events to a subscription again."""

    async def do(session: Session) -> None:
        if rebuild and (from_position or since or stream):
            raise typer.BadParameter("--rebuild takes all events, from the beginning")
        after = await _position_before(session.database, from_position, since)
        plan = Replay(subscription=_subscription(session, subscription), after=after, stream=stream)
        events = await count_replay(session.database, plan)
        if as_json:
            print_json(
                {
                    "subscription": plan.subscription.name,
                    "after": after,
                    "stream": stream,
                    "events": events,
                    "started": not dry_run,
                }
            )
        else:
            mood = "would be" if dry_run else "will be"
            out.print(f"{events:,} events after position {after:,} {mood} handled again.")
        if not dry_run and (yes or as_json or typer.confirm("Go on?", err=True)):
            if rebuild:
                schema = session.host.schemas.get(plan.subscription.name.partition(".")[0])
                await begin_rebuild(session.database, plan.subscription, schema)
            else:
                await start_replay(session.database, plan)

    with_session(config, profile, do)


async def _position_before(database: Database, position: int | None, since: datetime | None) -> int:
    if position is not None:
        return position - 1
    start = await log_start(database)
    if start is not None:
        err.print(f"Note that {start}.", markup=False)
    before = await position_before(database, _utc(since)) if since else 0
    return max(before, start.position - 1 if start else 0)


def _subscription(session: Session, name: str) -> Subscribed:
    extensions = session.gather()
    known = {each.name: each for each in extensions.subscriptions}
    of_plugin = [each for each in extensions.subscriptions if each.name.startswith(f"{name}.")]
    if len(of_plugin) == 1:
        return of_plugin[0]
    if name not in known:
        raise CodelupeError(f"there is no subscription {name!r}", hint=f"There are: {', '.join(sorted(known))}.")
    return known[name]


def _utc(moment: datetime) -> datetime:
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
