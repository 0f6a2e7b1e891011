"""``codelupe run``: the daemon."""

from __future__ import annotations

import faulthandler
import signal
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import anyio
import typer

from codelupe.cli.live import make_view
from codelupe.cli.output import StandardError, err, out
from codelupe.cli.overrides import parse_overrides
from codelupe.cli.plugins.pausing import describe_pause
from codelupe.cli.session import ConfigFile, Profile, Session, Setting, load
from codelupe.daemon import Daemon
from codelupe.errors import CheckFailed
from codelupe.host.host import Host
from codelupe.observability.logs import configure_logging

_PLACES = {"database_url", "state_dir", "repositories_dir", "models_dir"}


def run(
    config: ConfigFile = None,
    profile: Profile = None,
    until_idle: Annotated[bool, typer.Option("--until-idle", help="End when there is nothing left to do.")] = False,
    source: Annotated[
        list[str] | None,
        typer.Option("--source", metavar="FOLDER_OR_URL", help="A folder or git URL to learn from too. Repeatable."),
    ] = None,
    settings: Setting = None,
    safe_mode: Annotated[
        bool,
        typer.Option("--safe-mode", help="Run the built-in plugins alone, and leave out settings that are wrong."),
    ] = False,
) -> None:
    """Run the daemon: subscriptions, jobs and services of all plugins.

    Ctrl-C or SIGTERM lets running work end and stops; a second one stops at once. Either way the next run goes on
    from there. A terminal that is closed (SIGHUP) lets running work end, too; without a terminal, SIGHUP is refused.
    SIGQUIT prints what every thread is doing.
    """
    faulthandler.register(signal.SIGQUIT)
    StandardError.take_its_place()
    configure_logging("warning", "auto")
    session = load(
        config,
        profile,
        parse_overrides(settings or []),
        sources=[_existing(one) for one in source or []],
        lenient=safe_mode,
        built_in_only=safe_mode,
    )
    if safe_mode:
        session = _safe(session)
    is_watched = until_idle or err.is_terminal
    _configure_logging(session, is_watched=is_watched)
    _require_what_plugins_need(session.host)
    daemon = Daemon(session.settings, session.host, until_idle=until_idle)
    view = make_view(err, summary=out if until_idle else None) if is_watched else None
    outcome = anyio.run(daemon.run, view)
    if outcome.interrupted:
        err.print("Stopped. The next run goes on from here.")
    for job, error in outcome.failed_jobs.items():
        err.print(f"{job} failed: {error}", style="red", markup=False)
    if until_idle and not outcome.interrupted:
        for failure in outcome.failed_contributions.values():
            err.print(failure, style="red", markup=False, highlight=False, soft_wrap=True)
        for pause in outcome.pauses:
            err.print(
                f"{describe_pause(pause)}\n  {pause.hint}", style="red", markup=False, highlight=False, soft_wrap=True
            )
    is_done = not (outcome.failed_jobs or (until_idle and (outcome.pauses or outcome.failed_contributions)))
    raise typer.Exit(0 if is_done or outcome.interrupted else 1)


def _safe(session: Session) -> Session:
    """With the executor and the search index that need no other plugin; says which settings are left out.

    Raises:
        ConfigurationError: they say wrongly where the data lie, which the defaults do not say either.
    """
    configuration = session.configuration
    for problem in configuration.problems:
        if _PLACES.intersection(configuration.left_out):
            raise problem
        err.print(f"codelupe: {problem}", markup=False, highlight=False, soft_wrap=True)
    settings = configuration.settings.model_copy(update={"executor": "processes", "search_index": "postgres"})
    return replace(session, configuration=replace(configuration, settings=settings))


def _configure_logging(session: Session, *, is_watched: bool) -> None:
    """Beside a live view the log says only what goes wrong, unless settings ask for more."""
    is_default = "log_level" not in session.configuration.origins
    configure_logging(
        "warning" if is_watched and is_default else session.settings.log_level, session.settings.log_format
    )


def _require_what_plugins_need(host: Host) -> None:
    """Raises the first bad finding of a plugin's checks."""
    for finding in host.checks():
        if finding.verdict == "bad":
            raise CheckFailed(f"{finding.what}: {finding.detail}", hint=finding.hint)


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
