"""``codelupe dead-letters``: events that a subscription gave up on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import typer

from codelupe.cli.output import err, out, plain, print_json, print_table, printable
from codelupe.cli.session import AsJson, ConfigFile, Profile, Session, with_session
from codelupe.work.dead_letters import (
    DeadLetter,
    Selection,
    count_dead_letters,
    drop_dead_letters,
    list_dead_letters,
    retry_dead_letters,
)

app = typer.Typer(no_args_is_help=True, help="Manage the events that a subscription gave up on.")

Numbers = Annotated[list[int] | None, typer.Argument(help="The dead letters' numbers.")]
SubscriptionName = Annotated[
    str | None, typer.Option("--subscription", help="Only those of this subscription, named PLUGIN.NAME.")
]
Type = Annotated[str | None, typer.Option("--type", help="Only those of this event type.")]
Stream = Annotated[str | None, typer.Option("--stream", help="Only those of this stream; * stands for anything.")]
Error = Annotated[str | None, typer.Option("--error", metavar="TEXT", help="Only those whose error contains this.")]
All = Annotated[bool, typer.Option("--all-matching", help="All that the other options let through.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]


@app.command("list")
def list_(
    config: ConfigFile = None,
    profile: Profile = None,
    as_json: AsJson = False,
    subscription: SubscriptionName = None,
    type_name: Type = None,
    stream: Stream = None,
    error: Error = None,
    limit: Annotated[int, typer.Option("--limit", min=1, help="How many to list.")] = 100,
    after: Annotated[
        int | None, typer.Option("--after", metavar="NUMBER", help="Go on after the dead letter with this number.")
    ] = None,
) -> None:
    """List the dead letters, the oldest first, a page at a time."""
    selection = Selection(subscription=subscription, type=type_name, stream=stream, error=error)

    async def show(session: Session) -> None:
        letters = await list_dead_letters(session.database, selection, after=after, at_most=limit)
        if as_json:
            print_json(letters)
        elif not letters:
            out.print("No dead letters.")
        else:
            print_dead_letters(letters)
        if len(letters) == limit:
            total = await count_dead_letters(session.database, selection)
            if total > limit:
                err.print(f"{limit:,} of {total:,} dead letters; --after {letters[-1].id} goes on, --limit takes more.")

    with_session(config, profile, show)


def print_dead_letters(letters: Sequence[DeadLetter]) -> None:
    """As a table."""
    print_table(
        ["number", "subscription", "stream", "event", "attempts", "since", "error"],
        [
            (one.id, one.subscription, one.stream, one.type, one.attempts, one.dead_lettered_at, one.error)
            for one in letters
        ],
    )


@app.command("show")
def show_(
    number: Annotated[int, typer.Argument(help="The dead letter's number.")],
    config: ConfigFile = None,
    profile: Profile = None,
    as_json: AsJson = False,
) -> None:
    """Print one dead letter in full, with its traceback."""

    async def show(session: Session) -> None:
        [letter] = await list_dead_letters(session.database, Selection(ids=[number]))
        if as_json:
            print_json(letter)
        else:
            out.print(
                f"{letter.subscription} on {plain(letter.stream)} ({letter.type} {letter.event_id})", soft_wrap=True
            )
            out.print(printable(letter.traceback), markup=False, highlight=False, soft_wrap=True)

    with_session(config, profile, show)


@app.command()
def retry(
    numbers: Numbers = None,
    config: ConfigFile = None,
    profile: Profile = None,
    as_json: AsJson = False,
    subscription: SubscriptionName = None,
    type_name: Type = None,
    stream: Stream = None,
    error: Error = None,
    all_matching: All = False,
) -> None:
    """Hand them to their subscriptions again."""
    selection = _selection(numbers, all_matching, subscription=subscription, type=type_name, stream=stream, error=error)

    async def do(session: Session) -> None:
        retried = await retry_dead_letters(session.database, selection)
        if as_json:
            print_json({"retried": retried})
        else:
            out.print(f"{len(retried):,} will be tried again.")

    with_session(config, profile, do)


@app.command()
def drop(
    numbers: Numbers = None,
    config: ConfigFile = None,
    profile: Profile = None,
    as_json: AsJson = False,
    subscription: SubscriptionName = None,
    type_name: Type = None,
    stream: Stream = None,
    error: Error = None,
    all_matching: All = False,
    yes: Yes = False,
) -> None:
    """Give them up for good; the events stay in the log. Asks before it drops more than one."""
    selection = _selection(numbers, all_matching, subscription=subscription, type=type_name, stream=stream, error=error)

    async def do(session: Session) -> None:
        if not (yes or as_json or await _is_agreed(session, selection)):
            return
        dropped = await drop_dead_letters(session.database, selection)
        if as_json:
            print_json({"dropped": dropped})
        else:
            out.print(f"{len(dropped):,} dropped.")

    with_session(config, profile, do)


def _selection(numbers: list[int] | None, all_matching: bool, **filters: str | None) -> Selection:
    if bool(numbers) == all_matching:
        raise typer.BadParameter("name numbers, or say --all-matching")
    return Selection(ids=numbers or None, **filters)


async def _is_agreed(session: Session, selection: Selection) -> bool:
    count = await count_dead_letters(session.database, selection)
    return count < 2 or typer.confirm(f"Drop {count:,} dead letters?", err=True)
