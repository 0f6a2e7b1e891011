"""``codelupe status``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

import anyio
import typer
from rich.console import Console
from rich.live import Live
from rich.text import Text

from codelupe.cli.output import out, print_json
from codelupe.cli.session import AsJson, ConfigFile, Profile, Session, with_session
from codelupe.cli.summary import show_status
from codelupe.host.isolation import stdout_to_stderr
from codelupe.host.status_sections import StatusSection
from codelupe.views.pipeline import read_status


def status(
    config: ConfigFile = None,
    profile: Profile = None,
    as_json: AsJson = False,
    watch: Annotated[bool, typer.Option("--watch", help="Go on showing it, once a second, until Ctrl-C.")] = False,
) -> None:
    """Show what each subscription has done and has yet to do, and what came of it.

    What came of it is told by plugins. Where one fails, the rest is shown and a line says which plugin it was and why;
    with --json an object with the keys "plugin", "section" and "error" has its place.
    """

    async def show(session: Session) -> None:
        if watch:
            await _watch(session)
            return
        extensions = session.gather()
        with stdout_to_stderr():  # what a plugin prints is no data
            data = await read_status(session.database, extensions)
        if as_json:
            print_json(data)
        else:
            show_status(out, data, extensions.status_sections)

    with_session(config, profile, show)


async def _watch(session: Session) -> None:
    extensions = session.gather()
    with Live(console=out, refresh_per_second=4) as live:
        while True:
            status = await read_status(session.database, extensions)
            live.update(_picture(status, extensions.status_sections))
            await anyio.sleep(1)


def _picture(data: dict[str, Any], sections: Sequence[StatusSection]) -> Text:
    page = Console(width=out.width, force_terminal=out.is_terminal)
    with page.capture() as capture:
        show_status(page, data, sections)
    return Text.from_ansi(capture.get())
