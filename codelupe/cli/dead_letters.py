"""``codelupe dead-letters``: events that a stage gave up on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import typer

from codelupe.cli.output import out, plain, print_json, print_table, printable
from codelupe.cli.session import AsJson, ConfigFile, Profile, Session, with_session
from codelupe.errors import CodelupeError
from codelupe.log.dead_letters import DeadLetter, drop_parked, list_parked, retry_parked

app = typer.Typer(no_args_is_help=True, help="See to the events that a stage gave up on.")

Numbers = Annotated[list[int] | None, typer.Argument(help="The dead letters' numbers.")]
Stage = Annotated[str | None, typer.Option("--stage", help="Only those of this stage.")]
All = Annotated[bool, typer.Option("--all-matching", help="All of them, or all of the stage.")]


@app.command("list")
def list_(config: ConfigFile = None, profile: Profile = None, as_json: AsJson = False, stage: Stage = None) -> None:
    """List them, the oldest first."""

    async def show(session: Session) -> None:
        letters = await list_parked(session.database, stage)
        if as_json:
            print_json(letters)
        elif not letters:
            out.print("No dead letters.")
        else:
            print_table(
                ["number", "stage", "stream", "event", "attempts", "since", "error"],
                [
                    (one.id, one.subscription, one.stream, one.type, one.attempts, one.parked_at, one.error)
                    for one in letters
                ],
            )

    with_session(config, profile, show)


@app.command("show")
def show_(
    number: Annotated[int, typer.Argument(help="The dead letter's number.")],
    config: ConfigFile = None,
    profile: Profile = None,
    as_json: AsJson = False,
) -> None:
    """Print one whole, with its traceback."""

    async def show(session: Session) -> None:
        [letter] = await _chosen(session, [number], None, all_matching=False)
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
    stage: Stage = None,
    all_matching: All = False,
) -> None:
    """Hand them to their stages again."""

    async def do(session: Session) -> None:
        letters = await _chosen(session, numbers, stage, all_matching=all_matching)
        done = await retry_parked(session.database, [one.id for one in letters])
        out.print(f"{done} will be tried again.")

    with_session(config, profile, do)


@app.command()
def drop(
    numbers: Numbers = None,
    config: ConfigFile = None,
    profile: Profile = None,
    stage: Stage = None,
    all_matching: All = False,
) -> None:
    """Give them up for good; the events stay in the log."""

    async def do(session: Session) -> None:
        letters = await _chosen(session, numbers, stage, all_matching=all_matching)
        done = await drop_parked(session.database, [one.id for one in letters])
        out.print(f"{done} dropped.")

    with_session(config, profile, do)


async def _chosen(
    session: Session, numbers: Sequence[int] | None, stage: str | None, *, all_matching: bool
) -> list[DeadLetter]:
    if bool(numbers) == all_matching:
        raise typer.BadParameter("name numbers, or say --all-matching")
    letters = await list_parked(session.database, stage)
    if all_matching:
        return letters
    unknown = set(numbers or ()) - {one.id for one in letters}
    if unknown:
        raise CodelupeError(f"there is no dead letter {min(unknown)}", hint="`codelupe dead-letters list` names them.")
    return [one for one in letters if one.id in (numbers or ())]
