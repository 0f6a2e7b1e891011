"""``codelupe events``: look into the log."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

import anyio
import typer
from rich.tree import Tree

from codelupe.cli.output import out, plain, print_json, print_table
from codelupe.cli.session import AsJson, ConfigFile, Profile, Session, with_session
from codelupe.errors import CodelupeError
from codelupe.log import Recorded
from codelupe.views.trace import trace_event

app = typer.Typer(no_args_is_help=True, help="Look at the event log.")


@app.command()
def tail(
    config: ConfigFile = None,
    profile: Profile = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document a line.")] = False,
    number: Annotated[int, typer.Option("--number", "-n", min=1, help="How many events.")] = 20,
    type_name: Annotated[str | None, typer.Option("--type", help="Only events of this type.")] = None,
    stream: Annotated[str | None, typer.Option("--stream", help="Only events of this stream.")] = None,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on with new events until Ctrl-C.")] = False,
) -> None:
    """Print the newest events, oldest of them first."""

    async def show(session: Session) -> None:
        if stream is not None:
            events = [event async for event in session.log.read(stream=stream)]
            events = [event for event in events if type_name in (None, event.type)][-number:]
        else:
            events = await session.log.latest(type_name=type_name, limit=number)
        _print(events, as_json=as_json)
        if follow:
            await _follow(session, events[-1].position if events else 0, type_name, stream, as_json=as_json)

    with_session(config, profile, show)


async def _follow(session: Session, after: int, type_name: str | None, stream: str | None, *, as_json: bool) -> None:
    while True:
        high_water_mark = await session.log.high_water_mark()
        async for event in session.log.read(after=after):
            if type_name in (None, event.type) and stream in (None, event.stream):
                _print([event], as_json=as_json)
            after = event.position
        after = max(after, high_water_mark)
        await anyio.sleep(0.5)


def _print(events: Sequence[Recorded], *, as_json: bool) -> None:
    for event in events:
        if as_json:
            print_json(event.as_dict(), on_one_line=True)
        else:
            out.print(
                f"[dim]{event.position:>8} {event.recorded_at.astimezone():%m-%d %H:%M:%S}[/] "
                f"[bold]{event.type}[/] {plain(event.stream)} [dim]{plain(event.data)}[/]",
                soft_wrap=True,
                highlight=False,
            )


@app.command()
def show(
    event: Annotated[str, typer.Argument(help="The event's position or id.")],
    config: ConfigFile = None,
    profile: Profile = None,
    as_json: AsJson = False,
) -> None:
    """Print one event whole."""

    async def print_it(session: Session) -> None:
        found = await _find(session, event)
        if as_json:
            print_json(found.as_dict())
        else:
            print_table(["field", "value"], found.as_dict().items())

    with_session(config, profile, print_it)


@app.command()
def trace(
    event: Annotated[str, typer.Argument(help="The event's position or id.")],
    config: ConfigFile = None,
    profile: Profile = None,
    as_json: AsJson = False,
) -> None:
    """Lead back from an event to what caused it."""

    async def print_it(session: Session) -> None:
        chain = await trace_event(session.log, await _find(session, event))
        print_json(chain) if as_json else out.print(_chain_tree(chain))

    with_session(config, profile, print_it)


async def _find(session: Session, reference: str) -> Recorded:
    found = await session.log.find(reference)
    if found is None:
        raise CodelupeError(f"there is no event {reference!r}", hint="`codelupe events tail` names some.")
    return found


def _chain_tree(chain: list[dict[str, Any]]) -> Tree:
    tree: Tree | None = None
    at: Tree | None = None
    for event in chain:
        place = f"[dim]{event['position']} {event['recorded_at'][:19]} {event['id']}[/]"
        label = f"[bold]{event['type']}[/] {plain(event['stream'])} {place}"
        if at is None:
            tree = at = Tree(label)
        else:
            at = at.add(label)
    return tree or Tree("nothing")
