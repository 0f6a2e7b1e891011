"""``codelupe run``: the daemon."""

from __future__ import annotations

import shutil
import time
from pathlib import Path
from typing import Annotated

import anyio
import typer

from codelupe.cli.live import watcher
from codelupe.cli.output import err, out
from codelupe.cli.session import ConfigFile, Profile, Setting, Setup, load, open_session, parse_overrides
from codelupe.cli.summary import show_summary
from codelupe.daemon import Daemon, Outcome
from codelupe.errors import MissingProgram
from codelupe.journal import configure_logging
from codelupe.status import read_status


def run(
    config: ConfigFile = None,
    profile: Profile = None,
    until_idle: Annotated[bool, typer.Option("--until-idle", help="End when there is nothing left to do.")] = False,
    source: Annotated[
        list[str] | None,
        typer.Option("--source", metavar="FOLDER_OR_URL", help="A folder or git URL to learn from too. Repeatable."),
    ] = None,
    settings: Setting = None,
) -> None:
    """Run the daemon: crawl, filter, clone, score, train.

    Ctrl-C or SIGTERM lets running work end and stops; a second one stops at once. Either way the next run goes on
    from there.
    """
    overrides = parse_overrides(settings or [])
    if source:
        crawler = overrides.setdefault("plugins", {}).setdefault("crawler", {})
        crawler["sources"] = [_existing(one) for one in source]
    configure_logging("warning" if err.is_terminal else "info", "auto")
    setup = load(config, profile, overrides)
    _configure_logging(setup)
    _require_git()
    began = time.monotonic()
    outcome = anyio.run(_run, setup, until_idle)
    if until_idle and not outcome.interrupted:
        anyio.run(_summarise, setup, time.monotonic() - began)
    if outcome.interrupted:
        err.print("Stopped. The next run goes on from here.")
    for job, error in outcome.failed_jobs.items():
        err.print(f"{job} failed: {error}", style="red", markup=False)
    raise typer.Exit(1 if outcome.failed_jobs else 0)


async def _run(setup: Setup, until_idle: bool) -> Outcome:
    daemon = Daemon(setup.settings, setup.host, until_idle=until_idle)
    return await daemon.run(watcher(err) if until_idle or err.is_terminal else None)


async def _summarise(setup: Setup, seconds: float) -> None:
    async with open_session(setup) as session:
        gathered = setup.host.gather(setup.settings.plugins, session.database, setup.directories)
        status = await read_status(session.database, [stage.name for stage in gathered.stages])
    show_summary(out, status, setup.directories, seconds)


def _configure_logging(setup: Setup) -> None:
    """On a terminal the live view shows what happens, so the log says only what went wrong."""
    level = setup.settings.log_level
    is_default = "log_level" not in setup.configuration.origins
    configure_logging("warning" if err.is_terminal and is_default else level, setup.settings.log_format)


def _require_git() -> None:
    if shutil.which("git") is None:
        raise MissingProgram("git is not in PATH", hint="Install it (Debian: apt-get install git) and start again.")


def _existing(source: str) -> str:
    """A folder as an absolute path, a URL as it is.

    Raises:
        typer.BadParameter: it is neither.
    """
    is_url = "://" in source or (":" in source and not Path(source).exists())
    if is_url:
        return source
    path = Path(source).expanduser()
    if not path.is_dir():
        raise typer.BadParameter(f"there is no folder {source}; name a folder or a git URL", param_hint="--source")
    return str(path.resolve())
